"""Hausdorff distance of two sampled surfaces; `nearest_pairs` makes what they take."""

from __future__ import annotations

import numpy as np

from shapestore.evaluate.metrics.nearest import NearestPairs


def hausdorff95(pairs: NearestPairs) -> float:
    """Larger of the two directed 95th percentiles of distances, in the unit of the points.

    The ranked Hausdorff distance of Huttenlocher et al., "Comparing images using the Hausdorff distance", IEEE PAMI
    15(9), 1993, with linear interpolation between ranks. It needs evenly drawn points, of which each stands for the
    same area. MedPy instead takes one percentile of the distances of both directions together, which is smaller where
    only one surface has something that the other lacks: figures of the two conventions must not be compared
    (Podobnik and Vrtovec, arXiv:2410.02630, 2024, on how much tools differ).
    """
    return float(max(np.percentile(pairs.to_truth, 95), np.percentile(pairs.to_prediction, 95)))
