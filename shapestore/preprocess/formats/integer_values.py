"""Numbers as a file holds them to the smallest integers that hold them, without a copy in float."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason

TOLERANCE: Final = 1e-4
"""Values at most this far from an integer are that integer: room for scaling and resampling in 32-bit floats."""

_EXACT: Final = 2.0**53
"""From here on float64 no longer tells neighbouring integers apart."""

_SHOWN: Final = 3


def to_integers(blocks: Iterable[NDArray[Any]], count: int, slope: float, inter: float) -> NDArray[np.integer[Any]]:
    """Scale and round.

    Parameters
    ----------
    blocks
        Real numbers of one type and byte order, in pieces: a piece and the result are all that is in memory, and of
        the result no more than is not 0.
    count
        How many they are in all, 1 or more.
    slope, inter
        value = number * slope + inter, in float64. 1 and 0 keep integers as they are, all 64 bits of them.

    Returns
    -------
    NDArray
        (count,) values in the smallest integer dtype, unsigned unless one of them is negative.

    Raises
    ------
    InputRefused
        NOT_LABELS if a value is NaN, infinite, beyond 2**53, or further than `TOLERANCE` from an integer.
    """
    values: NDArray[np.integer[Any]] = np.zeros(count, np.uint8)
    low, high, position = 0, 0, 0
    for numbers in blocks:
        unscaled = slope == 1 and inter == 0 and numbers.dtype.kind in "iu"
        block = numbers if unscaled else _rounded(numbers, slope, inter)
        low, high = min(low, int(block.min())), max(high, int(block.max()))
        values = values.astype(_smallest(low, high), copy=False)
        if block.any():  # pages of zeros that are never written take no memory
            values[position : position + len(block)] = block
        position += len(block)
    return values


def _smallest(low: int, high: int) -> np.dtype[Any]:
    """The smallest integer dtype, unsigned if possible, in which both bounds fit."""
    # A signed type that holds -n - 1 holds n, and none smaller does.
    return np.min_scalar_type(high if low >= 0 else min(low, -high - 1))


def _rounded(numbers: NDArray[Any], slope: float, inter: float) -> NDArray[np.float64]:
    """The values, each checked to be an integer."""
    with np.errstate(all="ignore"):  # NaN and infinity are told by the comparison below
        values = numbers.astype(np.float64) * slope + inter
        rounded: NDArray[np.float64] = np.rint(values)
        good = (np.abs(values - rounded) <= TOLERANCE) & (np.abs(values) < _EXACT)
    if not good.all():
        shown = ", ".join(f"{value:g}" for value in np.unique(values[~good])[:_SHOWN])
        raise InputRefused(Reason.NOT_LABELS, f"holds values that are no integers, such as {shown}")
    return rounded
