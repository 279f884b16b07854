"""One array of a store, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec
from shapestore.store.rows import Rows


class ArrayView:
    """One array of a store, row by row."""

    def __init__(self, rows: Rows, spec: ArraySpec, count: int) -> None:
        self._rows = rows
        self._count = count
        self.spec = spec
        """What the array is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with all rows, empty ones included."""
        return (self._count, *self.spec.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""
        return self.spec.numpy_dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions, the row's included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One row, read-only: a view on the mapped file, or a fresh array where the array is packed."""
        return self._rows.row(self.spec, row)

    def __repr__(self) -> str:
        return f"<{self.spec.name}: {self.spec.dtype} {self.shape}, {self.spec.kind}, {self.spec.long_name}>"
