"""sign-confidence: how far the signs of a mesh can be trusted, by ingest and by the normals of its surface."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy.spatial import cKDTree
from scipy.special import betaincinv

from shapestore.quality.check import Array, Batch, Check, Measure, Settings, Table, chosen, families, needs
from shapestore.quality.finding import Finding
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import MeshFacts, Points, QueryPool, SignFacts
from shapestore.schemas.store_schema import StoreSchema

_Pair = tuple[ArraySpec, ArraySpec]

TRUSTED = "confidence of the sign"

NEIGHBOURS = 8
"""Surface points whose normals are asked. With 4, a flange within their reach leads half a percent astray."""

DECIDED = 0.2
"""Least share of positions that the normals must decide: fewer say little of the shape."""

DOUBT = 0.05
"""Chance that a share of rows is called too large although it is not."""

REMEDY = "Look at the mesh: it has holes or sheets, and no clear inside. Leave it out of what learns signs."


class _Settings(Settings):
    """Bounds of confidence. Figures: 60 clean and damaged meshes of known occupancy, 29 real ones."""

    queries: PositiveInt = 512
    """Query positions of a row whose sign is compared with the normals: a share of 0.99 is known to 0.005."""
    trusted: float = Field(0.9, ge=0, le=1)
    """Least confidence, as a warning. Above it, no more than 0.01 % of the signs were wrong; below it, up to 18 %."""
    confirmed: float = Field(0.985, ge=0, le=1)
    """Share of positions on which the normals agree from which their word counts where the mesh leaves doubts, as holes
    and panels of no thickness do. Above it, no more than 0.01 % of the signs were wrong; at 0.967, 4 % were."""
    doubtful: float = Field(0.1, ge=0, le=1)
    """Most share of rows below `trusted`, with 95 % confidence, as a warning on the store. Of the real meshes, 3 of 29
    are, two of them open shells without an inside: more, and the raw meshes are of a kind to learn no signs from."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    agreement = np.full(len(batch), np.nan)
    for pool, surface in _voters(batch.schema):
        agreement = _agreement(batch, pool, surface, settings.queries)
        name = f"share of {pool[1].name} with the sign of the normals in {surface[1].name}"
        yield Measure(name, agreement, arrays=(pool[1].name, surface[1].name))
    for facts in families(batch.schema, SignFacts):
        name = facts.confidence.name
        confidence = np.asarray(batch.index[name], np.float64)
        yield Measure(name, confidence, arrays=(name,))
        confirmed = np.where(agreement >= settings.confirmed, np.maximum(agreement, confidence), confidence)
        yield Measure(TRUSTED, confirmed, settings.trusted, arrays=(name,), remedy=REMEDY)
    for mesh in families(batch.schema, MeshFacts):
        for flag in mesh.flags:
            yield Measure(flag.name, np.asarray(batch.index[flag.name], np.float64))
        outward = np.asarray(batch.index[mesh.volume.name]) > 0
        yield Measure(f"{mesh.volume.name} is positive", outward.astype(np.float64))


def _voters(schema: StoreSchema) -> Iterator[tuple[_Pair, _Pair]]:
    """Positions with signs, and surface points with normals, where the store holds both."""
    for pool, surface in product(families(schema, QueryPool), families(schema, Points)):
        if pool.signed is not None and surface.normals is not None:
            yield (pool.points, pool.signed), (surface.points, surface.normals)


def _agreement(batch: Batch, pool: _Pair, surface: _Pair, count: int) -> NDArray[np.float64]:
    """(n,) share of query positions whose sign is that by the normals around them, of those that they decide.

    A position is outside where it lies in front of the planes of all the nearest surface points, and inside where it
    lies behind all of them. NaN where values are not finite, or the normals decide next to nothing: at thin walls and
    sheets, which have normals both ways.
    """
    agreement = np.full(len(batch), np.nan)
    positions, signs, points, normals = (np.asarray(batch.arrays[spec.name]) for spec in (*pool, *surface))
    queries = chosen(batch.index["seed"], positions.shape[1], count)
    for row, asked in enumerate(queries):
        own = positions[row, asked], signs[row, asked], points[row], normals[row]
        if all(np.isfinite(values).all() for values in own):
            agreement[row] = _share_of_agreement(*own)
    return agreement


def _share_of_agreement(positions: Array, signs: Array, points: Array, normals: Array) -> float:
    nearest = cKDTree(points).query(positions, k=np.arange(1, min(NEIGHBOURS, len(points)) + 1))[1]
    height = np.einsum("kmi,kmi->km", positions[:, None] - points[nearest], normals[nearest])
    outside, inside = (height > 0).all(axis=1), (height < 0).all(axis=1)
    decided = outside | inside
    return float(np.mean(inside[decided] == (signs[decided] < 0))) if decided.mean() >= DECIDED else math.nan


def _overall(table: Table, settings: _Settings) -> Iterator[Finding]:
    if TRUSTED not in table.measured:
        return
    values = table.measured[TRUSTED].values
    rows, doubtful = len(values), int(np.count_nonzero(values < settings.trusted))
    # The lower end of the interval of Clopper and Pearson (Biometrika 26, 1934).
    surely = float(betaincinv(doubtful, rows - doubtful + 1, DOUBT)) if doubtful else 0.0
    if surely > settings.doubtful:
        yield Finding(
            severity="warning",
            check=CHECK.name,
            message=(
                f"expected a {TRUSTED} of at least {settings.trusted:.3g} in all but {settings.doubtful:.3g} of the "
                f"rows, got less in {doubtful:,} of {rows:,} rows"
            ),
            measure="share of rows whose signs are in doubt",
            value=doubtful / rows,
            high=settings.doubtful,
            remedy="Look at some of them: the raw meshes are open, or the method does not suit them.",
        )


CHECK = Check(
    name="sign-confidence",
    about=(
        "Whether inside and outside of a mesh can be told apart: by the confidence that ingest recorded, and by the "
        "share of query positions whose sign is that of the normals around them."
    ),
    severity="warning",
    settings=_Settings,
    applies=needs(SignFacts, MeshFacts),
    measure=_measure,
    overall=_overall,
)
