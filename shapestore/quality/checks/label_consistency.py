"""label-consistency: whether the classes of surface and inside samples are those of the same geometry.

That a label is > 0 exactly where the distance is negative is a rule of the schema. It says nothing of which class: here
the surface of a class must run along its inside, the inside of a class along its surface, and between insides of two
classes there must be room for both depths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import cKDTree

from shapestore.quality.check import Array, Batch, Check, Measure, Settings, chosen, families, filled
from shapestore.quality.finding import Severity
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import SdfSamples
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.store_schema import StoreSchema

PROBES: Final = 2000
"""Positions of a row that are looked at; of ten classes each has 100 to 200."""
FEWEST: Final = 20
"""Positions of a class that make a share."""
NEIGHBOURS: Final = 8
"""Inside samples around a position, among which another class is looked for."""
APART: Final = 4.0
"""Distance between classes along a fourth axis: more than the diagonal of the cube, so that the nearest is of one's own
class wherever there is one."""
ROUNDING: Final = 2e-6
"""Rounding of float32 coordinates and distances, with a margin of four."""
REMEDY: Final = "Take surface points, distances and labels from the same label map, in the same frame."

Floats = NDArray[np.float64]


class _Settings(Settings):
    """Bounds of what contradicts.

    Radii follow from the sampling: they are multiples of the spacing of the class's points that are looked for, which
    is the root mean square of the distance to the nearest other one.
    """

    gate: bool = True
    """Labels are what is learnt, and a row takes some 50 ms beside the second that its distances take."""
    spacing: float = Field(5, gt=0)
    """Spacings within which a surface point has an inside sample of its class, and by which an inside sample may be
    farther from surface points of its class than it is deep. In 13 sound rows all but one of 2000 are within 3."""
    astray: float = Field(0.05, ge=0, le=1)
    """Most share of the positions of any one class that contradict. Sound rows have up to 0.01; with two classes
    swapped these have 0.5 and more, with labels off by one all have."""
    crowded: float = Field(0.01, ge=0, le=1)
    """Most share of inside samples that another class comes nearer to than both are deep. Sound rows have up to 0.001,
    where smoothed walls overlap; labels that are half a voxel off those of the distances have 0.04."""


def _applies(schema: StoreSchema, recipe: Recipe) -> str | None:
    del recipe
    labelled = {family.where for family in families(schema, SdfSamples) if family.labels is not None}
    if "surface" in labelled and labelled & {"volume", "near"}:
        return None
    return "the store holds no labels of both a surface and its inside"


@dataclass(frozen=True)
class _Points:
    """Positions of a row that are of a class."""

    at: Floats
    """(n, 3)."""
    classes: NDArray[np.int64]
    """(n,)."""
    depths: Floats
    """(n,) how far below the surface of their class they are."""

    @property
    def by_class(self) -> Floats:
        """(n, 4) positions, classes apart along the last axis."""
        return np.column_stack([self.at, APART * self.classes])


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    labelled = [family for family in families(batch.schema, SdfSamples) if family.labels is not None]
    on = [family for family in labelled if family.where == "surface"]
    fields = [family for family in labelled if family.where != "surface"]
    found = [
        _contradictions(_points(on, batch, row), _points(fields, batch, row), int(seed), settings)
        for row, seed in enumerate(batch.index["seed"])
    ]
    bare, lost, crowded = np.array(found).reshape(-1, 3).T
    edt = batch.recipe.labels is not None and batch.recipe.labels.distance == "edt"
    outer, *inner = (family.labels.name for family in on + fields if family.labels is not None)

    def measure(text: str, numbers: Floats, high: float, names: Sequence[str], severity: Severity | None) -> Measure:
        return Measure(text, numbers, 0, high, "", tuple(names), REMEDY, severity)

    largest = "largest share of a class"
    yield measure(f"{largest} in {outer} without an inside close by", bare, settings.astray, [outer, *inner], None)
    yield measure(f"{largest} in {inner[0]} without a surface close by", lost, settings.astray, [*inner, outer], None)
    # Distances between voxel centres are too large by a quarter of a voxel and more.
    relaxed: Severity | None = "warning" if edt else None
    yield measure(
        f"share of the inside in {inner[0]} with another class too near", crowded, settings.crowded, inner, relaxed
    )


def _contradictions(on: _Points, inner: _Points, seed: int, settings: _Settings) -> tuple[float, float, float]:
    """Largest share of a class's surface without inside, of its inside without surface; share that is crowded."""
    if len(on.at) < 2 or len(inner.at) <= NEIGHBOURS:
        return np.nan, np.nan, np.nan
    surface, inside = _tree(on.by_class), _tree(inner.by_class)
    some, probes = chosen([seed], len(on.at), PROBES)[0], chosen([seed], len(inner.at), PROBES)[0]
    own, of, depths = on.classes[some], inner.classes[probes], inner.depths[probes]
    bare = _astray(inside, on.by_class[some], settings.spacing * _spacings(inside, inner, probes)[own])
    lost = _astray(surface, inner.by_class[probes], depths + settings.spacing * _spacings(surface, on, some)[of])
    return _worst_share(bare, own), _worst_share(lost, of), _crowded(inner, probes)


def _spacings(tree: cKDTree, points: _Points, probes: NDArray[np.int64]) -> Floats:
    """(128,) root mean square distance to the nearest other point of the class; infinite for classes without two."""
    distances, classes = np.asarray(tree.query(points.by_class[probes], [2])[0])[:, 0], points.classes[probes]
    known = distances < APART
    number = np.bincount(classes[known], minlength=128)
    squared = np.bincount(classes[known], weights=distances[known] ** 2, minlength=128)
    return np.where(number > 0, np.sqrt(squared / np.maximum(number, 1)), np.inf)


def _astray(tree: cKDTree, points: Floats, radii: Floats) -> NDArray[np.bool_]:
    """(n,) which positions have no point of their class within their radius."""
    away = np.asarray(tree.query(points)[0])
    return np.asarray((away > radii) | (away >= APART))


def _worst_share(bad: NDArray[np.bool_], classes: NDArray[np.int64]) -> float:
    """The largest share of bad positions of any class that has enough of them; NaN where none has."""
    number = np.bincount(classes)
    shares = np.bincount(classes, weights=bad)[number >= FEWEST] / number[number >= FEWEST]
    return float(shares.max()) if len(shares) else np.nan


def _crowded(inner: _Points, probes: NDArray[np.int64]) -> float:
    """Share of positions that have a sample of another class nearer than the sum of both depths."""
    away, nearest = _tree(inner.at).query(inner.at[probes], list(range(2, NEIGHBOURS + 2)))
    other = inner.classes[nearest] != inner.classes[probes][:, None]
    too_near = inner.depths[nearest] + inner.depths[probes][:, None] > np.asarray(away) + ROUNDING
    return float(np.mean((other & too_near).any(axis=1)))


def _tree(points: Floats) -> cKDTree:
    return cKDTree(points, balanced_tree=False, compact_nodes=False)


def _points(parts: Sequence[SdfSamples], batch: Batch, row: int) -> _Points:
    """One row of one or several families, without what is not finite; surface samples have depth 0."""
    held = [np.flatnonzero(filled(part.points, part.count, batch)[row]) for part in parts]

    def joined(specs: Sequence[ArraySpec | None]) -> Array:
        return np.concatenate(
            [
                batch.arrays[spec.name][row][there] if spec is not None else np.zeros(len(there))
                for spec, there in zip(specs, held, strict=True)
            ]
        )

    at = joined([part.points for part in parts]).astype(np.float64)
    depths = -joined([part.sdf for part in parts]).astype(np.float64)
    classes = joined([part.labels for part in parts]).astype(np.int64)
    kept = np.isfinite(at).all(axis=1) & np.isfinite(depths) & (classes > 0)
    return _Points(at[kept], classes[kept], depths[kept])


CHECK = Check(
    name="label-consistency",
    about=(
        "Whether every class's surface runs along its inside, its inside along its surface, and two insides leave room "
        "for both: labels that are permuted, off by one, or of another grid than the distances."
    ),
    severity="error",
    settings=_Settings,
    applies=_applies,
    measure=_measure,
)
