"""The rows of one commit, read from mapped shards: one as a view, many with one copy."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.schemas.array import ArraySpec
from shapestore.store.commit import Commit
from shapestore.store.layout import shard_path
from shapestore.store.rowcodec import CHECKSUM_BYTES
from shapestore.store.shard_cache import ShardCache
from shapestore.store.shard_map import Checksums, Memory, RowDamaged, ShardMap, ShardMismatch


class Rows:
    """Rows of the data arrays of `commit`, compared with their checksums as often as `checksums` asks for."""

    def __init__(self, commit: Commit, checksums: Checksums) -> None:
        self._commit = commit
        self._root = commit.root
        self._checksums: Checksums = checksums
        self.shards = ShardCache()

    def row(self, spec: ArraySpec, row: int, writable: bool = False) -> NDArray[Any]:
        """One row: a view where the array is mapped, a fresh array where it is packed.

        Parameters
        ----------
        spec, row
            The array, and the number of the row.
        writable
            Whether the array may be changed in place, in this process alone.

        Raises
        ------
        RowEmpty
            The row is quarantined.
        StoreDamaged, StoreChanged
            Its file is lost or damaged; a writer replaced it.
        IndexError, UsageError
            There is no such row; `row` is no number.
        """
        try:
            row = as_index(row)
        except TypeError:
            raise UsageError(
                f"{spec.name}: one row number is needed; gather several with store.read(rows, names)."
            ) from None
        if not 0 <= row < self._root.rows:
            raise IndexError(f"row {row} of {self._root.rows} in {self._commit.path}")
        if not self._commit.all_valid and not self._commit.index("valid")[row]:
            raise self._commit.why_empty(row)
        group, slot = divmod(row, self._root.rows_per_shard)
        shard = self.shard(spec.name, group)
        try:
            shard.check(slot, self._checksums)
            return shard.row(slot, writable)
        except RowDamaged as error:
            raise self._commit.mismatch(str(error), spec.name, range(row, row + 1)) from None

    def numbers(self, rows: Any) -> NDArray[np.int64]:
        """Row numbers as (n,) int64, all of rows that there are and that hold data.

        Raises
        ------
        RowEmpty
            A row is quarantined.
        IndexError, UsageError
            There is no such row; these are no row numbers.
        """
        chosen = np.asarray(rows)
        if chosen.size and chosen.dtype.kind not in "iu":
            raise UsageError(f"row numbers must be integers, not {chosen.dtype}; use np.flatnonzero for a mask.")
        chosen = chosen.astype(np.int64, copy=False).reshape(-1)
        # Seen as unsigned, a negative row is larger than any.
        if len(chosen) and chosen.view(np.uint64).max() >= self._root.rows:
            raise IndexError(f"rows {chosen.min()} to {chosen.max()} of {self._root.rows} in {self._commit.path}")
        if not self._commit.all_valid:
            valid = self._commit.index("valid")[chosen]
            if not valid.all():
                raise self._commit.why_empty(int(chosen[~valid][0]))
        return chosen

    def entries(self, at: Any, rows: int) -> NDArray[np.intp]:
        """Numbers of the entries to take of each of `rows` rows, as (rows, k) C-contiguous intp.

        Raises
        ------
        UsageError
            These are no numbers of entries of so many rows.
        """
        picks = np.asarray(at)
        if picks.ndim != 2 or len(picks) != rows or picks.dtype.kind not in "iu":
            raise UsageError(f"`at` must be whole numbers, ({rows}, k); it is {picks.dtype} {picks.shape}.")
        return np.ascontiguousarray(picks, np.intp)

    def gather(
        self,
        arrays: Sequence[tuple[ArraySpec, NDArray[Any]]],
        rows: NDArray[np.int64],
        at: NDArray[np.intp] | None = None,
    ) -> None:
        """Copy rows of arrays, or entries of them, into buffers.

        Parameters
        ----------
        arrays
            Each array with its buffer: (n, ...) C-contiguous, of the array's dtype. If the buffer's rows are shorter,
            they take the first entries.
        rows
            (n,) as `numbers` gives them.
        at
            (n, k) C-contiguous numbers of the entries to take of each row, all of entries that there are.
        """
        mapped = []
        for spec, out in arrays:
            if not out.size:
                continue
            if spec.kind == "mapped":
                mapped.append((spec, out))
                continue
            for position, row in enumerate(rows.tolist()):
                values = self.row(spec, row)
                if at is not None:
                    np.take(values, at[position], axis=0, out=out[position])
                else:
                    out[position] = values[: out.shape[1]] if out.ndim > 1 else values
        # A batch may touch more shards than can be mapped.
        for first in range(0, len(rows), self.shards.block):
            block = slice(first, first + self.shards.block)
            self._copy(mapped, rows[block], first, None if at is None else at[block])

    def shard(self, array: str, group: int) -> ShardMap:
        """The mapped shard of one row group, checked for identity, not row by row."""
        try:
            return self.shards.get(array, group, self._open_shard)
        except ShardMismatch as error:
            first = group * self._root.rows_per_shard
            rows = range(first, first + self._root.group_rows(group))
            raise self._commit.mismatch(str(error), array, rows) from None

    def check(self, array: str, row: int, checksums: Checksums) -> None:
        """Compare one stored row with its checksum, whether it holds data or not.

        Raises
        ------
        StoreDamaged, StoreChanged
            They differ, or the shard is lost or is not the committed one.
        """
        group, slot = divmod(row, self._root.rows_per_shard)
        try:
            self.shard(array, group).check(slot, checksums)
        except RowDamaged as error:
            raise self._commit.mismatch(str(error), array, range(row, row + 1)) from None

    def _copy(
        self,
        arrays: Sequence[tuple[ArraySpec, NDArray[Any]]],
        rows: NDArray[np.int64],
        first: int,
        at: NDArray[np.intp] | None,
    ) -> None:
        """Copy rows from the maps into buffers, beginning at row `first` of these."""
        from shapestore.store import gather

        groups, slots = np.divmod(rows, self._root.rows_per_shard)
        group_of = groups.tolist()
        positions = np.arange(first, first + len(rows), dtype=np.intp)
        for spec, out in arrays:
            # What is held here stays mapped until it is copied, though another thread may have given it up by then.
            held = {group: self.shard(spec.name, group) for group in set(group_of)}
            self._check_rows(spec, rows, held)
            starts = np.array([held[group].address for group in group_of], np.intp)
            sources = starts + slots * (spec.row_bytes + CHECKSUM_BYTES)
            size = out.nbytes // len(out)
            targets = out.ctypes.data + positions * size
            if at is None:
                gather.copy_rows(sources, targets, size)
            else:
                gather.copy_entries(sources, at, targets, size // at.shape[1])
            held.clear()  # before the next array holds as many

    def _check_rows(self, spec: ArraySpec, rows: NDArray[np.int64], held: dict[int, ShardMap]) -> None:
        """Compare rows with their checksums, each as often as it is asked for."""
        unchecked = {group for group, shard in held.items() if shard.unchecked(self._checksums)}
        if not unchecked:
            return
        for row in rows.tolist():
            group, slot = divmod(row, self._root.rows_per_shard)
            if group in unchecked:
                try:
                    held[group].check(slot, self._checksums)
                except RowDamaged as error:
                    raise self._commit.mismatch(str(error), spec.name, range(row, row + 1)) from None

    def _open_shard(self, array: str, group: int, known: Memory | None) -> ShardMap:
        spec = self._root.content.by_name[array]
        path = self._commit.path / shard_path(array, group, len(spec.shape))
        if not path.is_file() and path.exists():  # opening a pipe might never end
            raise ShardMismatch(f"{path}: is no regular file")
        return ShardMap(
            path,
            spec,
            self._commit.shard_entry(array, group),
            group * self._root.rows_per_shard,
            self._root.group_rows(group),
            self._root.rows_per_shard,
            known,
        )


def fitting_buffer(out: NDArray[Any] | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The buffer to fill: a new one, or the given one.

    Raises
    ------
    UsageError
        The given one does not fit exactly.
    """
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        kind = "C-contiguous and writable" if out.shape == shape and out.dtype == dtype else f"{dtype} {shape}"
        raise UsageError(f"{name}: the buffer must be {kind}; it is {out.dtype} {out.shape}")
    return out
