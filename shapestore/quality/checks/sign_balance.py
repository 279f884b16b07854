"""sign-balance: how much of a shape's samples lies outside, and that nothing inside lies beyond the unit ball."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shapestore.preprocess.geometry.grid import cell_centres
from shapestore.quality.check import Array, Batch, Check, Measure, Settings, Table, families, filled, needs
from shapestore.quality.finding import Finding, Severity
from shapestore.schemas.families import QueryPool, SdfGrid, SdfSamples
from shapestore.schemas.recipe import Recipe

REMEDY = "Look at the signs: inside is negative. Mend what tells inside from outside, and ingest the row again."


class _Settings(Settings):
    """Bounds of shares. Positions at distance 0 count as outside, as they do for labels."""

    gate: bool = True
    """It takes a comparison a value, and what it refuses has no sign to train on."""
    kept: float = Field(0.6, gt=0, le=1)
    """Least part of the expected outside, and of the expected inside, that a row's samples must have. With one half
    expected, a row is sound from 0.3 to 0.7: sound VecSetX caches had 55.2 +- 3.3 % (volume) and 52.6 +- 0.7 % (near),
    the ruined ones 0 %, 99.4 % and 100 %. Samples of ingest have the expected share exactly (volume), or within a few
    points that no thin wall had room for (near)."""
    kept_on_average: float = Field(0.8, gt=0, le=1)
    """The same for the mean over all rows: from 0.4 to 0.6 where one half is expected."""
    deviation: float = Field(0.08, gt=0)
    """Most standard deviation of the share over the rows, as a warning. Sound caches had 0.033 (volume) and 0.007
    (near); one whose inside had been guessed by a ratio of depths had 0.11."""
    radius: float = Field(1.05, ge=1)
    """Radius beyond which nothing is inside. A normalised shape lies in the unit ball; caches normalise by samples and
    voxel centres, which fall short of the surface by up to half a voxel: 0.02 for a heart 50 voxels wide."""
    inside_beyond: float = Field(0.0, ge=0, le=1)
    """Most share of the positions beyond that radius which may be negative; a law allows none."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    for samples in families(batch.schema, SdfSamples):
        if samples.sdf is not None:
            held = filled(samples.points, samples.count, batch)
            sdf = np.asarray(batch.arrays[samples.sdf.name])
            negative, held = sdf < 0, held & np.isfinite(sdf)
            low, high = _band(_outside(samples, batch.recipe), settings.kept)
            yield _share_positive(samples.sdf.name, negative, held, low, high)
            yield _beyond(batch, samples.points.name, samples.sdf.name, negative, held, settings)
    for pool in families(batch.schema, QueryPool):
        if pool.signed is not None:
            negative = np.asarray(batch.arrays[pool.signed.name]) < 0
            held = np.ones(negative.shape, bool)
            yield _share_positive(pool.signed.name, negative, held, _pool_low(batch.recipe, settings), 1.0)
            yield _beyond(batch, pool.points.name, pool.signed.name, negative, held, settings)
    for grid in families(batch.schema, SdfGrid):
        negative = (np.asarray(batch.arrays[grid.grid.name]) < 0).reshape(len(batch), -1)
        beyond = _cells_beyond(grid.grid.shape[0], settings.radius)
        low = float(beyond.mean())
        yield _share_positive(grid.grid.name, negative, np.ones(negative.shape, bool), low, 1.0)
        yield _share_beyond(grid.grid.name, negative, np.broadcast_to(beyond, negative.shape), batch.recipe, settings)


def _overall(table: Table, settings: _Settings) -> Iterator[Finding]:
    for samples in families(table.schema, SdfSamples):
        if samples.sdf is None:
            continue
        name = samples.sdf.name
        shares = table.measured[_positive(name)].values
        shares = shares[~np.isnan(shares)]
        if len(shares) == 0:
            continue
        low, high = _band(_outside(samples, table.recipe), settings.kept_on_average)
        mean, deviation = float(shares.mean()), float(shares.std())
        if not low <= mean <= high:
            message = f"expected a mean {_positive(name)} from {low:.3g} to {high:.3g} over all rows, got {mean:.3g}"
            yield _finding("error", message, name, "mean", mean, low, high)
        if deviation > settings.deviation:
            message = (
                f"expected a standard deviation of the {_positive(name)} of at most {settings.deviation:.3g} over all "
                f"rows, got {deviation:.3g}: the inside is guessed, or rows differ in how they were sampled"
            )
            yield _finding("warning", message, name, "deviation", deviation, None, settings.deviation)


def _finding(
    severity: Severity, message: str, name: str, what: str, value: float, low: float | None, high: float
) -> Finding:
    return Finding(
        severity=severity,
        check=CHECK.name,
        message=message,
        place=name,
        measure=f"{what} of the {_positive(name)}",
        value=value,
        low=low,
        high=high,
        remedy=REMEDY,
    )


def _positive(name: str) -> str:
    return f"share of {name} that is positive"


def _outside(samples: SdfSamples, recipe: Recipe) -> float:
    """The expected share of samples outside; a cache does not say, and its programs aim at one half."""
    if samples.where == "volume" and recipe.volume is not None:
        return 1 - recipe.volume.inside_ratio
    return 0.5


def _band(outside: float, kept: float) -> tuple[float, float]:
    """Least and largest share of samples outside, so that a part of either side is there."""
    return kept * outside, 1 - kept * (1 - outside)


def _pool_low(recipe: Recipe, settings: _Settings) -> float:
    """Least share of a pool outside: its uniform part fills the cube, of which the unit ball is pi / 6."""
    uniform = 1 - recipe.queries.near_ratio if recipe.queries is not None else 0.0
    return settings.kept * uniform * (1 - np.pi / 6)


def _share_positive(name: str, negative: Array, held: Array, low: float, high: float) -> Measure:
    return Measure(_positive(name), _share(held & ~negative, held), low, high, arrays=(name,), remedy=REMEDY)


def _beyond(batch: Batch, points: str, name: str, negative: Array, held: Array, settings: _Settings) -> Measure:
    positions = np.asarray(batch.arrays[points])
    beyond = held & (np.einsum("nki,nki->nk", positions, positions) > settings.radius**2)
    return _share_beyond(name, negative, beyond, batch.recipe, settings)


def _share_beyond(name: str, negative: Array, beyond: Array, recipe: Recipe, settings: _Settings) -> Measure:
    # Outside of its label map an `edt` field is extrapolated, along a structure that the map's border cuts.
    edt = recipe.labels is not None and recipe.labels.distance == "edt"
    return Measure(
        f"share of {name} beyond the unit ball that is negative",
        _share(beyond & negative, beyond),
        high=settings.inside_beyond,
        arrays=(name,),
        remedy=REMEDY,
        severity="warning" if edt else None,
    )


def _share(chosen: Array, among: Array) -> NDArray[np.float64]:
    """(n,) how much of `among` is chosen; NaN where there is nothing."""
    total = np.count_nonzero(among, axis=1)
    return np.where(total > 0, np.count_nonzero(chosen, axis=1) / np.maximum(total, 1), np.nan)


@lru_cache(maxsize=4)
def _cells_beyond(size: int, radius: float) -> NDArray[np.bool_]:
    """(size^3,) which cell centres are beyond a radius."""
    centres = cell_centres(size)
    return np.asarray(np.einsum("ij,ij->i", centres, centres) > radius**2)


CHECK = Check(
    name="sign-balance",
    about=(
        "Share of samples outside, against what the recipe asks for, and that nothing beyond the unit ball, where no "
        "normalised shape reaches, is inside: signs that are flipped, lost, or all the same."
    ),
    severity="error",
    settings=_Settings,
    applies=needs(SdfSamples, QueryPool, SdfGrid),
    measure=_measure,
    overall=_overall,
)
