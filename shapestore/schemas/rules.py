"""The rules of the schema: each is written here once.

A rule measures one number a row, and holds where that number is at most `limit`. Records are checked with it before
they are written; `validate` runs the same object over a whole store. Every function below makes the rule that it is
named after. Rows come as arrays with the row as first dimension; where an array is filled only up to a count, entries
past it are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import Problem

Array = NDArray[Any]
Rows = Mapping[str, Array]

CUBE_TOLERANCE = 1e-6
"""How far normalised coordinates may leave [-1, 1]: one rounding of float32."""

UNIT_TOLERANCE = 1e-5
"""How far the length of a unit vector may be from 1 in float32."""


@dataclass(frozen=True)
class Rule:
    """One thing that holds for every row."""

    name: str
    """Its name, in reports and in quarantine."""
    arrays: tuple[str, ...]
    """The arrays it reads; the first is the one to blame."""
    expected: str
    """What must hold, as a phrase after 'expected'."""
    unit: str
    """What the measured number counts or measures, as a phrase after the number."""
    remedy: str
    """What a person can do about a row that breaks it."""
    measure: Callable[[Rows], Array]
    """(n, ...) arrays to (n,) float64: how far each row is from keeping the rule."""
    limit: float = 0.0
    """The largest measured number that keeps the rule."""

    def broken(self, measured: Array) -> NDArray[np.bool_]:
        """(n,) True where a row breaks the rule; a measured NaN breaks it."""
        return ~(measured <= self.limit)

    def problems(self, rows: Rows, places: Iterable[str]) -> list[Problem]:
        """One problem for every row that breaks the rule; `places` names the rows."""
        measured = self.measure(rows)
        broken = self.broken(measured)
        if not broken.any():
            return []
        return [
            Problem(
                f"{place}/{self.arrays[0]}",
                f"{self.expected} [{self.name}]",
                f"{value:.9g} {self.unit}",
                self.remedy,
            )
            for place, value, bad in zip(places, measured.tolist(), broken.tolist(), strict=True)
            if bad
        ]


def _per_row(bad: Array, rows: Rows, count: str | None) -> Array:
    """Number of bad entries a row, those past the row's count left out."""
    if count is not None:
        inside = np.arange(bad.shape[1]) < rows[count][:, None]
        bad = bad & inside.reshape(*inside.shape, *[1] * (bad.ndim - 2))
    counted: Array = np.count_nonzero(bad.reshape(len(bad), -1) if bad.size else bad[:, None], axis=1).astype(
        np.float64
    )
    return counted


def _largest(values: Array, rows: Rows, count: str | None) -> Array:
    """Largest value a row, entries past the row's count left out; 0 for an empty row."""
    if count is not None:
        inside = np.arange(values.shape[1]) < rows[count][:, None]
        values = np.where(inside.reshape(*inside.shape, *[1] * (values.ndim - 2)), values, 0)
    flat = values.reshape(len(values), -1) if values.size else np.zeros((len(values), 1))
    largest: Array = flat.max(axis=1, initial=0).astype(np.float64)
    return largest


def finite(array: str, count: str | None = None) -> Rule:
    """No value is NaN or infinite."""
    return Rule(
        "finite",
        (array, *filter(None, [count])),
        "finite values",
        "values that are NaN or infinite",
        "Look at the raw file: its geometry is broken or out of range.",
        lambda rows: _per_row(~np.isfinite(rows[array]), rows, count),
    )


def within_cube(array: str, count: str | None = None) -> Rule:
    """Normalised coordinates lie within [-1, 1] + 1e-6 on every axis."""
    return Rule(
        "within-cube",
        (array, *filter(None, [count])),
        "coordinates within [-1, 1] + 1e-6",
        "as largest coordinate",
        "The points are not normalised: check shift and scale.",
        lambda rows: _largest(np.abs(rows[array]), rows, count),
        1 + CUBE_TOLERANCE,
    )


def unit_vectors(array: str, count: str | None = None, where: str | None = None) -> Rule:
    """Every vector has length 1 within 1e-5; with `where`, only where that array is not 0."""

    def measure(rows: Rows) -> Array:
        lengths = np.sqrt(np.einsum("...i,...i->...", rows[array], rows[array], dtype=np.float64))
        error = np.abs(lengths - 1)
        if where is not None:
            error = np.where(rows[where] != 0, error, 0)
        return _largest(error, rows, count)

    return Rule(
        "unit-vectors",
        (array, *filter(None, [count, where])),
        "vectors of length 1 within 1e-5",
        "as largest error of a length",
        "Normalise the vectors, or leave the array out where there are none.",
        measure,
        UNIT_TOLERANCE,
    )


def order_prefix(order: str, pool_size: int, pool: str) -> Rule:
    """An order lists different indices into its pool: it is a prefix of a permutation of it."""

    def measure(rows: Rows) -> Array:
        ranks = np.sort(rows[order], axis=1)
        repeated = np.count_nonzero(ranks[:, 1:] == ranks[:, :-1], axis=1)
        outside = np.count_nonzero((ranks < 0) | (ranks >= pool_size), axis=1)
        wrong: Array = (repeated + outside).astype(np.float64)
        return wrong

    return Rule(
        "order-prefix",
        (order,),
        f"different indices into {pool} ({pool_size} points)",
        "indices that repeat or point outside",
        f"Compute it again: shapestore derive STORE {order}.",
        measure,
    )


def non_negative(array: str, count: str | None = None) -> Rule:
    """An unsigned quantity is never below 0."""
    return Rule(
        "non-negative",
        (array, *filter(None, [count])),
        "values >= 0",
        "negative values",
        "A signed quantity, or a marker such as -1, was stored as an unsigned one.",
        lambda rows: _per_row(rows[array] < 0, rows, count),
    )


def share(array: str) -> Rule:
    """A part of a whole lies within 0 and 1."""
    return Rule(
        "share",
        (array,),
        "a share of 0 to 1",
        "as distance from that range",
        "Compute it again: it is no share.",
        lambda rows: np.abs(rows[array].astype(np.float64) - np.clip(rows[array], 0, 1)),
    )


def differs_in_sign_only(signed: str, unsigned: str) -> Rule:
    """A signed distance has the magnitude of the unsigned one."""
    return Rule(
        "differs-in-sign-only",
        (signed, unsigned),
        f"the magnitudes of {unsigned}",
        "values of another magnitude",
        "Take magnitude and sign from the same surface.",
        lambda rows: _per_row(np.abs(rows[signed]) != rows[unsigned], rows, None),
    )


def hit_has_depth(hit: str, depth: str) -> Rule:
    """A ray that hits has a finite depth t >= 0."""
    return Rule(
        "hit-has-depth",
        (depth, hit),
        "a finite t >= 0 wherever a ray hits",
        "hits without one",
        "Trace the rays again.",
        lambda rows: _per_row((rows[hit] != 0) & ~(np.isfinite(rows[depth]) & (rows[depth] >= 0)), rows, None),
    )


def labelled_where_inside(labels: str, sdf: str, count: str | None = None) -> Rule:
    """A label is > 0 exactly where the signed distance is < 0."""
    return Rule(
        "labelled-where-inside",
        (labels, sdf, *filter(None, [count])),
        f"label > 0 exactly where {sdf} < 0",
        "points that disagree",
        "Derive labels and distances from the same field.",
        lambda rows: _per_row((rows[labels] > 0) != (rows[sdf] < 0), rows, count),
    )


def declared_codes(array: str, values: Iterable[int], count: str | None = None) -> Rule:
    """Only declared codes occur."""
    allowed = sorted(values)
    return Rule(
        "declared-codes",
        (array, *filter(None, [count])),
        f"codes out of {_short(allowed)}",
        "values that are not declared",
        "Declare the code in the recipe, or map it to a declared one.",
        lambda rows: _per_row(~np.isin(rows[array], allowed), rows, count),
    )


def count_within(count: str, capacity: int) -> Rule:
    """A count lies within 0 and the capacity of what it counts."""
    return Rule(
        "count-within",
        (count,),
        f"a count of 0 to {capacity}",
        "as distance from that range",
        "Build the store with a larger capacity.",
        lambda rows: np.abs(rows[count].astype(np.float64) - np.clip(rows[count], 0, capacity)),
    )


def _short(values: list[int]) -> str:
    """Values for a message: all of them, or the ends of a long list."""
    if len(values) <= 12:
        return "{" + ", ".join(map(str, values)) + "}"
    return f"{{{values[0]}, {values[1]}, ..., {values[-1]}}}"
