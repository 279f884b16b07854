"""`modelnet40_ply_hdf5_2048`: ModelNet40 as clouds, many models an HDF5 file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.formats.checks import open_raw, refuse_short, to_float64
from shapestore.preprocess.formats.h5_checks import refuse_unsafe_dataset
from shapestore.preprocess.raw import RawCloud
from shapestore.preprocess.source import (
    Discovery,
    SourceItem,
    is_below,
    kind_of,
    safe_id,
    walk_files,
)
from shapestore.preprocess.sources.name_list import read_list, read_names

CLASSES: Final = (
    *("airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain"),
    *("desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel"),
    *("monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool"),
    *("table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox"),
)
"""Class names in the order of their labels, where no `shape_names.txt` says otherwise."""

_FILE: Final = re.compile(r"ply_data_(train|test).*\.h5")
_LISTS: Final = {"train": "train_files.txt", "test": "test_files.txt"}
_NAMES: Final = "shape_names.txt"

_MOST_EXPANSION: Final = 1032
"""No stream of deflate, the filter of these files, holds more bytes than this for each of its own (zlib's FAQ)."""


def is_h5_layout(files: Iterable[str]) -> bool:
    """Whether a folder with these files has the layout."""
    return any(_FILE.fullmatch(name) or name in _LISTS.values() for name in files)


def discover_h5(root: Path) -> Discovery:
    """All rows of the listed HDF5 files, by their labels; a file that is lost or damaged is one item.

    Where `*_id2file.json` names the models, `<class>/<name>` is the group of a row, and its id too unless several rows
    have it; other ids are `<file>_<row>`.
    """
    walk = walk_files(root)
    files = _files(root, walk.files)
    classes = _class_names(root / _NAMES) if _NAMES in walk.files else CLASSES
    rows = [row for name, split in files.items() for row in _rows(root, name, split, classes, walk.files)]
    counts = Counter(row.model for row in rows)
    items = tuple(row.item(unique=counts[row.model] == 1) for row in rows)
    read = {*files, *_LISTS.values(), _NAMES, *(_models_file(name) for name in files)}
    ignored = Counter(walk.ignored)
    ignored.update(".h5 not in the lists" if kind_of(p) == ".h5" else kind_of(p) for p in walk.files if p not in read)
    return Discovery(items, dict(sorted(ignored.items())), tuple(_notes(rows, walk.files)))


def read_h5_row(path: Path, item: SourceItem) -> RawCloud:
    """Read one row of an HDF5 file, with normals where the file has them.

    Raises
    ------
    InputRefused
        As `open_raw`; TRUNCATED or MALFORMED for a file that is damaged or not as published.
    """
    with _opened(path) as file:
        data = _clouds(file, "data")
        row = item.position
        if row is None:
            raise InputRefused(Reason.MALFORMED, f"{path.name} could not be read when the shapes were listed")
        if row >= len(data):
            raise InputRefused(Reason.MALFORMED, f"{path.name} has {len(data)} rows, row {row} is not there")
        if not item.category:
            raise InputRefused(Reason.MALFORMED, f"{path.name}, row {row}: its label is that of no class")
        normals = _clouds(file, "normal") if "normal" in file else None
        if normals is not None and normals.shape != data.shape:
            raise InputRefused(Reason.MALFORMED, f"{path.name}: normals of {normals.shape}, points of {data.shape}")
        return RawCloud(
            points=to_float64(data[row]),
            normals=None if normals is None else to_float64(normals[row]),
        )


@dataclass(frozen=True)
class _Row:
    """One row of a file, or a whole file that cannot be read."""

    file: str
    split: str
    position: int | None = None
    category: str = ""
    model: str | None = None
    """`<class>/<name>` where the file of names has it."""

    def item(self, *, unique: bool) -> SourceItem:
        stem = PurePosixPath(self.file).stem
        by_row = safe_id(stem if self.position is None else f"{stem}_{self.position:06d}")
        model = None if self.model is None else safe_id(self.model)
        return SourceItem(
            shape_id=model if model is not None and unique else by_row,
            path=self.file,
            group=model or by_row,
            category=self.category,
            split=self.split,
            position=self.position,
        )


def _files(root: Path, present: Sequence[str]) -> dict[str, str]:
    """HDF5 file to its split, from the list of the split or else from the names of the files."""
    files: dict[str, str] = {}
    for split, name in _LISTS.items():
        if name in present:
            # The published lists have a prefix that was right on the machine of their authors.
            listed = [PurePosixPath(text).name for _, text in read_names(root / name)]
        else:
            listed = [path for path in present if (found := _FILE.fullmatch(path)) and found[1] == split]
        for file in listed:
            if kind_of(file) != ".h5" or file in files:
                raise UsageError(f"{root / name}: expected every .h5 file once in the lists, got {file!r}.")
            files[file] = split
    if not files:
        raise UsageError(f"{root}: the lists of HDF5 files ({', '.join(_LISTS.values())}) are empty.")
    return files


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(name for _, name in read_names(path))
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{path}: expected every class name once, got {len(names)} names.")
    return names


def _rows(root: Path, name: str, split: str, classes: Sequence[str], present: Container[str]) -> Iterator[_Row]:
    path = root / name
    try:
        if not is_below(path, root):  # `read` says so again
            raise InputRefused(Reason.MISSING, name)
        with _opened(path) as file:
            labels = _labels(file)
    except InputRefused:
        yield _Row(name, split)
        return
    models = _models(root / _models_file(name), len(labels)) if _models_file(name) in present else None
    for position, label in enumerate(labels.tolist()):
        category = classes[label] if 0 <= label < len(classes) else ""
        model = models[position] if models else None
        if model is not None and category and model.split("/")[0] != category:
            raise UsageError(f"{root / _models_file(name)}: row {position} is {model}, but a {category} in {name}.")
        yield _Row(name, split, position, category, model)


def _models_file(name: str) -> str:
    """`ply_data_train_0_id2file.json` for `ply_data_train0.h5`."""
    return re.sub(r"_?([0-9]+)$", r"_\1", PurePosixPath(name).stem) + "_id2file.json"


def _models(path: Path, rows: int) -> list[str]:
    """`<class>/<name>` of every row."""
    try:
        names = json.loads(read_list(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.") from error
    if not (isinstance(names, list) and len(names) == rows and all(_is_model(name) for name in names)):
        raise UsageError(f"{path}: expected a list of {rows} names such as sofa/sofa_0001.ply, one for each row.")
    return [str(PurePosixPath(name).with_suffix("")) for name in names]


def _is_model(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[\w-]+/[\w-]+\.\w+", name) is not None


def _notes(rows: Sequence[_Row], present: Sequence[str]) -> Iterator[str]:
    listed = [name for name in _LISTS.values() if name in present]
    yield f"split: {' and '.join(listed)}" if listed else "split: the names of the HDF5 files; there are no lists"
    lost = sum(row.position is None for row in rows)
    if lost:
        yield f"{lost} HDF5 files are lost or damaged; how many shapes each held is not known"
    named = Counter(row.model for row in rows if row.model is not None)
    repeats = sum(count > 1 for count in named.values())
    if repeats:
        yield f"{repeats} models have several rows, which are told apart by file and row"


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, in which whatever the library stumbles over becomes an InputRefused."""
    open_raw(path).close()
    try:
        # Raw data does not change, and many file systems refuse locks.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = Reason.TRUNCATED if "truncated file" in str(error) else Reason.MALFORMED
        raise InputRefused(reason, f"{path.name} cannot be read as HDF5: {error}") from error


def _labels(file: h5py.File) -> NDArray[np.int64]:
    """(N,) labels of a file, whose clouds are checked to be as many."""
    dataset = _dataset(file, "label", "iu")
    count = len(_clouds(file, "data"))
    if dataset.shape not in ((count,), (count, 1)):
        raise InputRefused(Reason.MALFORMED, f"labels of shape {dataset.shape} for {count} clouds")
    return np.asarray(dataset[()]).reshape(-1).astype(np.int64)


def _clouds(file: h5py.File, name: str) -> h5py.Dataset:
    """The (N, n, 3) floats under `name`, not read."""
    dataset = _dataset(file, name, "f")
    if dataset.ndim != 3 or dataset.shape[2] != 3:
        raise InputRefused(Reason.MALFORMED, f"{name!r} has the shape {dataset.shape}, not (N, n, 3)")
    return dataset


def _dataset(file: h5py.File, name: str, kinds: str) -> h5py.Dataset:
    """A dataset that lies in the file itself, with all of its data, and numbers of one of the numpy `kinds`."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise InputRefused(Reason.MALFORMED, f"the file holds no dataset {name!r} of its own")
    dataset = file[name]
    if dataset.is_virtual or dataset.external:
        raise InputRefused(Reason.MALFORMED, f"the data of {name!r} lies in other files")
    if dataset.dtype.kind not in kinds:
        raise InputRefused(Reason.MALFORMED, f"{name!r} holds {dataset.dtype}, which is not what it should")
    if not dataset.shape:
        raise InputRefused(Reason.MALFORMED, f"{name!r} is a single number, or nothing")
    # A header can declare any size; what was never written would be read as zeros.
    refuse_short(f"{name!r}", -(-dataset.nbytes // _MOST_EXPANSION), dataset.id.get_storage_size())
    refuse_unsafe_dataset(name, dataset)
    return dataset
