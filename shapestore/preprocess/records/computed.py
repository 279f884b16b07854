"""What a record builder returns: arrays, the frame that they are in, and remarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from shapestore.preprocess.geometry.normalise import Frame


@dataclass(frozen=True)
class Computed:
    """Everything of a record that depends on its raw data."""

    arrays: Mapping[str, NDArray[Any]]
    """Every array of the recipe's schema."""
    frame: Frame
    """How to get from raw to normalised coordinates."""
    notes: tuple[str, ...] = ()
    """Remarks for whoever reads the row."""
