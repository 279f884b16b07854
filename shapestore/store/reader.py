"""`Store`: the reading side. Opening costs the same for ten rows as for ten million; nothing is mapped before use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import StoreDamaged, UsageError
from shapestore.schemas.array import ArraySpec
from shapestore.store.array_view import ArrayView
from shapestore.store.commit import Commit
from shapestore.store.layout import ROOT
from shapestore.store.root import Root, parse_root, read_root
from shapestore.store.rows import Rows, fitting_buffer
from shapestore.store.shard_map import Checksums, ShardMap

if TYPE_CHECKING:
    import torch
    import xarray

RowNumbers = Sequence[int] | NDArray[np.integer[Any]]


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
        self._checksums: Checksums = checksums
        self._commit = Commit(path, root, data)
        self._rows = Rows(self._commit, checksums)

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
        return self._commit.index(name)

    def names(self, name: str) -> tuple[str, ...]:
        """What the codes 0, 1, ... of `split`, `category` or a split set mean."""
        if name not in self.root.codes:
            raise UsageError(f"{self.path}: {name!r} has no codes. These have: {', '.join(self.root.codes)}.")
        return self.root.codes[name]

    def __getitem__(self, name: str) -> ArrayView:
        """One array: `store["pc_xyz"][row]` is a read-only view on the mapped file."""
        return ArrayView(self._rows, self._spec(name), self.root.rows)

    def row(self, name: str, row: int) -> NDArray[Any]:
        """One row of one array, read-only: a view where the array is mapped, a fresh array where it is packed."""
        return self._rows.row(self._spec(name), row)

    def tensor(self, name: str, row: int) -> torch.Tensor:
        """One row as a tensor over the same memory.

        An in-place change stays in this process (the map is private) and never reaches the file.
        """
        import torch

        return torch.from_numpy(self._rows.row(self._spec(name), row, writable=True))

    def read(
        self,
        rows: RowNumbers,
        names: Sequence[str],
        out: Mapping[str, NDArray[Any]] | None = None,
        first: int | None = None,
        at: NDArray[np.integer[Any]] | None = None,
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
        at
            (n, k) entries to take of each row, repeats allowed: points drawn from a pool. Index arrays come whole.

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
        IndexError
            There is no such row, or no such entry in a row.
        """
        if isinstance(names, str):
            raise UsageError(f"names are a list such as [{names!r}].")
        if first is not None and at is not None:
            raise UsageError("either the first entries of a row are read, or those that `at` names.")
        if out is not None and not set(out) <= set(names):
            raise UsageError(f"buffers for {', '.join(sorted(set(out) - set(names)))}, which are not read.")
        chosen = self._rows.numbers(rows)
        picks = None if at is None else self._rows.entries(at, len(chosen))
        # Seen as unsigned, a negative number is larger than any.
        most = int(picks.view(np.uintp).max(initial=0)) if picks is not None else 0
        found, gathered = {}, []
        for name in names:
            buffer = None if out is None else out.get(name)
            if name in self._commit.columns:
                values = self.index(name)
                found[name] = fitting_buffer(buffer, name, (len(chosen), *values.shape[1:]), values.dtype)
                found[name][...] = values[chosen]
                continue
            spec = self._spec(name)
            entries = spec.shape[0] if spec.shape else 0
            if first is not None and not 0 < first <= entries:
                raise UsageError(f"{name}: a row of shape {spec.shape} has no first {first} entries")
            if picks is not None and picks.size and most >= entries:
                raise IndexError(f"{name}: entries {picks.min()} to {picks.max()} of a row of shape {spec.shape}")
            count = first if picks is None else picks.shape[1]
            shape = spec.shape if count is None else (count, *spec.shape[1:])
            found[name] = fitting_buffer(buffer, name, (len(chosen), *shape), spec.numpy_dtype)
            gathered.append((spec, found[name]))
        self._rows.gather(gathered, chosen, picks)
        return found

    def to_xarray(self) -> xarray.Dataset:
        """All valid rows as a labelled dataset: one lazy dask chunk a shard, index arrays as coordinates."""
        from shapestore.store.xarray_view import dataset

        return dataset(self)

    def quarantine(self) -> Iterator[dict[str, str | int]]:
        """Every quarantined item: row, shape_id, reason, message, source, source_sha256, traceback."""
        return self._commit.quarantine()

    def shard(self, array: str, group: int) -> ShardMap:
        """The mapped shard of one row group, checked for identity, not row by row."""
        return self._rows.shard(array, group)

    def check_row(self, array: str, row: int) -> None:
        """Compare one stored row with its checksum, whether it holds data or not.

        Raises
        ------
        StoreDamaged
            They differ, or the shard is lost or is not the committed one.
        """
        self._rows.check(array, row, "always")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "data": self._commit.data, "checksums": self._checksums}

    def __setstate__(self, state: dict[str, Any]) -> None:
        root = parse_root(state["data"], state["path"])
        Store.__init__(self, state["path"], root, state["data"], state["checksums"])

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        return {shape_id: row for row, shape_id in enumerate(self.index("shape_id").tolist())}

    def _spec(self, name: str) -> ArraySpec:
        spec = self.root.content.by_name.get(name)
        if spec is None or spec.kind == "index":
            instead = (
                "is an index array: read it with store.index()" if name in self._commit.columns else "does not exist"
            )
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
            divide = f"No shape has one: shapestore split {self.path} {name} --parts train=0.8,val=0.1,test=0.1"
            known = f"It has: {', '.join(names)}." if names else divide
            raise UsageError(f"{self.path}: no {name} {unknown[0]!r}. {known}")
        return np.isin(values, [names.index(text) for text in wanted])
