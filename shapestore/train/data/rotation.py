"""Rotations of samples: no mirrors, so that what is on the left stays what it is called."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def random_rotation(random: np.random.Generator, degrees: float) -> NDArray[np.float32]:
    """A rotation about an evenly distributed axis, by an evenly distributed angle of at most `degrees`.

    Parameters
    ----------
    random
        What is drawn from.
    degrees
        Largest angle, 0 to 180.

    Returns
    -------
    (3, 3) float32
        Orthogonal, of determinant 1: Rodrigues' formula.
    """
    axis = random.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.radians(random.uniform(-degrees, degrees))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.asarray(rotation, np.float32)
