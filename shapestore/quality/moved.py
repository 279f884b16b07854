"""Moved: which numbers are distributed otherwise in one store than in another, by what both validations measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from shapestore.quality.check import Table
from shapestore.schemas.base import Strict

CHANCE: Final = 0.01
"""Probability that any measure at all of two like stores is said to have moved: the bound on a single p-value is this,
divided by the number of measures (Bonferroni)."""

LEAST_GAP: Final = 0.1
"""Smallest Kolmogorov-Smirnov statistic that is told: one row in ten lies on another side of some number. Between two
stores of 50 000 rows a gap of 0.02 is no chance either, but nobody would act on it; and two default samples of 460 rows
cannot show a smaller one than 0.14, were 60 measures compared."""


class Moved(Strict):
    """One measure that is distributed otherwise in two stores."""

    check: str
    measure: str
    rows: int
    """Rows that were measured."""
    other_rows: int
    """Rows of the other store that were measured."""
    median: float
    other_median: float
    gap: float
    """Kolmogorov-Smirnov statistic, 0 to 1: the largest difference of the two cumulative distributions."""
    p: float
    """Probability of such a gap, or a larger one, between samples of one distribution."""
    effect: float
    """Cliff's delta, -1 to 1: how much more often a row has a larger number than one of the other store has, than a
    smaller one. About 0 with a large gap: the numbers spread otherwise around the same middle."""


def moved(mine: Mapping[str, Table], other: Mapping[str, Table]) -> tuple[Moved, ...]:
    """Compare every measure that two stores have, over the rows that were checked.

    Parameters
    ----------
    mine, other
        What each check measured, by its name; both validations of the same level.

    Returns
    -------
    tuple[Moved, ...]
        Those beyond both bounds, the widest gap first.
    """
    pairs = list(_pairs(mine, other))
    found = [_compared(check, measure, one, two) for check, measure, one, two in pairs]
    told = [each for each in found if each.gap >= LEAST_GAP and each.p < CHANCE / len(pairs)]
    return tuple(sorted(told, key=lambda each: (-each.gap, each.check, each.measure)))


def _pairs(
    mine: Mapping[str, Table], other: Mapping[str, Table]
) -> Iterator[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]:
    """Check, measure and the sorted numbers of both stores, where both have any."""
    for check in mine.keys() & other.keys():
        measures, others = mine[check].measured, other[check].measured
        for name in measures.keys() & others.keys():
            one, two = (np.sort(values[~np.isnan(values)]) for values in (measures[name].values, others[name].values))
            if len(one) and len(two):
                yield check, name, one, two


def _compared(check: str, measure: str, one: NDArray[np.float64], two: NDArray[np.float64]) -> Moved:
    # The exact p-value takes seconds for samples of thousands, in which it equals the asymptotic one.
    test = ks_2samp(one, two, method="asymp")
    return Moved(
        check=check,
        measure=measure,
        rows=len(one),
        other_rows=len(two),
        median=float(np.median(one)),
        other_median=float(np.median(two)),
        gap=float(test.statistic),
        p=float(test.pvalue),
        effect=cliffs_delta(one, two),
    )


def cliffs_delta(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """P(x > y) - P(x < y) for x of `one` and y of `two`, both sorted (Cliff, 1993)."""
    below = np.searchsorted(two, one, side="left")
    not_above = np.searchsorted(two, one, side="right")
    return float((below - (len(two) - not_above)).mean() / len(two))
