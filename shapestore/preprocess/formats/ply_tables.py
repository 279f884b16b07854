"""The tables of a PLY file as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.ply_header import Element


@dataclass(frozen=True, eq=False)
class ListColumn:
    """Lists of one property, row after row.

    Attributes
    ----------
    items
        (N,) numbers of all rows.
    lengths
        (rows,) int64, >= 0, N in sum.
    """

    items: NDArray[np.generic]
    lengths: NDArray[np.int64]


Column = NDArray[np.generic] | ListColumn
"""(rows,) numbers of a scalar property, or lists."""

Tables = dict[str, dict[str, Column]]
"""Element name to property name to column."""


def column_of(items: NDArray[np.generic], lengths: ArrayLike | None) -> Column:
    """A column of numbers: lists if there are lengths."""
    return items if lengths is None else ListColumn(items, np.asarray(lengths, np.int64))


def name_of(element: Element) -> str:
    """An element as messages call it."""
    return f"element {element.name!r} of {counted(element.rows, 'row')}"
