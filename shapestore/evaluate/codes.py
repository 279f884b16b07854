"""Classes as a model answers them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapestore.evaluate.metrics.overlap import inside


def predicted_codes(sdf: NDArray[np.floating], logits: NDArray[np.floating]) -> NDArray[np.int8]:
    """Class of each position: 0 outside, else that of the largest logit, of equal ones the lowest.

    Parameters
    ----------
    sdf
        (...) signed distances, negative inside.
    logits
        (..., C) of the classes 1 to C, C >= 1.

    Returns
    -------
    NDArray[np.int8]
        (...) codes.

    Raises
    ------
    UsageError
        As `inside`: a distance is NaN.
    """
    largest = (logits.argmax(axis=-1) + 1).astype(np.int8)
    return np.where(inside(sdf), largest, np.int8(0))
