"""One commit of a store: its root, its index arrays, and whether a writer has changed the store since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import RowEmpty, StoreChanged, StoreDamaged, UsageError
from shapestore.store.catalogue import LOG_COLUMNS
from shapestore.store.columns import Column
from shapestore.store.index_chunk import read_chunk
from shapestore.store.layout import ROOT
from shapestore.store.root import Root, read_root
from shapestore.store.shard import ShardEntry
from shapestore.store.transaction import is_pending


class Commit:
    """One commit of the store at `path`: `root` is the meaning of `data`, the bytes of its root file."""

    def __init__(self, path: Path, root: Root, data: bytes) -> None:
        self.path = path
        self.root = root
        self.data = data
        self.all_valid = root.valid == root.rows
        """Whether every row holds data."""
        self.columns = {column.path: column for column, _ in root.lengths()}
        """Index arrays by their path."""
        self._values: dict[str, NDArray[Any]] = {}

    def index(self, name: str) -> NDArray[Any]:
        """All values of an index array, (rows, ...): read once, checked, read-only.

        Raises
        ------
        UsageError
            There is no such index array.
        StoreDamaged, StoreChanged
            A file of it is lost or damaged; a writer replaced it.
        """
        if name not in self._values:
            column = self.columns.get(name)
            if column is None:
                raise UsageError(f"{self.path} has no index array {name!r}. It has: {', '.join(self.columns)}.")
            values = self._read(column)
            values.flags.writeable = False
            self._values[name] = values
        return self._values[name]

    def shard_entry(self, array: str, group: int) -> ShardEntry:
        """What the commit says of the shard of one array and row group."""
        size, sha256 = self.root.integrity_columns
        position = size.attributes["arrays"].index(array)
        digest = bytes(self.index(sha256.path)[group, position]).hex()
        return ShardEntry(size=int(self.index(size.path)[group, position]), sha256=digest)

    def quarantine(self) -> Iterator[dict[str, str | int]]:
        """Every quarantined item: row, shape_id, reason, message, source, source_sha256, traceback."""
        names = [name for name in self.columns if name.startswith("quarantine/")] + ["provenance/traceback"]
        columns = [self.index(name).tolist() for name in names]
        for values in zip(*columns, strict=True):
            yield {name.rpartition("/")[2]: value for name, value in zip(names, values, strict=True)}

    def why_empty(self, row: int) -> RowEmpty:
        """The error for a row that holds no data: says why it is quarantined."""
        for item in self.quarantine():
            if item["row"] == row:
                why = f"its input is quarantined: {item['reason']}: {item['message']}"
                remedy = "Choose rows with store.rows(), which leaves such rows out."
                return RowEmpty(f"row {row} ({item['shape_id']}) of {self.path} is empty: {why}. {remedy}")
        return RowEmpty(f"row {row} of {self.path} is empty")

    def mismatch(self, problem: str, array: str, rows: range) -> StoreChanged | StoreDamaged:
        """The error for data that are not the committed ones: a writer changed the store since, or it is damaged."""
        try:
            self._raise_if_changed()
        except StoreChanged as changed:
            return changed
        where = f"rows {rows[0]} to {rows[-1]}" if len(rows) > 1 else f"row {rows[0]}"
        return StoreDamaged(f"{problem} ({array}, {where})", array, rows, self._remedy)

    def _read(self, column: Column) -> NDArray[Any]:
        length = self.root.column_lengths[column.path]
        digests = self.root.chunks.get(column.path)
        parts = []
        for chunk in range(-(-length // column.chunk_rows)):
            rows = min(column.chunk_rows, length - chunk * column.chunk_rows)
            file = self.path / column.chunk_path(chunk)
            try:
                parts.append(read_chunk(file, column, rows, digests[chunk] if digests is not None else None))
            except ValueError as error:
                self._raise_if_changed()
                raise StoreDamaged(f"{file} is lost or damaged: {error}. {self._remedy}") from None
        # Joined when all are there: memory is taken for files, not for the length that a root declares.
        values = np.concatenate([column.empty(0), *parts])
        if digests is None and column not in LOG_COLUMNS:
            self._raise_if_written_over()
        return values

    def _raise_if_written_over(self) -> None:
        """Raise where provenance may be that of a later commit: it has no digests that would tell.

        It is of this commit if no row was written since but new ones: then the shards and the quarantine, which have
        digests, are still the same.
        """
        self._raise_if_changing()
        if (self.path / ROOT).read_bytes() == self.data:
            return
        for name in ("integrity/sha256", "quarantine/row", "quarantine/source_sha256", "quarantine/message"):
            self._read(self.columns[name])

    def _raise_if_changed(self) -> None:
        self._raise_if_changing()
        if read_root(self.path)[1] != self.data:
            raise StoreChanged(f"{self.path} was changed by a writer since it was opened. Open it again.")

    def _raise_if_changing(self) -> None:
        if is_pending(self.path):
            raise StoreChanged(
                f"{self.path} is being changed by a writer, or was when that was killed. Open it again in a moment; if "
                "that does not help, run the command that was writing once more."
            )

    @property
    def _remedy(self) -> str:
        return (
            f"See all damage with: shapestore validate {self.path}. Mend it with: shapestore repair {self.path}, or "
            "bring the file back from a copy."
        )
