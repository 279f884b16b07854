"""`StoreWriter`: takes finished row groups and commits them. One process at a time; readers never wait for it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from shapestore.errors import NotAStore, StoreDamaged
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.store.catalogue import LOG_COLUMNS, NO_CODE, PROVENANCE_COLUMNS, QUARANTINE_COLUMNS
from shapestore.store.column_buffer import ColumnBuffer, Values
from shapestore.store.columns import Column
from shapestore.store.durable import sync_folder, write_synced
from shapestore.store.entries import GroupCommit, RowEntry
from shapestore.store.layout import INTEGRITY, PROVENANCE, shard_path, work_folder
from shapestore.store.log import require_log
from shapestore.store.root import Root, node_bytes, read_root
from shapestore.store.shard import ShardEntry
from shapestore.store.steps import reached
from shapestore.store.transaction import Transaction, recover

CREATING = "creating"
"""Mark in the work folder that what lies at the store's path was begun by us, and may be begun anew."""


class StoreWriter:
    """The writing side of one store; the caller holds a `WriterLock`."""

    def __init__(self, path: Path, root: Root) -> None:
        self.path = path
        self.root = root
        """The last commit."""
        self._members: dict[str, dict[str, Any]] = root.members() if (path / "zarr.json").exists() else {}
        self._buffer = ColumnBuffer(path, root.column_lengths if self._members else {}, root.chunks)
        self._commits, self._runs, self._validation = self._read_log()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store for writing, after finishing what a killed writer left half done."""
        recover(path)
        writer = cls(path, read_root(path)[0])
        (work_folder(path) / CREATING).unlink(missing_ok=True)  # killed right after the commit that made the store
        writer._take_what_is_there()
        return writer

    @classmethod
    def create(cls, path: Path, recipe: Recipe, source_kind: str) -> Self:
        """Commit an empty store of `recipe` at a path where there is none.

        Raises
        ------
        NotAStore
            Something else lies at the path.
        """
        begun = work_folder(path) / CREATING
        if begun.exists():
            shutil.rmtree(path, ignore_errors=True)  # what a killed writer began to make here
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise NotAStore(f"{path} exists, but is no shapestore store. Choose another path.")
        write_synced(begun, b"")
        sync_folder(begun.parent)
        reached("creation begun")
        path.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent)
        reached("store folder made")
        content = schema_of(recipe)
        root = Root(
            schema=content,
            recipe=recipe,
            recipe_digest=recipe.digest,
            source_kind=source_kind,
            rows_per_shard=content.rows_per_shard(),
        )
        writer = cls(path, root)
        writer.commit(root, [])
        begun.unlink()
        reached("store created")
        return writer

    def column(self, path: str) -> Values:
        """All committed values of an index array."""
        column, length = next((c, n) for c, n in self.root.lengths() if c.path == path)
        return self._buffer.read(column, length)

    def shards(self, group: int) -> dict[str, ShardEntry]:
        """Size and digest of every committed shard of one row group."""
        size, sha256 = self.root.integrity_columns
        sizes, digests = self._buffer.value(size, group), self._buffer.value(sha256, group)
        names: list[str] = size.attributes["arrays"]
        return {name: ShardEntry(size=int(sizes[i]), sha256=bytes(digests[i]).hex()) for i, name in enumerate(names)}

    def empty_rows(self, group: int) -> tuple[int, ...]:
        """Committed rows of one row group that hold no data."""
        first = group * self.root.rows_per_shard
        valid = self.column("valid")[first : first + self.root.group_rows(group)]
        return tuple((first + np.flatnonzero(~valid)).tolist())

    def with_codes(self, codes: Mapping[str, Iterable[str]]) -> Root:
        """The root with new names appended to its codes, sorted among themselves; to be committed with the rows."""
        merged = dict(self.root.codes)
        for column, names in codes.items():
            merged[column] = (*merged[column], *sorted(set(names) - {*merged[column], ""}))
        return self.root.model_copy(update={"codes": merged})

    def log_run(self, run: Mapping[str, Any]) -> int:
        """Keep what is to be known of a run of the program, in the place of what was logged of it before.

        Returns
        -------
        int
            The number of the run, which never changes.
        """
        logged = [known.get("started") for known in self._runs]  # tells runs apart: one at a time may write
        number = logged.index(run["started"]) if run["started"] in logged else len(logged)
        self._runs[number : number + 1] = [dict(run)]
        return number

    def log_validation(self, validation: Mapping[str, Any]) -> None:
        """Keep what a validation found, in the place of what an earlier one did."""
        self._validation = dict(validation)

    def commit(self, root: Root, groups: Sequence[GroupCommit], columns: Mapping[str, Values] | None = None) -> Root:
        """Make row groups, whole columns and all that `root` says visible to readers, at once.

        Parameters
        ----------
        root
            The root to be; its counts and digests are filled in here.
        groups
            New or changed row groups; new ones follow the last committed row without a gap.
        columns
            Values of new or rewritten index arrays at the root, by name: (rows,) each.

        Returns
        -------
        Root
            The root that was committed.
        """
        entries = {row: entry for group in groups for row, entry in group.rows.items()}
        committed = self.root.rows
        changed = [row for row in entries if row < committed]
        arrays_before = self.root.integrity_columns[0].attributes["arrays"]
        replaces = bool(changed or columns) or any(group.staged for group in groups)
        replaces |= bool(self._members) and arrays_before != root.integrity_columns[0].attributes["arrays"]

        valid = root.valid + sum(entry.failure is None for entry in entries.values())
        if changed:
            valid -= int(np.count_nonzero(self.column("valid")[changed]))
        quarantined = self._put_quarantine(entries, changed)
        rows = max([committed, *(row + 1 for row in entries)])
        counted = root.model_dump(by_alias=True) | {"rows": rows, "valid": valid, "quarantined": quarantined}
        root = Root.model_validate(counted)

        self._put_rows(root, entries)
        self._put_integrity(root, groups)
        for name, values in (columns or {}).items():
            self._buffer.replace(next(column for column in root.row_columns if column.path == name), values)
        self._put_log()
        root = self._with_digests(root)
        self._write(root, groups, replaces)
        return root

    def _put_quarantine(self, entries: Mapping[int, RowEntry], changed: Sequence[int]) -> int:
        """Replace what is quarantined of the given rows; returns the new number of items, which lie in row order."""
        failed = [entries[row] for row in sorted(entries) if entries[row].failure is not None]
        if not changed:
            for column in QUARANTINE_COLUMNS:
                self._buffer.put(column, self.root.quarantined, _quarantine_values(column, failed))
            return self.root.quarantined + len(failed)
        kept = ~np.isin(self.column(QUARANTINE_COLUMNS[0].path), changed)
        merged = [
            (column, np.concatenate([self.column(column.path)[kept], _quarantine_values(column, failed)]))
            for column in QUARANTINE_COLUMNS
        ]
        order = np.argsort(merged[0][1], kind="stable")
        for column, values in merged:
            self._buffer.replace(column, values[order])
        return len(order)

    def _put_rows(self, root: Root, entries: Mapping[int, RowEntry]) -> None:
        for run in _runs(sorted(entries)):
            chosen = [entries[row] for row in run]
            for column in (*root.row_columns, *PROVENANCE_COLUMNS):
                values = _row_values(column, root, chosen)
                if column.path in root.codes and column.path != "category":
                    self._keep_split(column, run, values)
                self._buffer.put(column, run[0], values)

    def _keep_split(self, column: Column, rows: Sequence[int], values: Values) -> None:
        """A row that is computed once more stays in the parts that it was given since."""
        for position, row in enumerate(rows):
            if row < self.root.rows and column.path in self.root.codes:
                values[position] = self._buffer.value(column, row)

    def _put_integrity(self, root: Root, groups: Sequence[GroupCommit]) -> None:
        size, sha256 = root.integrity_columns
        names: list[str] = size.attributes["arrays"]
        if names != self.root.integrity_columns[0].attributes["arrays"]:
            self._add_integrity_arrays(root)
        for group in groups:
            for column, value in ((size, _size), (sha256, _sha256)):
                row = self._buffer.value(column, group.group)
                for name, entry in group.shards.items():
                    row[names.index(name)] = value(entry)
                self._buffer.put(column, group.group, row[np.newaxis])

    def _add_integrity_arrays(self, root: Root) -> None:
        """Widen the integrity arrays for arrays that the schema did not have."""
        for before, after in zip(self.root.integrity_columns, root.integrity_columns, strict=True):
            held, names = self.column(before.path), after.attributes["arrays"]
            widened = after.empty(len(held))
            widened[:, [names.index(name) for name in before.attributes["arrays"]]] = held
            self._buffer.replace(after, widened)

    def _take_what_is_there(self) -> None:
        """A killed writer may have left metadata and chunks of a commit that never was: see them, or drop them."""
        for path in self._members:
            try:
                self._members[path] = json.loads((self.path / path / "zarr.json").read_bytes())
            except (OSError, ValueError):
                self._members[path] = {}
        self._remove_beyond()

    def _remove_beyond(self) -> None:
        """Delete chunks that no committed value lies in, such as those of a quarantine that was emptied."""
        for column, length in self.root.lengths():
            chunk = -(-length // column.chunk_rows)
            while (file := self.path / column.chunk_path(chunk)).exists():
                file.unlink()
                reached("chunk removed")
                chunk += 1

    def _put_log(self) -> None:
        self._commits += 1
        commit, *texts = LOG_COLUMNS
        self._buffer.put(commit, 0, np.array([self._commits]))
        for column, value in zip(texts, (self._runs, self._validation), strict=True):
            self._buffer.put(column, 0, np.array([json.dumps(value, ensure_ascii=False)], dtype=object))

    def _with_digests(self, root: Root) -> Root:
        """Fill in the digests of touched chunks; `provenance` is not part of what a commit promises."""
        chunks = {
            column.path: list(root.chunks.get(column.path, ()))[: -(-length // column.chunk_rows)]
            for column, length in root.lengths()
            if not column.path.startswith(PROVENANCE)
        }
        for column, chunk, values in self._buffer.pending():
            rows = root.column_lengths[column.path] - chunk * column.chunk_rows
            if column.path not in chunks or rows <= 0:
                continue
            known = chunks[column.path]
            known[chunk:] = [column.digest(values[:rows]), *known[chunk + 1 :]]
        integrity = "".join(each for path, known in chunks.items() if path.startswith(INTEGRITY) for each in known)
        return root.model_copy(
            update={
                "chunks": {path: tuple(known) for path, known in chunks.items()},
                "integrity": hashlib.sha256(integrity.encode()).hexdigest(),
            }
        )

    def _write(self, root: Root, groups: Sequence[GroupCommit], replaces: bool) -> None:
        transaction = Transaction(self.path)
        dims = {spec.name: len(spec.shape) for spec in root.content.data_arrays}
        for group in groups:
            for name, staged in group.staged.items():
                transaction.stage_file(shard_path(name, group.group, dims[name]), staged)
        for column, chunk, values in self._buffer.pending():
            if chunk * column.chunk_rows < root.column_lengths[column.path]:
                transaction.stage(column.chunk_path(chunk), column.encode(values))
        members = root.members()
        for path, metadata in members.items():
            if self._members.get(path) != metadata:
                transaction.stage(f"{path}/zarr.json", node_bytes(metadata))
        transaction.commit(root.to_bytes(), replaces)
        self.root, self._members = root, members
        self._buffer.settle(root.column_lengths, root.chunks)
        self._remove_beyond()

    def _read_log(self) -> tuple[int, list[dict[str, Any]], dict[str, Any] | None]:
        """Number of commits, runs so far, and the last validation."""
        commit, runs, validation = LOG_COLUMNS
        return (
            int(self._logged(commit, 0)),
            json.loads(self._logged(runs, "[]")),
            json.loads(self._logged(validation, "null")),
        )

    def _logged(self, column: Column, unknown: Any) -> Any:
        """A value of the history; `unknown` where there is none, or it is damaged, which must stop no repair."""
        if self._members:
            with suppress(StoreDamaged, ValueError):
                values = self.column(column.path)
                require_log(column.path, values)
                return values[0]
        return unknown


def _size(entry: ShardEntry) -> int:
    return entry.size


def _sha256(entry: ShardEntry) -> Values:
    return np.frombuffer(bytes.fromhex(entry.sha256), np.uint8)


def _runs(rows: Sequence[int]) -> Iterable[Sequence[int]]:
    """Split sorted rows into runs without a gap."""
    breaks = [i for i in range(1, len(rows)) if rows[i] != rows[i - 1] + 1]
    for start, end in zip([0, *breaks], [*breaks, len(rows)], strict=True):
        if start < end:
            yield rows[start:end]


def _row_values(column: Column, root: Root, entries: Sequence[RowEntry]) -> Values:
    """Values of one index array for consecutive rows."""
    name = column.path.rpartition("/")[2]
    if name == "valid":
        found: list[Any] = [entry.failure is None for entry in entries]
    elif name in ("split", "category"):
        code = {text: number for number, text in enumerate(root.codes[name])} | {"": NO_CODE}
        found = [code[getattr(entry, name)] for entry in entries]
    elif name == "notes":
        found = ["\n".join(entry.notes) for entry in entries]
    elif name in RowEntry.model_fields:
        found = [getattr(entry, name) for entry in entries]
    else:
        found = [entry.declared.get(name, column.fill) for entry in entries]
    values = column.empty(len(entries))
    values[:] = found
    return values


def _quarantine_values(column: Column, entries: Sequence[RowEntry]) -> Values:
    name = column.path.rpartition("/")[2]
    values = column.empty(len(entries))
    values[:] = [getattr(entry if name in RowEntry.model_fields else entry.failure, name) for entry in entries]
    return values
