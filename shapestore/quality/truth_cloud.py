"""Raw point clouds by other means than those of ingest: whole datasets of h5py, text by numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLOUD_SUFFIXES: Final = (".h5", ".txt")
"""Suffixes of the files that are read, lower case."""


def read_cloud(path: Path, position: int | None) -> Floats:
    """Read the (n, 3) points of a cloud: row `position` of `data` in an h5 file, or the first columns of a text file.

    Raises
    ------
    ValueError, OSError, KeyError
        The file does not hold it.
    """
    if path.suffix.lower() != ".h5":
        return np.loadtxt(path, np.float64, delimiter=",", usecols=(0, 1, 2), ndmin=2)
    if position is None:
        raise ValueError(f"{path.name} holds several clouds, and none of them is known to be the row's")
    with h5py.File(path, "r") as file:
        return np.asarray(file["data"][position], np.float64)
