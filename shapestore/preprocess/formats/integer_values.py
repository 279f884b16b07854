"""Numbers as a file holds them to the smallest integers that hold them, without a copy in float."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason

TOLERANCE: Final = 1e-4
"""Values at most this far from an integer are that integer: room for scaling and resampling in 32-bit floats."""

_EXACT: Final = 2.0**53
"""From here on float64 no longer tells neighbouring integers apart."""

_STEP: Final = 1 << 16
"""Numbers scaled at once: few enough that the floats in between weigh nothing."""

_SHOWN: Final = 3


def to_integers(numbers: NDArray[Any], slope: float, inter: float) -> NDArray[np.integer[Any]]:
    """Scale and round.

    Parameters
    ----------
    numbers
        (n,) real numbers of any type and byte order.
    slope, inter
        value = number * slope + inter, in float64. 1 and 0 keep integers as they are, all 64 bits of them.

    Returns
    -------
    NDArray
        (n,) values in the smallest integer dtype, unsigned unless one of them is negative; `numbers` itself where
        that is its dtype already.

    Raises
    ------
    InputRefused
        NOT_LABELS if a value is NaN, infinite, beyond 2**53, or further than `TOLERANCE` from an integer.
    """
    unscaled = slope == 1 and inter == 0
    if unscaled and numbers.dtype.kind in "iu":
        dtype = _smallest(int(numbers.min()), int(numbers.max()))
        return numbers.astype(dtype, copy=False)
    bounds = [(int(rounded.min()), int(rounded.max())) for rounded in _rounded(numbers, slope, inter)]
    dtype = _smallest(min(low for low, _ in bounds), max(high for _, high in bounds))
    values = np.empty(len(numbers), dtype)
    position = 0
    for rounded in _rounded(numbers, slope, inter):
        values[position : position + len(rounded)] = rounded
        position += len(rounded)
    return values


def _smallest(low: int, high: int) -> np.dtype[Any]:
    """The smallest integer dtype, unsigned if possible, in which both bounds fit."""
    # A signed type that holds -n - 1 holds n, and none smaller does.
    return np.min_scalar_type(high if low >= 0 else min(low, -high - 1))


def _rounded(numbers: NDArray[Any], slope: float, inter: float) -> Iterator[NDArray[np.float64]]:
    """The values, step by step, each checked to be an integer."""
    for start in range(0, len(numbers), _STEP):
        with np.errstate(all="ignore"):  # NaN and infinity are told by the comparison below
            values = numbers[start : start + _STEP].astype(np.float64) * slope + inter
            rounded = np.rint(values)
            good = (np.abs(values - rounded) <= TOLERANCE) & (np.abs(values) < _EXACT)
        if not good.all():
            shown = ", ".join(f"{value:g}" for value in np.unique(values[~good])[:_SHOWN])
            raise InputRefused(Reason.NOT_LABELS, f"holds values that are no integers, such as {shown}")
        yield rounded
