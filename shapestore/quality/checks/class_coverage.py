"""class-coverage: whether every class that a shape has has samples, and how many rows lack which class."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import betaincinv

from shapestore.quality.check import Array, Batch, Check, Fact, Measure, Settings, Table, families, filled, needs
from shapestore.quality.finding import Finding
from shapestore.schemas.array import ArraySpec, Code
from shapestore.schemas.families import LabelCounts, Labels, SdfSamples
from shapestore.schemas.recipe import Recipe

DOUBT = 0.05
"""Chance that a share of rows is called too large although it is not."""
SHOWN = 3
"""Rows that a finding names."""


class _Settings(Settings):
    """Bounds of what a class must have."""

    kept: float = Field(0.5, gt=0, le=1)
    """Least part of the points that the recipe promises to each class. Volume and surface samples have all of them;
    near samples of a thin class lose those that have no room inside of it."""
    missing: float = Field(0.05, ge=0, le=1)
    """Most share of rows that lack a class, with 95 % confidence. Where inside was guessed, 44.9 % of 998 hearts lacked
    the left ventricle and 25.1 % the left atrium; the coronaries, the thinnest class, were missing in 0.1 %."""
    object_share: float = Field(0.01, ge=0, le=1)
    """Least share of the points of a scan that are not background."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure | Fact]:
    voxels = _class_voxels(batch)
    for samples in families(batch.schema, SdfSamples):
        if samples.labels is None:
            continue
        points = _points_per_class(samples, batch)
        yield Fact(samples.labels.name, points)
        low = _least(samples, batch.recipe, settings)
        for position, code in enumerate(_classes(samples.labels)):
            values = points[:, position].astype(np.float64)
            if voxels is not None:
                values[voxels[:, position] == 0] = np.nan
            yield Measure(
                f"points of {code.name} in {samples.labels.name}",
                values,
                low=low,
                unit="points",
                arrays=(samples.labels.name,),
                remedy="Look at the row's label map: the class is there, and has to have points.",
            )
    for family in families(batch.schema, Labels):
        labels = np.asarray(batch.arrays[family.labels.name])
        yield Measure(
            f"share of {family.labels.name} that is not background",
            np.mean(labels >= 0, axis=1),
            low=settings.object_share,
            arrays=(family.labels.name,),
            remedy="A scan of background alone shows no object: leave it out, or look whether its mask is read right.",
        )
    if voxels is not None:
        yield Fact("voxels", voxels)


def _overall(table: Table, settings: _Settings) -> Iterator[Finding]:
    sampled = [
        family.labels
        for family in families(table.schema, SdfSamples)
        if family.labels is not None and family.where != "near"  # which classes these meet is not promised
    ]
    if not sampled or len(table.rows) == 0:
        return
    for position, code in enumerate(_classes(sampled[0])):
        lacking = {labels.name: table.facts[labels.name][:, position] == 0 for labels in sampled}
        name = max(lacking, key=lambda each: np.count_nonzero(lacking[each]))
        missing, rows = int(np.count_nonzero(lacking[name])), len(table.rows)
        if at_least(missing, rows) <= settings.missing:
            continue
        unknown = "voxels" in table.facts and not table.facts["voxels"][:, position].any()
        some = ", ".join(str(each) for each in table.index["shape_id"][lacking[name]][:SHOWN])
        yield Finding(
            severity="warning" if unknown else "error",
            check=CHECK.name,
            message=f"{code.name} has no point in {name} of {missing:,} of {rows:,} rows, such as {some}",
            place=name,
            measure=f"share of rows without {code.name}",
            value=missing / rows,
            high=settings.missing,
            remedy=(
                "No label map has this class: leave it out of the recipe."
                if unknown
                else "Look at these rows' label maps: is the class absent from them, or lost on the way?"
            ),
        )


def at_least(hits: int, trials: int) -> float:
    """The share that is at least there with 95 % confidence (Clopper & Pearson, Biometrika 26, 1934)."""
    return float(betaincinv(hits, trials - hits + 1, DOUBT)) if hits else 0.0


def _classes(labels: ArraySpec) -> tuple[Code, ...]:
    return tuple(code for code in labels.codes if code.value > 0)


def _points_per_class(samples: SdfSamples, batch: Batch) -> NDArray[np.int64]:
    """(n, C) how many points of a row each class has."""
    assert samples.labels is not None, "asked for labelled samples only"  # noqa: S101
    codes = [code.value for code in _classes(samples.labels)]
    labels = np.asarray(batch.arrays[samples.labels.name]).astype(np.int64)
    held = filled(samples.points, samples.count, batch) & (labels >= 0)
    places = np.arange(len(batch))[:, None] * 128 + labels  # labels are int8
    counts = np.bincount(places[held], minlength=128 * len(batch)).reshape(-1, 128)
    return np.asarray(counts[:, codes])


def _class_voxels(batch: Batch) -> Array | None:
    """(n, C) voxels of each class in the raw map, where the store keeps them."""
    counts = families(batch.schema, LabelCounts)
    return np.asarray(batch.arrays[counts[0].counts.name]) if counts else None


def _least(samples: SdfSamples, recipe: Recipe, settings: _Settings) -> float:
    """Least points of a class that a row must have.

    A recipe promises each class that is present a minimum, or the even share, were all of them present. A cache
    promises nothing, nor does it say which classes are present: there only the share of rows without one is judged.
    """
    if recipe.labels is None:
        return -math.inf
    classes, minimum, shared = len(recipe.labels.names), 0, 0
    if samples.where == "volume" and recipe.volume is not None:
        minimum, shared = recipe.volume.per_class_minimum, round(recipe.volume.inside_ratio * recipe.volume.count)
    elif recipe.surface is not None:
        minimum, shared = recipe.surface.per_class_minimum, samples.points.shape[0]
    promised = min(minimum, shared // classes) // (2 if samples.where == "near" else 1)  # half of them are outside
    return max(1, math.floor(settings.kept * promised))


CHECK = Check(
    name="class-coverage",
    about=(
        "Points of each class in surface, volume and near samples, against what the recipe promises and what the raw "
        "map has, and in how many rows a class is missing. Of scans: whether an object is there at all."
    ),
    severity="error",
    settings=_Settings,
    applies=needs(SdfSamples, Labels),
    measure=_measure,
    overall=_overall,
)
