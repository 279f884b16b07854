"""Export: one npz a shape, for programs that read no Zarr. The same rows give the same bytes."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from shapestore.errors import UsageError
from shapestore.schemas.families import SdfSamples
from shapestore.schemas.record import ShapeId
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.reader import RowNumbers, Store

WITHOUT_SPLIT: Final = "all"
"""Folder of the shapes that have no split."""

ROW_VALUES: Final = ("shape_id", "split", "category", "source", "shift", "scale")
"""What every file says of its shape, beside the arrays."""

_WRITING: Final = ".writing.npz"
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_READABLE: Final = 0o644 << 16


def export_npz(store: Store, out: Path, rows: RowNumbers | None = None, names: Sequence[str] | None = None) -> int:
    """Write every shape to `<out>/<split>/<shape_id>.npz`, uncompressed; `all` stands for no split.

    A file holds the arrays by their names in the store, and the shape's `shape_id`, `split`, `category`, `source`
    (strings), `shift` (3,) and `scale` (float64), as arrays that are read without pickle. Samples that are filled in
    part are cut to their count, which is left out.

    Parameters
    ----------
    store
        The store to read.
    out
        New or empty folder.
    rows
        RowNumbers to export, each once; None: all that hold data.
    names
        Arrays to export; None: all.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    UsageError
        `out` is not empty, there is no such array, an id or a split cannot be the name of a file, or two shapes would
        have one.
    RowEmpty
        A row is quarantined.
    StoreDamaged
        A row cannot be read; files of the rows before it are left.
    """
    chosen = np.unique(store.rows() if rows is None else np.asarray(rows, np.int64))
    wanted = _names(store, names)
    described = _described(store, chosen)
    files = _files(described)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder. Export to a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    counts = _counts(store.root.content)
    for row, values, file in zip(chosen.tolist(), described, files, strict=True):
        target = out / file
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_npz(out / _WRITING, dict(_arrays(store, row, wanted, counts)) | values)
        (out / _WRITING).replace(target)
    return len(files)


def _names(store: Store, names: Sequence[str] | None) -> tuple[str, ...]:
    """The arrays to export, in the order of the schema."""
    if names is None:
        counts = set(_counts(store.root.content).values())
        return tuple(name for name in store.arrays if name not in counts)
    unknown = [name for name in names if name not in store.arrays]
    if unknown:
        raise UsageError(f"{store.path} has no array {unknown[0]!r}. It has: {', '.join(store.arrays)}.")
    return tuple(name for name in store.arrays if name in names)


def _counts(schema: StoreSchema) -> Mapping[str, str]:
    """Array that may be filled in part, to the index array that says how far."""
    return {
        spec.name: family.count.name
        for family in schema.families
        if isinstance(family, SdfSamples) and family.count is not None
        for spec in family.arrays()
        if spec != family.count
    }


def _described(store: Store, rows: NDArray[np.int64]) -> list[dict[str, NDArray[Any]]]:
    """What every file says of its shape, each value an array of its own."""
    columns = store.read(rows, ROW_VALUES)
    for name in ROW_VALUES:
        if name in store.root.codes:
            # Code -1, no name, picks the last.
            columns[name] = np.array([*store.names(name), ""], dtype=object)[columns[name]]
    return [{name: _plain(columns[name][i]) for name in ROW_VALUES} for i in range(len(rows))]


def _plain(value: Any) -> NDArray[Any]:
    """A value as an array; a string as one of fixed width, which needs no pickle."""
    return np.array(value, dtype=np.str_) if isinstance(value, str) else np.asarray(value)


def _files(described: Sequence[Mapping[str, NDArray[Any]]]) -> list[str]:
    """Path of every file below the folder, each once; a store from elsewhere must not write anywhere else."""
    files = []
    for values in described:
        split, shape_id = values["split"].item() or WITHOUT_SPLIT, values["shape_id"].item()
        try:
            TypeAdapter(ShapeId).validate_python(shape_id)
            TypeAdapter(ShapeId).validate_python(split)
        except ValidationError:
            raise UsageError(f"{shape_id!r} of split {split!r} cannot be a path. Export other rows.") from None
        if "/" in split:
            raise UsageError(f"split {split!r} cannot be the name of a folder. Export other rows.")
        files.append(f"{split}/{shape_id}.npz")
    counts = Counter(files)
    if twice := [file for file in files if counts[file] > 1]:
        raise UsageError(f"{twice[0]} would have to hold {counts[twice[0]]} shapes. Export other rows.")
    folders = {str(folder) for file in files for folder in PurePosixPath(file).parents}
    if both := sorted(folders.intersection(files)):
        raise UsageError(f"{both[0]} would have to be a file and a folder. Export the shapes to folders of their own.")
    return files


def _arrays(
    store: Store, row: int, names: Sequence[str], counts: Mapping[str, str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in names:
        if store.root.content.by_name[name].kind == "index":
            yield name, np.asarray(store.index(name)[row])
        elif name in counts:
            yield name, store.row(name, row)[: store.index(counts[name])[row]]
        else:
            yield name, store.row(name, row)


def _write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write what `numpy.savez` writes; times and permissions are given here, so that no library or system decides."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EARLIEST)
            member.create_system, member.external_attr = _UNIX, _READABLE
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
