"""Chamfer distances, F-score and normal consistency of two sampled surfaces; `nearest_pairs` makes what they take."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import UsageError
from shapestore.evaluate.metrics.nearest import NearestPairs

_UNIT: Final = 1e-3
"""How far a normal's length may be from 1: far more than float32 and files in decimals round."""


def chamfer_l1(pairs: NearestPairs) -> float:
    """Mean of the two mean distances, in the unit of the points; symmetric.

    Mescheder et al., "Occupancy networks", CVPR 2019: the mean of accuracy and completeness. Distances are
    Euclidean; "L1" tells them from squared ones. Others give the sum of the two means: twice this.
    """
    return float(np.mean(pairs.to_truth) + np.mean(pairs.to_prediction)) / 2


def chamfer_l2(pairs: NearestPairs) -> float:
    """Mean of the two mean squared distances, in the squared unit of the points; symmetric.

    After Fan et al., "A point set generation network for 3D object reconstruction from a single image", CVPR 2017, who
    add up the squares. Others give the sum of the two means: twice this. The mean fits `chamfer_l1`, whose square is
    never larger.
    """
    return float(np.mean(pairs.to_truth**2) + np.mean(pairs.to_prediction**2)) / 2


def f_score(pairs: NearestPairs, threshold: float) -> float:
    """Harmonic mean of precision and recall at a distance.

    Knapitsch et al., "Tanks and temples", ACM TOG 36(4), 2017: precision is the share of predicted points
    closer than the threshold to the truth, recall the share of true points closer to the prediction.

    Parameters
    ----------
    pairs
        Of the two surfaces.
    threshold
        Distance that counts as no longer right, in the unit of the points, > 0.

    Returns
    -------
    float
        In [0, 1], symmetric; 0 if no point is close enough.

    Raises
    ------
    UsageError
        If the threshold is no positive number.
    """
    if not 0 < threshold < np.inf:
        raise UsageError(f"the F-score needs a finite distance above 0, got {threshold}")
    precision = float(np.mean(pairs.to_truth < threshold))
    recall = float(np.mean(pairs.to_prediction < threshold))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def normal_consistency(pairs: NearestPairs, prediction_normals: ArrayLike, truth_normals: ArrayLike) -> float:
    """Mean absolute cosine between the normals of nearest points: the mean of both directions' means.

    Mescheder et al., "Occupancy networks", CVPR 2019. The absolute value makes it blind to a surface that is inside
    out, and gives 0.5 to normals that have nothing to do with each other.

    Parameters
    ----------
    pairs
        Of the two surfaces.
    prediction_normals, truth_normals
        (n, 3) and (m, 3) unit normals of the points that were paired.

    Returns
    -------
    float
        In [0, 1], symmetric.

    Raises
    ------
    UsageError
        If there is not one normal of length 1 for each point.
    """
    predicted = _checked("prediction", prediction_normals, len(pairs.to_truth))
    true = _checked("truth", truth_normals, len(pairs.to_prediction))
    there = np.abs((predicted * true[pairs.in_truth]).sum(axis=1))
    back = np.abs((true * predicted[pairs.in_prediction]).sum(axis=1))
    return float(np.mean(there) + np.mean(back)) / 2


def _checked(name: str, normals: ArrayLike, count: int) -> NDArray[np.float64]:
    """(count, 3) float64, of length 1 to the last digit."""
    given = np.asarray(normals, np.float64)
    if given.shape != (count, 3):
        raise UsageError(f"the normals of {name} have shape {given.shape}, its points ({count}, 3): pass one a point")
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    wrong = int(np.count_nonzero(~(np.abs(lengths - 1) <= _UNIT)))
    if wrong:
        raise UsageError(
            f"{wrong} of {count} normals of {name} have no length of 1: normalise them, and draw no point from faces "
            "without an area"
        )
    return np.asarray(given / lengths)
