"""The writer's view of all index arrays: committed chunks from disk, what is about to be committed laid over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import StoreDamaged
from shapestore.store.columns import Column
from shapestore.store.index_chunk import read_chunk

Values = NDArray[Any]


class ColumnBuffer:
    """Chunks of index arrays between two commits.

    Only touched chunks and the last chunk of each array stay in memory, so an append costs the same in a small and in a
    large store. A chunk that is read is compared with its committed digest: what was damaged, or is older than the
    commit, would else get the digest of a new one.
    """

    def __init__(self, store: Path, lengths: Mapping[str, int], digests: Mapping[str, Sequence[str]]) -> None:
        self._store = store
        self._lengths = dict(lengths)
        self._digests = digests
        self._committed: dict[tuple[str, int], Values] = {}
        self._pending: dict[tuple[str, int], tuple[Column, Values]] = {}

    def read(self, column: Column, length: int) -> Values:
        """The first `length` values, pending ones included."""
        parts = [self._chunk(column, chunk) for chunk in range(-(-length // column.chunk_rows))]
        return np.concatenate(parts)[:length] if parts else column.empty(0)

    def value(self, column: Column, row: int) -> Values:
        """One value, pending or committed; fill where there is none yet. A copy of its own."""
        chunk = self._chunk(column, row // column.chunk_rows)
        position = row % column.chunk_rows
        held = chunk[position : position + 1].copy()
        value: Values = held[0] if len(held) else column.empty(1)[0]
        return value

    def put(self, column: Column, first: int, values: Values) -> None:
        """Set values from row `first` on; the rest of the touched chunks is kept."""
        end = first + len(values)
        for chunk in range(first // column.chunk_rows, -(-end // column.chunk_rows)):
            start = chunk * column.chunk_rows
            low, high = max(first, start), min(end, start + column.chunk_rows)
            held = self._chunk(column, chunk)
            grown = column.empty(max(len(held), high - start))
            grown[: len(held)] = held
            grown[low - start : high - start] = values[low - first : high - first]
            self._pending[column.path, chunk] = (column, grown)

    def replace(self, column: Column, values: Values) -> None:
        """Set all values of an array, whose shape and attributes may be new."""
        self._lengths[column.path] = 0
        for key in [key for key in (*self._pending, *self._committed) if key[0] == column.path]:
            self._pending.pop(key, None)
            self._committed.pop(key, None)
        self.put(column, 0, values)

    def pending(self) -> Iterator[tuple[Column, int, Values]]:
        """Every touched chunk, in a fixed order: (array, number of the chunk, its first values)."""
        for (_, chunk), (column, values) in sorted(self._pending.items(), key=lambda item: item[0]):
            yield column, chunk, values

    def settle(self, lengths: Mapping[str, int], digests: Mapping[str, Sequence[str]]) -> None:
        """Take what was pending as committed, and forget all but the last chunk of each array."""
        self._lengths = dict(lengths)
        self._digests = digests
        self._committed = {
            (path, chunk): values[: lengths[path] - chunk * column.chunk_rows]
            for (path, chunk), (column, values) in self._pending.items()
            if chunk == (lengths[path] - 1) // column.chunk_rows
        }
        self._pending.clear()

    def _chunk(self, column: Column, chunk: int) -> Values:
        """The values of one chunk: pending, or else the committed ones."""
        key = (column.path, chunk)
        if key in self._pending:
            return self._pending[key][1]
        rows = min(column.chunk_rows, self._lengths.get(column.path, 0) - chunk * column.chunk_rows)
        if rows <= 0:
            return column.empty(0)
        if key not in self._committed:
            file = self._store / column.chunk_path(chunk)
            digests = self._digests.get(column.path)
            try:
                self._committed[key] = read_chunk(file, column, rows, digests[chunk] if digests else None)
            except ValueError as error:
                raise StoreDamaged(
                    f"{file} is lost or damaged: {error}. Mend it with: shapestore repair {self._store}"
                ) from None
        return self._committed[key]
