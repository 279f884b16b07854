"""fps-law: a farthest-point order is one of the pool that it names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from shapestore.kernel import kernel
from shapestore.quality.check import Array, Batch, Check, Measure, Settings, chosen, families, needs
from shapestore.schemas.families import FpsOrder

FARTHEST = 1e18
"""Coordinates beyond this, NaN among them, have no squares in float32."""


class _Settings(Settings):
    """Bounds in normalised units. An order of ingest keeps all of them to the last bit of float32."""

    gate: bool = True
    """It takes 2 ms a row, and is certain: no order of another pool comes near to keeping the law."""
    witnesses: PositiveInt = 2048
    """Points of the pool that are looked at beside those in the order: all of a cloud of 2048, and enough of a larger
    pool, since an order that leaves out a part of it leaves out each of its points."""
    tolerance: float = Field(1e-3, ge=0)
    """How much farther than the next point of the order another one may be. Ours are exact; an order by float32
    squares of differences is wrong by 1e-7, by products (|a|^2 - 2ab + |b|^2) by 5e-5 between points 0.01 apart. The
    order of another pool is wrong by 0.2 and more: its points come as if drawn at random."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    for family in families(batch.schema, FpsOrder):
        name, size = family.order.name, family.pool_size
        orders, pools = np.asarray(batch.arrays[name]), np.asarray(batch.arrays[family.pool])
        witnesses = chosen(batch.index["seed"], size, settings.witnesses)
        gaps = np.full((len(batch), 3), np.nan)
        for row, (order, pool) in enumerate(zip(orders, pools, strict=True)):
            # Else the schema's rules say so, and there is no distance to compare.
            if order.min() >= 0 and order.max() < size and (np.abs(pool) < FARTHEST).all():
                gaps[row] = _gaps(pool, order, pool[witnesses[row]])
        remedy = f"Compute it again from its own pool: shapestore derive STORE {name}."
        kinds = (
            f"how far the start of {name} falls short of the point farthest from the centroid",
            f"largest growth of the distances along {name}",
            f"how far the next of {name} falls short of the farthest point",
        )
        for column, kind in enumerate(kinds):
            # A cache may start anywhere; ours start where the family says.
            lenient = column == 0 and batch.recipe.cache is not None
            yield Measure(
                name=kind,
                values=gaps[:, column],
                high=settings.tolerance,
                unit="normalised units",
                arrays=(name, family.pool),
                remedy=remedy,
                severity="warning" if lenient else None,
            )


def _gaps(pool: Array, order: Array, witnesses: Array) -> tuple[float, float, float]:
    """How far an order is from each part of the law, in normalised units."""
    centred = pool - pool.mean(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->i", centred, centred)
    start = float(np.sqrt(squares.max()) - np.sqrt(squares[order[0]]))
    ordered = np.ascontiguousarray(pool[order].T, np.float32)
    others = np.ascontiguousarray(witnesses.T, np.float32)
    own, farthest = _distances(ordered, others)
    growth = float(np.diff(own).max(initial=0.0))
    next_own = own[2 ** np.arange(len(farthest)) - 1]
    return start, growth, float((farthest - next_own).max(initial=0.0))


@kernel
def _distances(
    ordered: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances to the prefixes of an order, from (3, k) ordered points and (3, m) others.

    Returns (k - 1,) the distance of each next point to those before it, and for the prefixes of 1, 2, 4, ... points
    the largest distance of any of the others.
    """
    count = ordered.shape[1]
    x, y, z = ordered[0], ordered[1], ordered[2]  # unpacked, they would not be known to be contiguous
    nearest = np.full(count, np.float32(np.inf))
    of_others = np.full(others.shape[1], np.float32(np.inf))
    own = np.empty(count - 1)
    farthest = np.empty(64)
    looks = 0
    for rank in range(count - 1):
        later = rank + 1
        _approach(x[later:], y[later:], z[later:], x[rank], y[rank], z[rank], nearest[later:])
        _approach(others[0], others[1], others[2], x[rank], y[rank], z[rank], of_others)
        own[rank] = np.sqrt(np.float64(nearest[later]))
        if later == 1 << looks:
            farthest[looks] = np.sqrt(np.float64(of_others.max()))
            looks += 1
    return own, farthest[:looks]


@kernel
def _approach(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    to_x: float,
    to_y: float,
    to_z: float,
    nearest: NDArray[np.float32],
) -> None:
    """Lower squared distances to those to one more position; without branches, so that it is vectorised."""
    for at in range(len(x)):
        dx, dy, dz = x[at] - to_x, y[at] - to_y, z[at] - to_z
        nearest[at] = min(nearest[at], dx * dx + dy * dy + dz * dz)


CHECK = Check(
    name="fps-law",
    about=(
        "A farthest-point order starts farthest from the centroid, each next point is the farthest from those before "
        "it, and so their distances never grow: orders of another pool, or of none."
    ),
    severity="error",
    settings=_Settings,
    applies=needs(FpsOrder),
    measure=_measure,
)
