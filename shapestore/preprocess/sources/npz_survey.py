"""What the headers of a whole npz cache say together: its layout, the arrays to adopt, and their shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shapestore.errors import InputRefused, UsageError
from shapestore.preprocess.sources.npz_file import open_npz
from shapestore.preprocess.sources.npz_keys import (
    COUNTED,
    NEEDS,
    SCAN_ZEROS,
    SETTINGS,
    Layout,
    adopted_keys,
    is_placeholder,
    layout_of,
    row_shape,
)
from shapestore.schemas.cache_schema import cache_families
from shapestore.schemas.recipe import CachePart

T = TypeVar("T")
Shape = tuple[int, ...]
Keys = Mapping[str, tuple[Shape, str]]
"""Of one file: key to shape and name of the dtype."""


@dataclass(frozen=True)
class Survey:
    """The headers of all files of a cache."""

    files: int
    """Number of npz files."""
    refused: int
    """How many of them cannot be opened."""
    first_refusal: str
    """What is wrong with the first of them."""
    headers: Mapping[Layout | None, tuple[Keys, ...]]
    """The files of every layout, in sorted order."""

    @property
    def layout(self) -> Layout:
        """The layout of most files; of equally many, that of the first.

        Raises
        ------
        UsageError
            No file has a known layout.
        """
        counts = {layout: len(files) for layout, files in self.headers.items() if layout is not None}
        if counts:
            return max(counts, key=lambda layout: counts[layout])
        if self.headers:
            found = ", ".join(sorted(self.headers[None][0]))
            raise UsageError(
                "the npz files are of no known layout: expected the keys of a NEPA-3D cache (pc_xyz, ...) or of a "
                f"VecSetX cache (vol_points, vol_sdf, vol_labels, ...), found {found}."
            )
        raise UsageError(f"expected npz files that can be read, but none of {self.files} can: {self.first_refusal}.")

    def files_as(self, layout: Layout) -> tuple[Keys, ...]:
        """The files of a layout; if none is, those that a user who knows better can declare to be."""
        similar: tuple[Layout, ...] = () if layout == "vecsetx" else ("nepa-mesh", "nepa-scan")
        return self.headers.get(layout) or tuple(keys for other in similar for keys in self.headers.get(other, ()))


def survey(root: Path, paths: tuple[str, ...]) -> Survey:
    """Read the headers of all npz files; a cache that did not change since the last call is not read again."""
    states = []
    for path in paths:
        try:
            now = (root / path).stat()
            states.append((now.st_ino, now.st_size, now.st_mtime_ns))
        except OSError:
            states.append((0, 0, 0))
    return _survey(root, paths, tuple(states))


@lru_cache(maxsize=1)
def _survey(root: Path, paths: tuple[str, ...], states: tuple[tuple[int, int, int], ...]) -> Survey:
    del states
    found: dict[Layout | None, list[Keys]] = {}
    refusals: list[str] = []
    shared: dict[tuple[tuple[str, tuple[Shape, str]], ...], Keys] = {}
    for path in paths:
        try:
            with open_npz(root / path) as file:
                headers = {key: (header.shape, header.dtype.name) for key, header in file.headers.items()}
        except InputRefused as refusal:
            refusals.append(f"{path}: {refusal}")
            continue
        # Fifty thousand files mostly have the same headers: keep equal ones once.
        found.setdefault(layout_of(headers), []).append(shared.setdefault(tuple(headers.items()), headers))
    first = refusals[0] if refusals else ""
    return Survey(len(paths), len(refusals), first, {layout: tuple(files) for layout, files in found.items()})


def cache_part(surveyed: Survey, preset: CachePart | None) -> CachePart:
    """The part of the recipe that describes the cache.

    An array is adopted if more than half of the files hold it. Its shape is that of most files, or, for counts that
    vary, the largest; a grid that is not float16 in the files needs no half precision in the store.

    Parameters
    ----------
    surveyed
        The headers.
    preset
        What the user sets: a layout and the form of grids, with empty `shapes`.

    Raises
    ------
    UsageError
        There is nothing to adopt, or the shapes contradict each other.
    """
    layout = preset.layout if preset is not None else surveyed.layout
    files = surveyed.files_as(layout)
    if not files:
        raise UsageError(f"no npz file has layout {layout}: leave cache.layout out, to let the files decide.")
    shapes = {key: shape for key, shape in _shapes(layout, files).items() if not is_placeholder(key, shape)}
    single = [key for key in sorted(shapes) if key in NEEDS[layout] and not shapes[key]]
    if single:
        raise UsageError(f"expected arrays, but most files hold a single number as {', '.join(single)}.")
    adopted = adopted_keys(layout, shapes)
    half = preset.half_grids if preset is not None else "packed"
    if "udf_grid" in adopted and _most(header["udf_grid"][1] for header in files if "udf_grid" in header) != "float16":
        half = "widened"
    return _checked({"layout": layout, "shapes": {key: shapes[key] for key in adopted}, "half_grids": half})


def survey_notes(surveyed: Survey, part: CachePart) -> tuple[str, ...]:
    """What is adopted, what is not, and why, for the user."""
    files = surveyed.files_as(part.layout)
    counts = Counter(key for header in files for key in header)
    notes = (
        f"cache: layout {part.layout} in {len(files)} of {surveyed.files} files",
        "cache: shift and scale are not in the files, so rows cannot be brought back to raw coordinates",
    )
    left = sorted(counts.keys() - part.shapes.keys())
    return (*notes, *(f"not adopted: {key} ({counts[key]} files): {_why_not(key, part, files)}" for key in left))


def _why_not(key: str, part: CachePart, files: Iterable[Keys]) -> str:
    if key in SETTINGS:
        return "a setting, not an array"
    if part.layout == "nepa-scan" and key in SCAN_ZEROS:
        return "zeros in the place of what a scan does not have"
    if key not in NEEDS[part.layout]:
        return "an unknown key"
    if is_placeholder(key, _most(header[key][0] for header in files if key in header)):
        return "a placeholder of one cell"
    lacking = [need for need in NEEDS[part.layout][key] if need not in part.shapes]
    return f"it needs {' and '.join(lacking)}" if lacking else "most files do not have it"


def _shapes(layout: Layout, files: Iterable[Keys]) -> dict[str, Shape]:
    """Row shape of every key that more than half of the files hold."""
    seen: dict[str, list[Shape]] = {}
    total = 0
    for header in files:
        total += 1
        for key, (shape, _) in header.items():
            seen.setdefault(key, []).append(row_shape(layout, key, shape))
    common = {key: shapes for key, shapes in seen.items() if 2 * len(shapes) > total}
    capacity = {tag: max((shape[0] for shape in seen.get(f"{tag}_points", []) if shape), default=0) for tag in COUNTED}
    return {key: _common_shape(shapes, _capacity_of(layout, key, capacity)) for key, shapes in common.items()}


def _capacity_of(layout: Layout, key: str, capacity: Mapping[str, int]) -> int | None:
    """The most samples of any file, for keys whose number of samples varies."""
    return capacity.get(key.split("_")[0]) if layout == "vecsetx" else None


def _common_shape(shapes: Iterable[Shape], capacity: int | None) -> Shape:
    """The shape of most files; with a capacity, their first size does not count."""
    if capacity is None:
        return _most(shapes)
    return (capacity, *_most(shape[1:] for shape in shapes))


def _most(values: Iterable[T]) -> T:
    """The value that occurs most often; of equally many, the first."""
    return Counter(values).most_common(1)[0][0]


def _checked(values: Mapping[str, object]) -> CachePart:
    """The part, if its shapes fit each other."""
    try:
        part = CachePart.model_validate(values)
        specs = {spec.name: spec for family in cache_families(part) for spec in family.arrays()}
    except ValidationError as error:
        problems = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        raise UsageError(f"the arrays of the cache do not fit together: {problems}.") from error
    wrong = [
        f"{key}: expected {specs[key].shape} as its points say, got {shape}"
        for key, shape in part.shapes.items()
        if specs[key].shape != tuple(shape)
    ]
    if wrong or not specs:
        problem = "; ".join(wrong) or "no key is known together with all that it needs"
        raise UsageError(f"the arrays of the cache do not fit together: {problem}.")
    return part
