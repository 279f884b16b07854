"""`Store`: the reading side. Opening costs the same for ten rows as for ten million; nothing is mapped before use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import index as as_index
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import RowEmpty, StoreChanged, StoreDamaged, UsageError
from shapestore.schemas.array import ArraySpec
from shapestore.store.catalogue import LOG_COLUMNS
from shapestore.store.columns import Column
from shapestore.store.layout import ROOT, shard_path, work_folder
from shapestore.store.regular import read_regular
from shapestore.store.root import Root, parse_root, read_root
from shapestore.store.rowcodec import CHECKSUM_BYTES
from shapestore.store.shard import ShardEntry
from shapestore.store.shard_cache import ShardCache
from shapestore.store.shard_map import Checksums, Memory, RowDamaged, ShardMap, ShardMismatch
from shapestore.store.transaction import REDO

if TYPE_CHECKING:
    import torch
    import xarray

Rows = Sequence[int] | NDArray[np.integer[Any]]


def open_store(path: str | Path, checksums: Checksums = "first") -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path
        Folder of the store, such as `shapenet.zarr`.
    checksums
        When a row's crc32c is compared: `off`, when the row is `first` touched by this process, or `always`.

    Raises
    ------
    NotAStore
        The path is no store.
    NewerFormat
        The store is of a later format.
    StoreDamaged
        The store's metadata is damaged, or an array of it is missing.
    """
    if checksums not in get_args(Checksums):
        raise UsageError(f"checksums are {', '.join(get_args(Checksums))}, not {checksums!r}.")
    store = open_as_is(Path(path), checksums)
    for spec in store.root.content.data_arrays:
        if not (store.path / spec.name / ROOT).is_file():
            raise StoreDamaged(
                f"{store.path / spec.name / ROOT}: the array {spec.name} is missing. See all damage with: shapestore "
                f"validate {path}. Mend it with: shapestore repair {path}"
            )
    return store


def open_as_is(path: Path, checksums: Checksums = "first") -> Store:
    """Open a store whatever has become of its arrays, to look for damage; what is lost raises when it is read.

    Raises as `open_store`, but not for a missing array.
    """
    return Store(path, *read_root(path), checksums)


class Store:
    """One commit of a store, open for reading.

    A store can be forked, pickled and sent to other processes; each maps files of its own, and all read one commit.
    """

    def __init__(self, path: Path, root: Root, data: bytes, checksums: Checksums) -> None:
        self.path = path
        self.root = root
        """The commit: schema, recipe, counts."""
        self._data = data
        self._checksums: Checksums = checksums
        self._columns: dict[str, NDArray[Any]] = {}
        self._shards = ShardCache()
        self._declared = {column.path: column for column, _ in root.lengths()}
        self._all_valid = root.valid == root.rows

    def __len__(self) -> int:
        """Rows that hold data."""
        return self.root.valid

    def __contains__(self, name: object) -> bool:
        """Whether the store has an array of this name."""
        return name in self.root.content.by_name

    def __repr__(self) -> str:
        arrays = ", ".join(self.arrays)
        return f"<shapestore.Store {str(self.path)!r}: {len(self)} shapes, {arrays}>"

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of all arrays of the schema."""
        return tuple(self.root.content.by_name)

    def rows(self, **conditions: str | Sequence[str]) -> NDArray[np.int64]:
        """Rows that hold data and meet all conditions, ascending.

        Parameters
        ----------
        **conditions
            `split`, `category` or the name of a split set, each with a name or several to choose from. Other index
            arrays of strings, such as `group` and `source`, take exact values.

        Raises
        ------
        UsageError
            The store has no such index array, or no row ever had such a name: the names that exist are listed.
        """
        chosen = self.index("valid")
        for name, wanted in conditions.items():
            texts = [wanted] if isinstance(wanted, str) else wanted
            if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in texts):
                raise UsageError(f"{name}: a name or a list of names is needed, not {wanted!r}.")
            chosen = chosen & self._matches(name, list(texts))
        return np.flatnonzero(chosen)

    def row_of(self, shape_id: str) -> int:
        """The row of one shape.

        Raises
        ------
        UsageError
            There is no such shape.
        """
        row = self._row_by_id.get(shape_id)
        if row is None:
            from difflib import get_close_matches

            close = get_close_matches(shape_id, self._row_by_id, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" List them with: shapestore ls {self.path}"
            raise UsageError(f"{self.path} has no shape {shape_id!r}.{hint}")
        return row

    def index(self, name: str) -> NDArray[Any]:
        """All values of an index array, (rows, ...): read once, checked, read-only.

        Codes come as numbers; `names` says what they mean.
        """
        if name not in self._columns:
            column = self._declared.get(name)
            if column is None:
                known = ", ".join(self._declared)
                raise UsageError(f"{self.path} has no index array {name!r}. It has: {known}.")
            values = self._read_column(column)
            values.flags.writeable = False
            self._columns[name] = values
        return self._columns[name]

    def names(self, name: str) -> tuple[str, ...]:
        """What the codes 0, 1, ... of `split`, `category` or a split set mean."""
        if name not in self.root.codes:
            raise UsageError(f"{self.path}: {name!r} has no codes. These have: {', '.join(self.root.codes)}.")
        return self.root.codes[name]

    def __getitem__(self, name: str) -> ArrayView:
        """One array: `store["pc_xyz"][row]` is a read-only view on the mapped file."""
        return ArrayView(self, self._spec(name))

    def row(self, name: str, row: int) -> NDArray[Any]:
        """One row of one array, read-only: a view where the array is mapped, a fresh array where it is packed."""
        return self._row(self._spec(name), row)

    def tensor(self, name: str, row: int) -> torch.Tensor:
        """One row as a tensor over the same memory.

        An in-place change stays in this process (the map is private) and never reaches the file.
        """
        import torch

        return torch.from_numpy(self._row(self._spec(name), row, writable=True))

    def read(
        self,
        rows: Rows,
        names: Sequence[str],
        out: Mapping[str, NDArray[Any]] | None = None,
        first: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Gather rows of several arrays, with one copy.

        Parameters
        ----------
        rows
            (n,) row numbers in any order, repeats allowed.
        names
            Arrays and index arrays to gather. Strings and codes come as they are stored.
        out
            Buffers to fill, by name: C-contiguous, of the array's dtype, (n, ...) each. A new buffer costs more than
            the read: reuse them.
        first
            Take only this many leading entries of every row: a prefix of points. Index arrays come whole.

        Returns
        -------
        dict
            Name to (n, ...) array: the buffers of `out` where given.

        Raises
        ------
        RowEmpty
            A row is quarantined.
        StoreDamaged
            A file is missing or damaged.
        """
        if isinstance(names, str):
            raise UsageError(f"names are a list such as [{names!r}].")
        if out is not None and not set(out) <= set(names):
            raise UsageError(f"buffers for {', '.join(sorted(set(out) - set(names)))}, which are not read.")
        chosen = self._checked_rows(rows)
        return {name: self._gather(name, chosen, out.get(name) if out else None, first) for name in names}

    def to_xarray(self) -> xarray.Dataset:
        """All valid rows as a labelled dataset: one lazy dask chunk a shard, index arrays as coordinates."""
        from shapestore.store.xarray_view import dataset

        return dataset(self)

    def quarantine(self) -> Iterator[dict[str, str | int]]:
        """Every quarantined item: row, shape_id, reason, message, source, source_sha256, traceback."""
        names = [name for name in self._declared if name.startswith("quarantine/")] + ["provenance/traceback"]
        columns = [self.index(name).tolist() for name in names]
        for values in zip(*columns, strict=True):
            yield {name.rpartition("/")[2]: value for name, value in zip(names, values, strict=True)}

    def shard(self, array: str, group: int) -> ShardMap:
        """The mapped shard of one row group, checked for identity, not row by row."""
        try:
            return self._shards.get(array, group, self._open_shard)
        except ShardMismatch as error:
            raise self._explained(error, array, group) from None

    def check_row(self, array: str, row: int) -> None:
        """Compare one stored row with its checksum, whether it holds data or not.

        Raises
        ------
        StoreDamaged
            They differ, or the shard is lost or is not the committed one.
        """
        group, slot = divmod(row, self.root.rows_per_shard)
        shard = self.shard(array, group)
        try:
            shard.check(slot, "always")
        except RowDamaged as error:
            raise self._explained(error, array, group) from None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "data": self._data, "checksums": self._checksums}

    def __setstate__(self, state: dict[str, Any]) -> None:
        root = parse_root(state["data"], state["path"])
        Store.__init__(self, state["path"], root, state["data"], state["checksums"])

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        return {shape_id: row for row, shape_id in enumerate(self.index("shape_id").tolist())}

    def _spec(self, name: str) -> ArraySpec:
        spec = self.root.content.by_name.get(name)
        if spec is None or spec.kind == "index":
            instead = "is an index array: read it with store.index()" if name in self._declared else "does not exist"
            raise UsageError(f"{self.path}: array {name!r} {instead}. The store has: {', '.join(self.arrays)}.")
        return spec

    def _matches(self, name: str, wanted: list[str]) -> NDArray[np.bool_]:
        selectable = [c.path for c in self.root.row_columns if c.dtype == "string" or c.path in self.root.codes]
        if name not in selectable:
            raise UsageError(f"{self.path}: rows cannot be selected by {name!r}, only by {', '.join(selectable)}.")
        values = self.index(name)
        if name not in self.root.codes:
            return np.isin(values, np.array(wanted, dtype=object))
        names = self.root.codes[name]
        unknown = [text for text in wanted if text not in names]
        if unknown:
            raise UsageError(f"{self.path}: no {name} {unknown[0]!r}. It has: {', '.join(names) or 'none'}.")
        return np.isin(values, [names.index(text) for text in wanted])

    def _row(self, spec: ArraySpec, row: int, writable: bool = False) -> NDArray[Any]:
        try:
            row = as_index(row)
        except TypeError:
            raise UsageError(
                f"{spec.name}: one row number is needed; gather several with store.read(rows, names)."
            ) from None
        if not 0 <= row < self.root.rows:
            raise IndexError(f"row {row} of {self.root.rows} in {self.path}")
        if not self._all_valid and not self.index("valid")[row]:
            raise self._empty(row)
        group, slot = divmod(int(row), self.root.rows_per_shard)
        shard = self.shard(spec.name, group)
        try:
            shard.check(slot, self._checksums)
            return shard.row(slot, writable)
        except RowDamaged as error:
            raise self._explained(error, spec.name, group) from None

    def _checked_rows(self, rows: Rows) -> NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.size and chosen.dtype.kind not in "iu":
            raise UsageError(f"row numbers must be integers, not {chosen.dtype}; use np.flatnonzero for a mask.")
        chosen = chosen.astype(np.int64, copy=False).reshape(-1)
        # Seen as unsigned, a negative row is larger than any.
        if len(chosen) and chosen.view(np.uint64).max() >= self.root.rows:
            raise IndexError(f"rows {chosen.min()} to {chosen.max()} of {self.root.rows} in {self.path}")
        if not self._all_valid:
            valid = self.index("valid")[chosen]
            if not valid.all():
                raise self._empty(int(chosen[~valid][0]))
        return chosen

    def _gather(self, name: str, rows: NDArray[np.int64], out: NDArray[Any] | None, first: int | None) -> NDArray[Any]:
        if name in self._declared:
            values = self.index(name)
            out = _buffer(out, name, (len(rows), *values.shape[1:]), values.dtype)
            out[...] = values[rows]
            return out
        spec = self._spec(name)
        shape = spec.shape if first is None else (first, *spec.shape[1:])
        if first is not None and not 0 < first <= (spec.shape[0] if spec.shape else 0):
            raise UsageError(f"{name}: a row of shape {spec.shape} has no first {first} entries")
        out = _buffer(out, name, (len(rows), *shape), spec.numpy_dtype)
        if len(rows):
            (self._gather_mapped if spec.kind == "mapped" else self._gather_packed)(spec, rows, out)
        return out

    def _gather_mapped(self, spec: ArraySpec, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy from maps to buffer, a block of rows at a time: a batch may touch more shards than can be mapped."""
        size = out.nbytes // len(rows)
        block = self._shards.block
        targets = out.ctypes.data + size * np.arange(len(rows), dtype=np.intp)
        for start in range(0, len(rows), block):
            self._copy_block(spec, rows[start : start + block], targets[start : start + block], size)

    def _copy_block(self, spec: ArraySpec, rows: NDArray[np.int64], targets: NDArray[np.intp], size: int) -> None:
        from shapestore.store.gather import copy_rows

        groups, slots = np.divmod(rows, self.root.rows_per_shard)
        with self._shards.lock:
            addresses = self._shards.addresses(spec.name, self.root.row_groups)
            while not (files := addresses[groups]).all():  # mapping one may take the place of another
                for group in np.unique(groups[files == 0]).tolist():
                    self.shard(spec.name, group)
            # Another thread may give up these maps while we copy from them.
            held = [self._shards.maps[spec.name, group] for group in set(groups.tolist())]
        if self._checksums != "off":
            for group, slot in zip(groups.tolist(), slots.tolist(), strict=True):
                self._check(self.shard(spec.name, group), slot, spec.name, group)
        copy_rows(files + slots * (spec.row_bytes + CHECKSUM_BYTES), targets, size)
        del held

    def _gather_packed(self, spec: ArraySpec, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        for position, row in enumerate(rows.tolist()):
            out[position] = self._row(spec, row)[: out.shape[1]] if out.ndim > 1 else self._row(spec, row)

    def _check(self, shard: ShardMap, slot: int, array: str, group: int) -> None:
        try:
            shard.check(slot, self._checksums)
        except RowDamaged as error:
            raise self._explained(error, array, group) from None

    def _open_shard(self, array: str, group: int, known: Memory | None) -> ShardMap:
        spec = self.root.content.by_name[array]
        path = self.path / shard_path(array, group, len(spec.shape))
        if not path.is_file() and path.exists():  # opening a pipe might never end
            raise ShardMismatch(f"{path}: is no regular file")
        return ShardMap(
            path,
            spec,
            self._entry(array, group),
            group * self.root.rows_per_shard,
            self.root.group_rows(group),
            self.root.rows_per_shard,
            known,
        )

    def _entry(self, array: str, group: int) -> ShardEntry:
        size, sha256 = self.root.integrity_columns
        position = size.attributes["arrays"].index(array)
        digest = bytes(self.index(sha256.path)[group, position]).hex()
        return ShardEntry(size=int(self.index(size.path)[group, position]), sha256=digest)

    def _read_column(self, column: Column) -> NDArray[Any]:
        length = self.root.column_lengths[column.path]
        expected = self.root.chunks.get(column.path)
        parts = []
        for chunk in range(-(-length // column.chunk_rows)):
            rows = min(column.chunk_rows, length - chunk * column.chunk_rows)
            file = self.path / column.chunk_path(chunk)
            try:
                part = column.decode(read_regular(file, column.most_bytes), rows)
                if expected is not None and column.digest(part) != expected[chunk]:
                    raise ValueError("it is not the one that was committed")
            except (OSError, ValueError) as error:
                self._raise_if_changed()
                reason = error.strerror if isinstance(error, OSError) else error
                raise StoreDamaged(f"{file} is lost or damaged: {reason}. {self._remedy}") from None
            parts.append(part)
        # Joined when all are there: memory is taken for files, not for the length that a root declares.
        values = np.concatenate([column.empty(0), *parts])
        if expected is None and column not in LOG_COLUMNS:
            self._raise_if_written_over()
        return values

    def _explained(self, error: ShardMismatch | RowDamaged, array: str, group: int) -> StoreChanged | StoreDamaged:
        """What a mismatch means: that a writer changed the store since it was opened, or that a file is damaged."""
        try:
            self._raise_if_changed()
        except StoreChanged as changed:
            return changed
        first = group * self.root.rows_per_shard
        rows = range(first, first + self.root.group_rows(group))
        where = f"{array}, rows {rows[0]} to {rows[-1]}"
        if isinstance(error, RowDamaged):
            rows = range(first + error.slot, first + error.slot + 1)
            where = f"{array}, row {rows[0]}"
        return StoreDamaged(f"{error} ({where})", array, rows, self._remedy)

    def _raise_if_written_over(self) -> None:
        """Raise where provenance may be that of a later commit: it has no digests that would tell.

        It is of this commit if no row was written since but new ones: then the shards and the quarantine, which have
        digests, are still the same.
        """
        self._raise_if_changing()
        if (self.path / ROOT).read_bytes() == self._data:
            return
        for name in ("integrity/sha256", "quarantine/row", "quarantine/source_sha256", "quarantine/message"):
            self._read_column(self._declared[name])

    def _raise_if_changed(self) -> None:
        self._raise_if_changing()
        if read_root(self.path)[1] != self._data:
            raise StoreChanged(f"{self.path} was changed by a writer since it was opened. Open it again.")

    def _raise_if_changing(self) -> None:
        if (work_folder(self.path) / REDO).exists():
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

    def _empty(self, row: int) -> RowEmpty:
        for item in self.quarantine():
            if item["row"] == row:
                why = f"its input is quarantined: {item['reason']}: {item['message']}"
                remedy = "Choose rows with store.rows(), which leaves such rows out."
                return RowEmpty(f"row {row} ({item['shape_id']}) of {self.path} is empty: {why}. {remedy}")
        return RowEmpty(f"row {row} of {self.path} is empty")


def _buffer(out: NDArray[Any] | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The buffer to fill: a new one, or the given one if it fits exactly."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        kind = "C-contiguous and writable" if out.shape == shape and out.dtype == dtype else f"{dtype} {shape}"
        raise UsageError(f"{name}: the buffer must be {kind}; it is {out.dtype} {out.shape}")
    return out


class ArrayView:
    """One array of a store, row by row."""

    def __init__(self, store: Store, spec: ArraySpec) -> None:
        self._store = store
        self.spec = spec
        """What the array is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with all rows, empty ones included."""
        return (self._store.root.rows, *self.spec.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""
        return self.spec.numpy_dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions, the row's included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One row, read-only: a view on the mapped file, or a fresh array where the array is packed."""
        return self._store._row(self.spec, row)

    def __repr__(self) -> str:
        return f"<{self.spec.name}: {self.spec.dtype} {self.shape}, {self.spec.kind}, {self.spec.long_name}>"
