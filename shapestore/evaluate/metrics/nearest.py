"""Nearest neighbours between the points of two surfaces, in both directions: what all distance metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from shapestore.errors import UsageError
from shapestore.preprocess.geometry.normalise import LARGEST_RADIUS


@dataclass(frozen=True, eq=False)
class NearestPairs:
    """Each point of either surface with its nearest point of the other, by Euclidean distance.

    Attributes
    ----------
    to_truth
        (n,) float64: distances from the predicted points to the truth, in the unit of the points.
    to_prediction
        (m,) float64: distances from the true points to the prediction.
    in_truth
        (n,) int64: which true point is nearest to each predicted one.
    in_prediction
        (m,) int64: which predicted point is nearest to each true one.
    """

    to_truth: NDArray[np.float64]
    to_prediction: NDArray[np.float64]
    in_truth: NDArray[np.int64]
    in_prediction: NDArray[np.int64]


def nearest_pairs(prediction: ArrayLike, truth: ArrayLike) -> NearestPairs:
    """Pair the points of two sampled surfaces up.

    Points drawn by `sample_surface`, equally likely everywhere, make the metrics those of the surfaces, but two
    samples of one surface lie apart too: of n points on an area A, the nearest is farther than r from a place of the
    surface with probability exp(-pi n r^2 / A). So a perfect prediction has a Chamfer distance of 0.5 sqrt(A / n) and
    a 95 % Hausdorff distance of 0.98 sqrt(A / n): choose n for what is to be told apart. Units are the caller's;
    `Frame.invert` brings normalised points back to millimetres.

    Parameters
    ----------
    prediction
        (n, 3) positions, n >= 1.
    truth
        (m, 3) positions in the same unit and frame, m >= 1.

    Returns
    -------
    NearestPairs
        O((n + m) log(n + m)) on surfaces.

    Raises
    ------
    UsageError
        If a set has no point, another shape, or a coordinate that is NaN or beyond 1e50.
    """
    predicted, true = _checked("prediction", prediction), _checked("truth", truth)
    to_truth, in_truth = map(np.asarray, _tree(true).query(predicted))
    to_prediction, in_prediction = map(np.asarray, _tree(predicted).query(true))
    return NearestPairs(to_truth, to_prediction, in_truth.astype(np.int64), in_prediction.astype(np.int64))


def _tree(points: NDArray[np.float64]) -> cKDTree:
    # Far from a surface many of its points are almost equally near, and a query visits all their nodes. Large leaves
    # and plain splits make that 5 to 7 times as fast (benchmarks/metrics.py), and cost nothing where surfaces are near.
    return cKDTree(points, leafsize=64, compact_nodes=False, balanced_tree=False)


def _checked(name: str, points: ArrayLike) -> NDArray[np.float64]:
    """(n, 3) float64 points that have distances."""
    positions = np.ascontiguousarray(points, np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise UsageError(f"{name} has shape {positions.shape}, not (n, 3): pass one position a row")
    if len(positions) == 0:
        raise UsageError(
            f"{name} has no points, and no distance to an empty surface is defined: report the case as one without "
            "a surface beside the mean, where its IoU of 0 tells of it"
        )
    far = int(np.count_nonzero(~(np.abs(positions) <= LARGEST_RADIUS).all(axis=1)))
    if far:
        raise UsageError(
            f"{far} of {len(positions)} points of {name} have a coordinate that is NaN or beyond {LARGEST_RADIUS:g}: "
            "look where they were made"
        )
    return positions
