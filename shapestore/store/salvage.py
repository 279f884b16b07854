"""What can be proven of a damaged shard without its source.

The commit keeps a sha256 over the array's name, the first row, the rows' checksums and the index: not over the rows. So
the values of those that give the committed sha256 are the committed ones, wherever they were found: in the file, or
computed from what the file holds. Each row is then proven, or lost, by its own committed checksum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec
from shapestore.store.regular import read_regular
from shapestore.store.rowcodec import CHECKSUM_BYTES, checksum_holds, crc32c
from shapestore.store.shard import EMPTY, ShardEntry, parse_index, shard_digest

NO_ROWS: Final[Mapping[int, bytes]] = MappingProxyType({})

MOST_TRIALS: Final = 1024
"""Combinations of checksums that are tried: ten rows that each may be damaged in its values or in its checksum."""

ZSTD_MAGIC: Final = (0xFD2FB528).to_bytes(4, "little")
RUN_LENGTH_BLOCK: Final = 1
"""Type of a zstd block that is one byte, repeated."""

MOST_BYTES: Final = 2**31
"""Largest file that is read: far more than a shard and what may have been appended to it."""


@dataclass(frozen=True)
class Salvaged:
    """What is proven of one shard file."""

    rows: Sequence[bytes | None]
    """Every row with its checksum, as committed; None where it is lost."""
    index: bytes | None
    """The committed index with its checksum; None where nothing is proven, so that all rows are lost."""
    doubtful: tuple[int, ...] = ()
    """Where nothing is proven: rows that do not match their own checksums. If those were known, the others might be."""

    @property
    def lost(self) -> tuple[int, ...]:
        """Rows that are lost, counted within the shard."""
        return tuple(slot for slot, chunk in enumerate(self.rows) if chunk is None)

    def chunk(self, slot: int) -> bytes:
        """One row with its checksum; nothing, which no checksum fits, where it is lost."""
        return self.rows[slot] or b""

    def whole(self) -> bytes | None:
        """The file as it was committed; None if a row is lost."""
        return None if self.index is None or self.lost else b"".join([*(row or b"" for row in self.rows), self.index])


def salvage(
    path: Path,
    spec: ArraySpec,
    entry: ShardEntry,
    first_row: int,
    rows: int,
    rows_per_shard: int,
    known: Mapping[int, bytes] = NO_ROWS,
) -> Salvaged:
    """Prove what there is of a shard file that is lost, damaged, or not the committed one.

    Parameters
    ----------
    path, spec, entry
        The file, the array that it belongs to, and what the commit says of it.
    first_row, rows, rows_per_shard
        The file's first row in the store, its rows, and the rows that it has room for.
    known
        What rows may have held, with their checksums, by their place in the shard: fill where there is no data, or what
        was computed from the source.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except (OSError, ValueError):
        data = b""
    if spec.kind == "mapped":
        index: NDArray[np.uint64] | None = _regular_index(spec, rows)
    else:
        index = _stored_index(data, rows_per_shard, rows)
        index = _found_index(data, rows, known) if index is None else index
    if index is None:
        return Salvaged([None] * rows, None)
    found = [_candidates(data, offset, size, known.get(slot)) for slot, (offset, size) in enumerate(index.tolist())]
    tail = _index_bytes(index, rows_per_shard)
    doubtful = tuple(slot for slot, chunks in enumerate(found) if not any(map(checksum_holds, chunks[:1])))
    trials = [list(dict.fromkeys(chunk[-CHECKSUM_BYTES:] for chunk in chunks)) for chunks in found]
    for chosen in product(*trials) if prod(map(len, trials)) <= MOST_TRIALS else ():
        checksums = np.frombuffer(b"".join(chosen), "<u4")
        if shard_digest(spec.name, first_row, checksums, tail) == entry.sha256:
            return Salvaged([_proven(each, checksum) for each, checksum in zip(found, chosen, strict=True)], tail)
    return Salvaged([None] * rows, None, doubtful)


def entry_of(path: Path, spec: ArraySpec, first_row: int, rows: int, rows_per_shard: int) -> ShardEntry:
    """What a commit would say of the shard file that lies there.

    Parameters
    ----------
    path, spec
        The file, and the array that it belongs to.
    first_row, rows, rows_per_shard
        The file's first row in the store, its rows, and the rows that it has room for.

    Raises
    ------
    ValueError
        It is no shard of the array.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise ValueError(error.strerror) from None
    index = _regular_index(spec, rows) if spec.kind == "mapped" else _stored_index(data, rows_per_shard, rows)
    tail = b"" if index is None else _index_bytes(index, rows_per_shard)
    if index is None or len(data) != index.sum(axis=1).max() + len(tail):
        raise ValueError("its index or its size is not that of a shard")
    ends = index.sum(axis=1).astype(np.int64)
    checksums = data[ends[:, np.newaxis] - CHECKSUM_BYTES + np.arange(CHECKSUM_BYTES)].view("<u4").reshape(-1)
    return ShardEntry(size=len(data), sha256=shard_digest(spec.name, first_row, checksums, tail))


def _candidates(data: bytes, offset: int, size: int, known: bytes | None) -> list[bytes]:
    """What a row may have been: as it is stored, its values with the checksum that fits them, and what is known of it.

    Each ends in a checksum that may be the committed one; the values before it need not fit it.
    """
    stored = data[offset : offset + size]
    chunks = [stored] if len(stored) == size else []
    body = stored[: size - CHECKSUM_BYTES]
    if len(body) == size - CHECKSUM_BYTES and not (chunks and checksum_holds(stored)):
        chunks.append(body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little"))
    if known is not None and len(known) == size:
        chunks.append(known)
    return chunks


def _proven(chunks: Sequence[bytes], checksum: bytes) -> bytes | None:
    """The values that fit the committed checksum."""
    return next((chunk for chunk in chunks if chunk.endswith(checksum) and checksum_holds(chunk)), None)


def _stored_index(data: bytes | NDArray[np.uint8], rows_per_shard: int, rows: int) -> NDArray[np.uint64] | None:
    """(rows, 2) offsets and sizes as the file has them; None where they are damaged, or not those of this shard."""
    try:
        index = parse_index(data, rows_per_shard)
    except ValueError:
        return None
    held = index[:, 0] != EMPTY
    if not held[:rows].all() or held[rows:].any():
        return None
    return index[:rows]


def _regular_index(spec: ArraySpec, rows: int) -> NDArray[np.uint64]:
    """(rows, 2) offsets and sizes of a mapped array's rows, which all take the same room."""
    stride = spec.row_bytes + CHECKSUM_BYTES
    return np.stack([np.arange(rows) * stride, np.full(rows, stride)], axis=1).astype(np.uint64)


def _found_index(data: bytes, rows: int, known: Mapping[int, bytes]) -> NDArray[np.uint64] | None:
    """(rows, 2) offsets and sizes of a packed array's rows, each as long as its zstd frame says."""
    spans: list[tuple[int, int]] = []
    start = 0
    for slot in range(rows):
        size = _frame_bytes(data, start) + CHECKSUM_BYTES
        if not checksum_holds(data[start : start + size]):
            if slot not in known:
                return None
            size = len(known[slot])
        spans.append((start, size))
        start += size
    return np.array(spans, np.uint64).reshape(-1, 2)


def _frame_bytes(data: bytes, start: int) -> int:
    """Bytes of the zstd frame that starts here, by the headers of its blocks (RFC 8878, 3.1.1); 0 if there is none."""
    if data[start : start + 4] != ZSTD_MAGIC or start + 5 > len(data):
        return 0
    flags = data[start + 4]
    single_segment = bool(flags & 0x20)
    content_size = (int(single_segment), 2, 4, 8)[flags >> 6]
    end = start + 5 + (not single_segment) + (0, 1, 2, 4)[flags & 0x03] + content_size
    last = False
    while not last and end < len(data):
        header = int.from_bytes(data[end : end + 3], "little")
        last = bool(header & 1)
        end += 3 + (1 if header >> 1 & 3 == RUN_LENGTH_BLOCK else header >> 3)
    return end - start + (4 if flags & 0x04 else 0)


def _index_bytes(index: NDArray[np.uint64], rows_per_shard: int) -> bytes:
    whole = np.full((rows_per_shard, 2), EMPTY, "<u8")
    whole[: len(index)] = index
    body = whole.tobytes()
    return body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little")
