"""One memory-mapped shard: rows as views on the map, checked against what the commit promises of the file."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import ShapestoreError
from shapestore.schemas.array import ArraySpec
from shapestore.store.rowcodec import CHECKSUM_BYTES, checksum_holds, unpack_row
from shapestore.store.shard import EMPTY, ShardEntry, index_bytes, parse_index, shard_digest

Checksums = Literal["off", "first", "always"]
"""When the checksum of a row is compared: never, when it is first touched, or at every touch."""

Fingerprint = tuple[int, int, int]
"""Inode, modification time and size: a file that was replaced has another."""

Memory = tuple[Fingerprint, bytearray]
"""A checked file's fingerprint, and which of its rows were checked."""


class ShardMismatch(ShapestoreError):
    """A file is not the shard that the commit names: the store was changed, or it is damaged."""


class RowDamaged(ShapestoreError):
    """A row does not match its checksum."""

    def __init__(self, message: str, slot: int) -> None:
        super().__init__(message, slot)
        self.slot = slot
        """The row, counted within the shard."""

    def __str__(self) -> str:
        return str(self.args[0])


class ShardMap:
    """A shard file of `spec`, mapped private and copy-on-write, so that nothing written to a view reaches the file.

    Mapping reads the file's index and the four checksum bytes of every row, and no row.

    Parameters
    ----------
    path, spec, entry
        The file, the array that it belongs to, and what the commit says of it.
    first_row, rows, rows_per_shard
        The file's first row in the store, its rows, and the rows that it has room for.
    known
        What an earlier map of the same file already found out, by `memory`.

    Raises
    ------
    ShardMismatch
        The file is missing, or is not the one that `entry` describes.
    """

    def __init__(
        self,
        path: Path,
        spec: ArraySpec,
        entry: ShardEntry,
        first_row: int,
        rows: int,
        rows_per_shard: int,
        known: Memory | None = None,
    ) -> None:
        self.spec = spec
        self.path = path
        self.buffer, fingerprint = _map(path, entry.size)
        try:
            self._index = parse_index(self.buffer, rows_per_shard)
        except ValueError as error:
            raise ShardMismatch(f"{path}: {error}") from None
        seen = known[1] if known is not None and known[0] == fingerprint else None
        if seen is None:
            self._check_identity(entry, first_row, rows, rows_per_shard)
            seen = bytearray(rows)
        self._seen = seen
        self.memory: Memory = (fingerprint, seen)
        """What need not be found out again when the same file is mapped again."""
        self.offsets: list[int] = self._index[:rows, 0].tolist()
        """Where each row starts in the file."""
        self.sizes: list[int] = self._index[:rows, 1].tolist()
        """Bytes of each row in the file, checksum included."""
        self.address: int = np.frombuffer(self.buffer, np.uint8).ctypes.data
        """Where the file starts in this process's memory, while the map lives."""
        self.bytes = memoryview(self.buffer)
        """The whole file; never written to."""
        # Views are made by the million: what is the same for all rows is looked up once.
        self._shape, self._dtype, self._packed = spec.shape, spec.numpy_dtype, spec.kind == "packed"

    def chunk(self, slot: int) -> memoryview:
        """The bytes of one row as they lie in the file, checksum included."""
        offset = self.offsets[slot]
        return self.bytes[offset : offset + self.sizes[slot]]

    def unchecked(self, checksums: Checksums) -> bool:
        """Whether `check` would compare any row."""
        return checksums == "always" or (checksums == "first" and 0 in self._seen)

    def check(self, slot: int, checksums: Checksums) -> None:
        """Compare a row with its checksum, as often as `checksums` asks for.

        Raises
        ------
        RowDamaged
            They differ.
        """
        if checksums == "off" or (checksums == "first" and self._seen[slot]):
            return
        if not checksum_holds(self.chunk(slot)):
            raise RowDamaged(f"{self.path}: row {slot} of the shard does not match its checksum", slot)
        self._seen[slot] = 1

    def row(self, slot: int, writable: bool = False) -> NDArray[Any]:
        """One row: a view on the map for a mapped array, a fresh array for a packed one."""
        if self._packed:
            try:
                unpacked = unpack_row(self.spec, self.chunk(slot))
                return unpacked.copy() if writable else unpacked
            except ValueError as error:
                raise RowDamaged(f"{self.path}: row {slot} of the shard cannot be unpacked: {error}", slot) from None
        view: NDArray[Any] = np.ndarray(self._shape, self._dtype, self.buffer, self.offsets[slot])
        if not writable:
            view.flags.writeable = False
        return view

    def _check_identity(self, entry: ShardEntry, first_row: int, rows: int, rows_per_shard: int) -> None:
        """The file is the one of this array and row group that was committed, by its checksums alone."""
        index = self._index
        held = index[:, 0] != EMPTY
        if not held[:rows].all() or held[rows:].any():
            raise ShardMismatch(f"{self.path}: holds {int(held.sum())} rows where the commit has {rows}")
        stride = self.spec.row_bytes + CHECKSUM_BYTES
        back_to_back = np.stack([np.arange(rows) * stride, np.full(rows, stride)], axis=1)
        fits = self.spec.kind == "packed" or np.array_equal(index[:rows], back_to_back)
        ends = (index[:rows, 0] + index[:rows, 1] - np.uint64(CHECKSUM_BYTES)).astype(np.int64)
        whole = np.frombuffer(self.buffer, np.uint8)
        checksums = whole[ends[:, np.newaxis] + np.arange(CHECKSUM_BYTES)].copy().view("<u4").reshape(-1)
        tail = bytes(whole[len(whole) - index_bytes(rows_per_shard) :])
        if not fits or shard_digest(self.spec.name, first_row, checksums, tail) != entry.sha256:
            raise ShardMismatch(f"{self.path}: is not the file that was committed")


def _map(path: Path, size: int) -> tuple[mmap.mmap, Fingerprint]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise ShardMismatch(f"{path}: the file is missing") from None
    try:
        status = os.fstat(descriptor)
        if status.st_size != size:
            raise ShardMismatch(f"{path}: has {status.st_size} bytes where the commit has {size}")
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY), (status.st_ino, status.st_mtime_ns, size)
    finally:
        os.close(descriptor)
