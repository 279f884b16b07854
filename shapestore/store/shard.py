"""The shard file: rows back to back, each with its checksum, then the index (Zarr v3 `sharding_indexed`).

The index holds (offset, size) of every row as little-endian uint64, 2^64 - 1 twice where a row does not exist yet, and
its own crc32c. `ShardWriter` makes such a file row by row; `shard_digest` is its identity, taken from checksums alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.schemas.base import Strict
from shapestore.store.rowcodec import CHECKSUM_BYTES, crc32c

EMPTY = np.uint64(2**64 - 1)
"""Offset and size of a row that a shard does not hold."""

WRITE_BYTES = 2 * 2**20
"""Bytes that are handed to the system at once: it then caches the file in large pages, and rows are copied 1.2x faster
from a map of it than if it was written row by row (measured on ext4, Linux 6.18)."""


class ShardEntry(Strict):
    """What a commit promises of one shard file."""

    size: int
    """Bytes of the file."""
    sha256: str
    """`shard_digest`, in hexadecimal."""


def index_bytes(rows_per_shard: int) -> int:
    """Size of a shard's index with its checksum."""
    return 16 * rows_per_shard + CHECKSUM_BYTES


def shard_digest(array: str, first_row: int, checksums: NDArray[np.uint32], index: bytes) -> str:
    """Sha256 over the array's name, its first row, every row's crc32c and the index: what the file is, and whose."""
    hashed = hashlib.sha256(f"{array}\0{first_row}\0".encode())
    hashed.update(checksums.astype("<u4").tobytes())
    hashed.update(index)
    return hashed.hexdigest()


class ShardWriter:
    """Writes one shard from already encoded rows; holds one row in memory, not the shard."""

    def __init__(self, path: Path, array: str, first_row: int, rows_per_shard: int) -> None:
        self._file = path.open("wb", WRITE_BYTES)
        self._array, self._first_row = array, first_row
        self._index: NDArray[np.uint64] = np.full((rows_per_shard, 2), EMPTY, dtype="<u8")
        self._checksums: list[int] = []
        self._offset = 0

    def append(self, chunk: bytes | memoryview) -> None:
        """Write the next row: an inner chunk that ends in its checksum."""
        self._file.write(chunk)
        self._index[len(self._checksums)] = self._offset, len(chunk)
        self._checksums.append(int.from_bytes(chunk[-CHECKSUM_BYTES:], "little"))
        self._offset += len(chunk)

    def finish(self) -> ShardEntry:
        """Write the index and wait until the file's content is on disk."""
        body = self._index.tobytes()
        index = body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little")
        self._file.write(index)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sha256 = shard_digest(self._array, self._first_row, np.array(self._checksums, np.uint32), index)
        return ShardEntry(size=self._offset + len(index), sha256=sha256)

    def close(self) -> None:
        """Give up the file, finished or not."""
        self._file.close()


def parse_index(data: Any, rows_per_shard: int) -> NDArray[np.uint64]:
    """(rows_per_shard, 2) offsets and sizes from the bytes of a whole shard.

    Raises
    ------
    ValueError
        The file is too short for an index, the index is damaged, or it points outside the file.
    """
    view = memoryview(data)
    size = index_bytes(rows_per_shard)
    if len(view) < size:
        raise ValueError(f"{len(view)} bytes are too few for its index of {size}")
    tail = view[len(view) - size :]
    body, checksum = tail[:-CHECKSUM_BYTES], int.from_bytes(tail[-CHECKSUM_BYTES:], "little")
    if crc32c(body) != checksum:
        raise ValueError("its index does not match the index's checksum")
    index = np.frombuffer(body, "<u8").reshape(rows_per_shard, 2)
    held = index[index[:, 0] != EMPTY]
    ends = held.sum(axis=1)
    if len(held) and (held.max() > len(view) or ends.max() > len(view) - size or held[:, 1].min() < CHECKSUM_BYTES):
        raise ValueError("its index points outside the file")
    return index
