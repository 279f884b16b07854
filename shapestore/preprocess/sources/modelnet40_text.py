"""`modelnet40_normal_resampled`: ModelNet40 as clouds with normals, one text file a model, and lists of the splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.formats.checks import read_raw
from shapestore.preprocess.formats.text import no_number, parse_floats, text_lines
from shapestore.preprocess.raw import RawCloud
from shapestore.preprocess.source import Discovery, SourceItem, kind_of, walk_files
from shapestore.preprocess.sources.name_list import read_names

_LISTS: Final[tuple[Mapping[str, str], ...]] = tuple(
    {split: f"modelnet{size}_{split}.txt" for split in ("train", "test")} for size in (40, 10)
)
"""Split to its list, the larger dataset first: the folder holds the lists of both, and the files of ModelNet40."""

_MODEL: Final = re.compile(r"([A-Za-z0-9_-]+)_[0-9]+")
"""Name of a model: its class and a number."""

_COLUMNS: Final = 6


def is_text_layout(files: Container[str]) -> bool:
    """Whether a folder with these files has the layout."""
    return any(name in files for lists in _LISTS for name in lists.values())


def discover_text(root: Path) -> Discovery:
    """All models of the lists, whether their files are there or not."""
    walk = walk_files(root)
    lists = next(lists for lists in _LISTS if any(name in walk.files for name in lists.values()))
    used = {split: name for split, name in lists.items() if name in walk.files}
    items = tuple(item for split, name in used.items() for item in _listed(root / name, split))
    listed, present = {item.path for item in items}, set(walk.files)
    ignored = Counter(walk.ignored)
    for path in walk.files:
        if path not in listed and path not in used.values():
            ignored["not in the lists" if "/" in path and kind_of(path) == ".txt" else kind_of(path)] += 1
    notes = [f"split: {' and '.join(used.values())}"]
    notes += [f"there is no {name}: no shape is {split}" for split, name in lists.items() if split not in used]
    if listed - present:
        notes.append(f"{len(listed - present)} of {len(listed)} listed files are not there")
    return Discovery(items, dict(sorted(ignored.items())), tuple(notes))


def _listed(path: Path, split: str) -> Iterator[SourceItem]:
    for number, name in read_names(path):
        model = _MODEL.fullmatch(name)
        if model is None:
            raise UsageError(f"{path}, line {number}: expected a name such as night_stand_0001, got {name!r}.")
        category = model[1]
        shape_id = f"{category}/{name}"
        yield SourceItem(shape_id, f"{shape_id}.txt", group=shape_id, category=category, split=split)


def read_text_cloud(path: Path) -> RawCloud:
    """Read lines of `x,y,z,nx,ny,nz`; blank lines are skipped.

    Raises
    ------
    InputRefused
        As `read_raw`; MALFORMED, naming the line, for another number of columns or what is no number; NOT_FINITE,
        naming the line; TOO_FEW_POINTS for a file without points.
    """
    lines: list[int] = []
    cells: list[bytes] = []
    for number, line in enumerate(text_lines(read_raw(path)), 1):
        if not line.strip():
            continue
        row = [cell.strip() for cell in line.split(b",")]
        if len(row) != _COLUMNS:
            raise InputRefused(
                Reason.MALFORMED, f"line {number}: {len(row)} values where the {_COLUMNS} of x,y,z,nx,ny,nz are due"
            )
        if not all(row):
            raise no_number(b"", number)
        lines.append(number)
        cells += row
    if not lines:
        raise InputRefused(Reason.TOO_FEW_POINTS, f"{path.name} holds no point")
    values = parse_floats(cells, lambda position: lines[position // _COLUMNS]).reshape(-1, _COLUMNS)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InputRefused(Reason.NOT_FINITE, f"line {lines[int(bad.argmax())]}, and {int(bad.sum())} lines in all")
    return RawCloud(points=values[:, :3].copy(), normals=values[:, 3:].copy())
