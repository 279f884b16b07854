"""Everything that is damaged in a store whose root can be read: what `validate` reports, and `repair` mends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapestore.errors import StoreDamaged
from shapestore.store.columns import Column
from shapestore.store.index_chunk import read_chunk
from shapestore.store.layout import ROOT
from shapestore.store.log import require_log
from shapestore.store.reader import Store
from shapestore.store.regular import read_regular
from shapestore.store.root import MAX_ROOT_BYTES, Root
from shapestore.store.rowcodec import checksum_holds


@dataclass(frozen=True)
class DamagedNode:
    """The metadata of an array or group that is not what the root says of it."""

    path: str
    """The array or group."""
    problem: str

    @property
    def file(self) -> str:
        """The file, relative to the store."""
        return f"{self.path}/{ROOT}"


@dataclass(frozen=True)
class DamagedChunk:
    """A chunk of an index array that is not the committed one."""

    column: Column
    chunk: int
    rows: int
    """Committed values of the chunk."""
    problem: str

    @property
    def file(self) -> str:
        """The file, relative to the store."""
        return self.column.chunk_path(self.chunk)

    @property
    def values(self) -> range:
        """Positions of its values in the array."""
        first = self.chunk * self.column.chunk_rows
        return range(first, first + self.rows)


def damaged_nodes(path: Path, root: Root) -> Iterator[DamagedNode]:
    """Every array and group whose own metadata is not what the root says of it."""
    for name, expected in root.members().items():
        try:
            found: Any = json.loads(read_regular(path / name / ROOT, MAX_ROOT_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            yield DamagedNode(name, "the metadata file is missing")
        except (OSError, ValueError) as error:
            yield DamagedNode(name, f"the metadata file cannot be read: {error}")
        else:
            if found != expected:
                yield DamagedNode(name, "the metadata differs from what the root says")


def damaged_chunks(path: Path, root: Root) -> Iterator[DamagedChunk]:
    """Every chunk of an index array that is lost, damaged, or not the committed one."""
    for column, length in root.lengths():
        digests = root.chunks.get(column.path)
        for chunk in range(-(-length // column.chunk_rows)):
            rows = min(column.chunk_rows, length - chunk * column.chunk_rows)
            try:
                values = read_chunk(
                    path / column.chunk_path(chunk), column, rows, digests[chunk] if digests is not None else None
                )
                require_log(column.path, values)
            except ValueError as error:
                yield DamagedChunk(column, chunk, rows, str(error))


def readable(store: Store, names: Iterable[str]) -> bool:
    """Whether all of some index arrays are whole."""
    try:
        for name in names:
            store.index(name)
    except StoreDamaged:
        return False
    return True


def damaged_shards(store: Store, group: int, deep: bool) -> Iterator[StoreDamaged]:
    """Every shard of one row group that is not the committed one, and every row that does not match its checksum.

    Parameters
    ----------
    store, group
        The store, and the number of the row group.
    deep
        Also compare every row with its checksum, empty ones included: reads every byte once. Otherwise only sizes,
        indices and digests over the rows' checksums are compared, which reads a few bytes a row.

    Yields
    ------
    StoreDamaged
        With its array and rows: the whole group's, or a single one.
    """
    first, rows = group * store.root.rows_per_shard, store.root.group_rows(group)
    for spec in store.root.content.data_arrays:
        try:
            shard = store.shard(spec.name, group)
        except StoreDamaged as error:
            yield error
            continue
        for slot in range(rows if deep else 0):
            if not checksum_holds(shard.chunk(slot)):
                try:
                    store.check_row(spec.name, first + slot)
                except StoreDamaged as error:
                    yield error
