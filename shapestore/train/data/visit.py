"""`Visit`: which sample is asked for, and for the how manyth time."""

from __future__ import annotations

from typing import NamedTuple


class Visit(NamedTuple):
    """One look at one shape. With the dataset's seed and the shape's id it names a sample: the same draws for ever."""

    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody needs here
    """Position of the shape in the dataset."""
    epoch: int = 0
    repeat: int = 0
    """How often the epoch came to the shape before."""
