"""anatomy: the chambers of a heart lie where they lie in a body.

The frame of label maps is RAS+: x grows towards the patient's right, y to the front, z to the head. In it the right
ventricle lies to the right of the left one, and the right atrium to the right of the left one. A map with another wrong
axis keeps that, but not its handedness: the ways from the left to the right ventricle, from the left atrium to the left
ventricle, and from there to the pulmonary artery are a right-handed triple, however the body is turned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.quality.check import Batch, Check, Measure, Settings, chosen, families, filled
from shapestore.schemas.families import SdfSamples
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.store_schema import StoreSchema

PROBES: Final = 8000
"""Positions of a row that are looked at: two in a thousand are of the smallest chamber."""
FEWEST: Final = 30
"""Positions of a class that its middle is taken from: it is then off by a fifth of the class's extent at most."""
CHAMBERS: Final = ("LA", "LV", "RA", "RV")
OUTFLOW: Final = "PA"
REMEDY: Final = "Look at the orientation of the raw file: it is mirrored, or its affine is not that of the patient."


class _Settings(Settings):
    """Bounds of where chambers lie. A mirrored heart has the negative of its twin's numbers: 0 is between them."""

    to_the_right: float = 0
    """Least way from a left chamber to its right fellow along x, in units of the chambers' mean distance from their
    common middle. Sixty analytic hearts in random poses have at least 0.66."""
    handedness: float = 0
    """Least triple product of the three ways, in cubes of that unit. The same hearts have at least 1.8."""


def _applies(schema: StoreSchema, recipe: Recipe) -> str | None:
    if recipe.labels is None:
        return "the store holds no label maps, whose frame is that of the patient"
    if not set(CHAMBERS) <= set(recipe.labels.names):
        return f"its label maps have no classes {', '.join(CHAMBERS)}"
    return None if _labelled(schema) else "the store holds no labelled samples"


def _labelled(schema: StoreSchema) -> list[SdfSamples]:
    """Labelled samples, first those whose middle is that of the volume of a class."""
    order = ("volume", "surface", "near")
    found = [samples for samples in families(schema, SdfSamples) if samples.labels is not None]
    return sorted(found, key=lambda samples: order.index(samples.where))


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    samples = _labelled(batch.schema)[0]
    arrays = tuple(spec.name for spec in (samples.labels, samples.points) if spec is not None)
    middles = _middles(batch, samples)
    common = np.mean([middles[name] for name in CHAMBERS], axis=0)
    unit = np.mean([np.linalg.norm(middles[name] - common, axis=1) for name in CHAMBERS], axis=0)
    low = settings.to_the_right
    for left, right in (("LV", "RV"), ("LA", "RA")):
        way = (middles[right] - middles[left])[:, 0] / unit
        yield Measure(f"way to the right from {left} to {right}", way, low=low, arrays=arrays, remedy=REMEDY)
    if OUTFLOW in middles:
        ways = (("LV", "RV"), ("LA", "LV"), ("LV", OUTFLOW))
        first, second, third = ((middles[end] - middles[start]) / unit[:, None] for start, end in ways)
        turn = (np.cross(first, second) * third).sum(axis=1)
        yield Measure("handedness", turn, low=settings.handedness, arrays=arrays, remedy=REMEDY)


def _middles(batch: Batch, samples: SdfSamples) -> Mapping[str, NDArray[np.float64]]:
    """(n, 3) mean position of every class by name; NaN where a row has too few of it."""
    assert samples.labels is not None, "labelled samples were asked for"  # noqa: S101
    at = chosen(batch.index["seed"], samples.points.shape[0], PROBES)
    rows = np.arange(len(batch))[:, None]
    points = np.asarray(batch.arrays[samples.points.name])[rows, at].astype(np.float64)
    held = filled(samples.points, samples.count, batch)[rows, at] & np.isfinite(points).all(axis=2)
    labels = np.where(held, np.asarray(batch.arrays[samples.labels.name])[rows, at], 0)
    points[~held] = 0
    middles = {}
    for code in samples.labels.codes:
        of_class = labels == code.value
        count = of_class.sum(axis=1)[:, None]
        total = np.einsum("nk,nkd->nd", of_class, points)
        middles[code.name] = np.where(count >= FEWEST, total / np.maximum(count, 1), np.nan)
    return middles


CHECK = Check(
    name="anatomy",
    about="Left and right chambers of hearts lie on their sides of the body, and no heart is mirrored.",
    severity="error",
    settings=_Settings,
    applies=_applies,
    measure=_measure,
)
