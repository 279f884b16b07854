"""IoU of two sets, each given as a boolean for every query or cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError

Mask = NDArray[np.bool_]


def inside(sdf: NDArray[np.floating]) -> Mask:
    """Where a signed distance says inside: below 0, so that the surface itself is outside.

    The one convention of this package; the distances of truth and prediction both go through here.

    Parameters
    ----------
    sdf
        Signed distances of any shape and unit, negative inside.

    Returns
    -------
    Mask
        Same shape.

    Raises
    ------
    UsageError
        If a distance is NaN, which would silently count as outside.
    """
    undefined = _count(np.isnan(sdf))
    if undefined:
        raise UsageError(
            f"{undefined} of {sdf.size} signed distances are NaN, so no inside is known there: look for a run that "
            "diverged, or for queries that are NaN"
        )
    return np.asarray(sdf < 0)


def iou(prediction: Mask, truth: Mask) -> float:
    """Intersection over union |A and B| / |A or B| (Jaccard, "The distribution of the flora in the alpine zone", 1912).

    Parameters
    ----------
    prediction, truth
        Booleans of one shape, at least one element.

    Returns
    -------
    float
        In [0, 1], symmetric. 1 if both sets are empty; nothing is added to the quotient.

    Raises
    ------
    UsageError
        If shapes differ, an array has no element, or one is not boolean.
    """
    _check_masks(prediction, truth)
    return ratio(_count(prediction & truth), _count(prediction | truth))


def ratio(shared: int, total: int) -> float:
    """`shared` of `total`; 1 where both sets are empty, which then are equal."""
    return shared / total if total else 1.0


def check_pair(prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    """Refuse arrays that do not speak of the same places, or of none.

    Raises
    ------
    UsageError
        If shapes differ or are empty.
    """
    if prediction.shape != truth.shape:
        raise UsageError(
            f"prediction {prediction.shape} and truth {truth.shape} differ in shape: evaluate both at the same queries"
        )
    if truth.size == 0:
        raise UsageError(f"nothing to compare: the arrays have shape {truth.shape}; evaluate at least one query")


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _check_masks(prediction: Mask, truth: Mask) -> None:
    check_pair(prediction, truth)
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_:
            raise UsageError(f"{name} is {mask.dtype}, not bool: pass inside(sdf) or labels > 0")
