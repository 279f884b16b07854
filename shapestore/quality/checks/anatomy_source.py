"""anatomy-source: what the classes of a raw label map are like: pieces, cavities, handles, volumes, and their surfaces.

A voxel is a closed cube here: pieces are connected through corners too, the space around them through faces only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import label

from shapestore.preprocess.geometry.normalise import Frame
from shapestore.quality.check import Batch, Check, Measure, Settings, families
from shapestore.quality.truth_fields import Probed, Probes, surface_probes
from shapestore.quality.truth_labels import UNREADABLE, LabelTruth, read_label_truth
from shapestore.quality.truth_source import raw_file
from shapestore.schemas.families import LabelCounts
from shapestore.schemas.recipe import LabelsPart, Recipe
from shapestore.schemas.store_schema import StoreSchema

Numbers = dict[str, float]
"""Measure to its number, of one row."""

VOLUMES: Final[Mapping[str, tuple[float, float]]] = {
    "Myocardium": (3.5, 480),
    "LA": (1, 380),
    "LV": (1.5, 610),
    "RA": (1, 530),
    "RV": (3, 750),
}
"""Class of heart-10 to the least and largest volume of human hearts, millilitres.

Least: a newborn of 0.23 m2 at the end of systole, three standard deviations below the mean (Jhaveri et al., J.
Cardiovasc. Magn. Reson. 25:26, 2023: LV 14.5 - 3 * 2.5 ml/m2, RV 22.6 - 3 * 2.9 ml/m2, LV mass 26.4 - 3 * 2.8 g/m2 at
1.05 g/ml); the atria, which it has not, are put at 1 ml. Largest: the 97.5th percentile of healthy men in CT (Fuchs et
al., Eur. Heart J. Cardiovasc. Imaging 17:1009, 2016: LV 97, RV 120, LA 60, RA 85 ml/m2, LV mass 80 g/m2) of 2.5 m2, two
and a half times as much for dilated hearts. A lost voxel size, or another unit, makes volumes wrong 8 to 1000 times."""
ONE_PIECE: Final = ("Myocardium", "LA", "LV", "RA", "RV", "Aorta", "PA", "LAA")
"""Classes of heart-10 that are one piece; coronary arteries and pulmonary veins are several."""
PROBES: Final = 8000
"""Surface points of a row that volumes are estimated from."""
FEWEST: Final = 100
"""Points, and voxels, that a class has to have for that: below, the voxels say nothing of a volume."""
FACES_PER_AREA: Final = 1.5
"""Area of the voxel faces of a body over that of its smooth surface: the mean of |x| + |y| + |z| over unit normals."""
REBUILD: Final = "Compute the row again from its raw file."
LOOK: Final = "Look at the raw label map."


class _Settings(Settings):
    """Bounds of what the classes of label maps are like."""

    largest_piece: float = Field(0.95, ge=0, le=1)
    """Least share of a chamber or great vessel that its largest piece has. What is cut off by hand or by a network are
    specks: 0.2 % of the whole hearts of TotalSegmentator, in 69 pieces."""
    cavities: float = Field(0.02, ge=0, le=1)
    """Largest volume that a class encloses without being it, in volumes of the class; of that heart it is 0.01 %."""
    surface_volume: float = Field(0.2, gt=0)
    """Largest share by which the volume in the stored surface of a class differs from that of its voxels. Ingest keeps
    it within 0.1; the largest estimate of 35 hearts and bodies was 0.08, of veins three voxels wide."""


def _applies(schema: StoreSchema, recipe: Recipe) -> str | None:
    del schema
    return None if recipe.labels is not None else "the store holds no label maps"


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    part = batch.recipe.labels
    assert part is not None, "the check applies"  # noqa: S101
    surfaces = list(surface_probes(batch, PROBES))
    measures = [replace(each, values=np.full(len(batch), np.nan)) for each in _planned(batch, part, surfaces, settings)]
    values = {each.name: each.values for each in measures}
    for row in range(len(batch)):
        truth = _read(batch, part, row)
        if truth is not None:
            frame = Frame(np.asarray(batch.index["shift"][row]), float(batch.index["scale"][row]))
            numbers = _counted(batch, truth, row)
            for code, name in enumerate(part.names, start=1):
                numbers |= _shape(truth, code, name)
                for surface in surfaces:
                    numbers |= _enclosed(truth, surface.of(row), frame, code, f"volume in {surface.name} of {name}")
            for name, number in numbers.items():
                values[name][row] = number
    yield from measures


def _planned(batch: Batch, part: LabelsPart, surfaces: Sequence[Probes], settings: _Settings) -> Iterator[Measure]:
    """Every measure of a store, still without numbers: the same ones for each batch."""
    none = np.zeros(0)
    heart = part.scheme == "heart-10"
    for stored in families(batch.schema, LabelCounts):
        name, arrays = stored.counts.name, (stored.counts.name,)
        yield Measure(f"wrong counts of {name}", none, high=0, arrays=arrays, remedy=REBUILD, severity="error")
    for name in part.names:
        low, high = VOLUMES.get(name, (0, np.inf)) if heart else (0, np.inf)
        yield Measure(f"volume of {name}", none, low=low, high=high, unit="ml", remedy=LOOK)
        yield Measure(f"pieces of {name}", none)
        low = settings.largest_piece if heart and name in ONE_PIECE else 0
        yield Measure(f"share of {name} in its largest piece", none, low=low, remedy=LOOK)
        yield Measure(f"cavities of {name}", none, high=settings.cavities, unit="of its volume", remedy=LOOK)
        yield Measure(f"handles of {name}", none)
        for surface in surfaces:
            low, high = 1 - settings.surface_volume, 1 + settings.surface_volume
            title, unit = f"volume in {surface.name} of {name}", "of that of its voxels"
            yield Measure(title, none, low=low, high=high, unit=unit, arrays=surface.arrays, remedy=REBUILD)


def _read(batch: Batch, part: LabelsPart, row: int) -> LabelTruth | None:
    """The raw label map of a row; None where distance-truth says why there is none to look at."""
    file = raw_file(batch, row)
    if file is None:
        return None
    try:
        return read_label_truth(file.path, part)
    except UNREADABLE:
        return None


def _counted(batch: Batch, truth: LabelTruth, row: int) -> Numbers:
    """Of how many classes the stored number of voxels is another one than the map's."""
    found = {}
    for stored in families(batch.schema, LabelCounts):
        counts = np.asarray(batch.arrays[stored.counts.name][row])
        found[f"wrong counts of {stored.counts.name}"] = float(
            np.count_nonzero(counts != truth.voxels[1 : len(counts) + 1])
        )
    return found


def _shape(truth: LabelTruth, code: int, name: str) -> Numbers:
    """What the voxels of one class are like; nothing of a class that has none."""
    box = truth.boxes[code - 1]
    if box is None:
        return {}
    mask = np.pad(truth.codes[box] == code, 1)
    voxels = int(truth.voxels[code])
    pieces, count = label(mask, np.ones((3, 3, 3)))
    around, spaces = label(~mask)
    outside = around[0, 0, 0]
    return {
        f"volume of {name}": voxels * truth.voxel_volume / 1000,
        f"pieces of {name}": count,
        f"share of {name} in its largest piece": np.bincount(pieces[mask]).max() / voxels,
        f"cavities of {name}": np.count_nonzero(~mask & (around != outside)) / voxels,
        f"handles of {name}": count + (spaces - 1) - euler_number(mask),
    }


def _enclosed(truth: LabelTruth, surface: Probed, frame: Frame, code: int, title: str) -> Numbers:
    """Estimate the volume in the stored surface of a class, in volumes of its voxels.

    The two differ by the mean way from the voxels' faces out to the surface, times the area.
    """
    world = frame.invert(surface.points[surface.labels == code])
    if len(world) < FEWEST or truth.voxels[code] < FEWEST:
        return {}
    nearest = truth.at(world)
    outward = np.abs(nearest.distance) * np.where(nearest.labels == code, -1, 1)
    area = truth.face_area(code) / FACES_PER_AREA
    return {title: 1 + float(outward.mean()) * area / (int(truth.voxels[code]) * truth.voxel_volume)}


def euler_number(mask: NDArray[np.bool_]) -> int:
    """Euler number of the voxels of a mask, as closed cubes: pieces, less handles, plus cavities.

    Parameters
    ----------
    mask
        (X, Y, Z), False at its border.

    Returns
    -------
    int
        Corners less edges plus faces less cubes.
    """
    number = 0
    for axes in np.ndindex(2, 2, 2):
        cells = mask
        for axis in np.flatnonzero(axes):
            turned = np.moveaxis(cells, axis, 0)
            cells = np.moveaxis(turned[1:] | turned[:-1], 0, axis)
        number += (-1) ** (3 - sum(axes)) * int(np.count_nonzero(cells))
    return number


CHECK = Check(
    name="anatomy-source",
    about="Pieces, cavities, handles and volumes of the classes of raw label maps, and whether stored surfaces fit.",
    severity="warning",
    settings=_Settings,
    applies=_applies,
    measure=_measure,
    scope="source",
)
