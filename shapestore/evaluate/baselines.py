"""What a model must beat: guesses from the training cases alone, as label maps on one normalised grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import UsageError
from shapestore.evaluate.metrics.chamfer import chamfer_l1
from shapestore.evaluate.metrics.nearest import nearest_pairs


def mean_label_map(maps: NDArray[np.int8]) -> NDArray[np.int8]:
    """What most cases are in each cell: the same guess for every case, whatever its input.

    A cell is inside where more than half of the cases are, of whatever class; its class is the most frequent one
    there. So the classes do not lose votes to the outside where several of them meet.

    Parameters
    ----------
    maps
        (k, r, r, r) int8 codes of the training cases, 0 outside, on the grid of one normalised frame; k >= 1.

    Returns
    -------
    NDArray[np.int8]
        (r, r, r); of equally frequent classes the lowest. O(classes k r^3) time.

    Raises
    ------
    UsageError
        If there is no case, or codes are negative.
    """
    if len(maps) == 0:
        raise UsageError("the mean label map needs at least one training case: look at the store's split")
    if maps.min() < 0:
        raise UsageError(f"label maps hold codes from 0 (outside) up, got {maps.min()}")
    mean, most = np.zeros(maps.shape[1:], np.int8), np.zeros(maps.shape[1:], np.int64)
    for code in range(1, int(maps.max()) + 1):
        votes = _votes(maps, code)
        mean[votes > most] = code
        np.maximum(most, votes, out=most)
    return np.where(2 * _votes(maps, 0) < len(maps), mean, np.int8(0))


def nearest_case(surface: ArrayLike, cases: Sequence[ArrayLike]) -> int:
    """The training case whose surface is nearest to the input, by `chamfer_l1`: its label map is the guess.

    It compares where the surfaces are, not their classes.

    Parameters
    ----------
    surface
        (s, 3) surface points of the case to be guessed, normalised.
    cases
        Surface points of each training case, (s_i, 3) and normalised; at least one case.

    Returns
    -------
    int
        Index into `cases`, of equally near ones the first.

    Raises
    ------
    UsageError
        If there is no case; as `nearest_pairs` of the points.
    """
    if len(cases) == 0:
        raise UsageError("the nearest training case needs at least one: look at the store's split")
    return int(np.argmin([chamfer_l1(nearest_pairs(case, surface)) for case in cases]))


def _votes(maps: NDArray[np.int8], code: int) -> NDArray[np.int64]:
    """(r, r, r) number of cases with this code, compared case by case: no mask of all the maps is made."""
    votes = np.zeros(maps.shape[1:], np.int64)
    for case in maps:
        votes += case == code
    return votes
