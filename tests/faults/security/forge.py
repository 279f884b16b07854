"""Stores that somebody made to do harm: every checksum and signature in them is right, for these are no secret."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd
from numpy.typing import NDArray

from shapestore.schemas.base import digest
from shapestore.store.columns import Column
from shapestore.store.layout import shard_path
from shapestore.store.root import KEY, node_bytes, read_root
from shapestore.store.rowcodec import crc32c
from shapestore.store.shard import ShardWriter

Own = dict[str, Any]
"""What lies under the root attribute `shapestore`."""


def copy_of(store: Path, path: Path) -> Path:
    """A copy to do harm in."""
    shutil.copytree(store, path)
    return path


def sign(document: dict[str, Any]) -> bytes:
    """A root with the sha256 of its content."""
    own = document["attributes"][KEY]
    own.pop("sha256", None)
    own["sha256"] = digest(document)
    return json.dumps(document).encode()


def forge_root(path: Path, change: Callable[[Own], object]) -> None:
    """Change what the root says, and sign it."""
    file = path / "zarr.json"
    document = json.loads(file.read_bytes())
    change(document["attributes"][KEY])
    file.write_bytes(sign(document))


def forge_members(path: Path) -> None:
    """Write the metadata of all arrays anew, as the root says it."""
    for member, metadata in read_root(path)[0].members().items():
        (path / member / "zarr.json").write_bytes(node_bytes(metadata))


def column_of(path: Path, name: str) -> Column:
    return next(column for column, _ in read_root(path)[0].lengths() if column.path == name)


def forge_column(path: Path, name: str, change: Callable[[NDArray[Any]], object]) -> None:
    """Change the values of an index array in place, with its digest."""
    root = read_root(path)[0]
    column = column_of(path, name)
    file = path / column.chunk_path(0)
    values = column.decode(file.read_bytes(), root.column_lengths[name]).copy()
    change(values)
    file.write_bytes(column.encode(values))
    if name in root.chunks:
        forge_root(path, lambda own: own["chunks"].update({name: [column.digest(values)]}))


def forge_text(path: Path, name: str, text: str) -> None:
    """Put one text into all rows of an index array of strings; ids stay different from each other."""

    def change(values: NDArray[Any]) -> None:
        values[:] = [f"{text}{row}" if name == "shape_id" else text for row in range(len(values))]

    forge_column(path, name, change)


def chunk_bytes(body: bytes) -> bytes:
    """The file of a chunk, whatever it holds, with its checksum."""
    return body + crc32c(body).to_bytes(4, "little")


def forge_row(path: Path, array: str, row: int, body: bytes) -> None:
    """Put any bytes in the place of one encoded row, with all checksums and digests."""
    root = read_root(path)[0]
    group, slot = divmod(row, root.rows_per_shard)
    file = path / shard_path(array, group, len(root.content.by_name[array].shape))
    data, rows = file.read_bytes(), root.group_rows(group)
    index = np.frombuffer(data[-16 * root.rows_per_shard - 4 : -4], "<u8").reshape(-1, 2)[:rows].tolist()
    chunks = [data[offset : offset + size] for offset, size in index]
    chunks[slot] = chunk_bytes(body)
    writer = ShardWriter(file, array, group * root.rows_per_shard, root.rows_per_shard)
    for chunk in chunks:
        writer.append(chunk)
    entry = writer.finish()
    position = root.integrity_columns[0].attributes["arrays"].index(array)

    def put(value: object) -> Callable[[NDArray[Any]], None]:
        def change(values: NDArray[Any]) -> None:
            values[group, position] = value

        return change

    forge_column(path, "integrity/size", put(entry.size))
    forge_column(path, "integrity/sha256", put(np.frombuffer(bytes.fromhex(entry.sha256), np.uint8)))


def bomb(declared: int, real: int = 0) -> bytes:
    """A zstd frame that declares a size in its header, and holds `real` zeros."""
    held = zstd.compress(bytes(real), 1)
    flags = held[4]
    header = 5 + (1 - (flags >> 5 & 1)) + {0: flags >> 5 & 1, 1: 2, 2: 4, 3: 8}[flags >> 6]
    return held[:4] + bytes([0xE0]) + declared.to_bytes(8, "little") + held[header:]


def array_of(own: Own, name: str) -> dict[str, Any]:
    """The declaration of one array in a root."""

    def found(node: Any) -> dict[str, Any] | None:
        if isinstance(node, dict):
            if node.get("name") == name and "long_name" in node:
                return node
            node = list(node.values())
        if isinstance(node, list):
            return next(filter(None, map(found, node)), None)
        return None

    spec = found(own["schema"])
    assert spec is not None, name
    return spec


def log(path: Path, name: str, text: str) -> None:
    """Put a text in the place of `provenance/runs` or `provenance/validation`."""
    forge_column(path, f"provenance/{name}", lambda values: values.__setitem__(0, text))
