"""`ArraySpec`: what one array of a store is, before any value of it exists."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from shapestore.schemas.base import Strict

Kind = Literal["mapped", "packed", "index"]
"""How an array lies on disk: memory-mapped rows, compressed rows, or one value a row in large chunks."""

DType = Literal[
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32", "int64", "float64", "string"
]

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A node name that every Zarr implementation, file system and Python keyword argument accepts."""


class Code(Strict):
    """One declared value of a coded array."""

    value: int
    """The number in the array."""
    name: str = Field(min_length=1)
    """What it means, spelt exactly."""


class ArraySpec(Strict):
    """One array: its first dimension is always `shape` (the row), the rest is declared here."""

    name: Name
    """Name of the array in the store."""
    dims: tuple[Name, ...]
    """Names of the dimensions after `shape`."""
    shape: tuple[PositiveInt, ...]
    """Sizes of the dimensions after `shape`: the shape of one row."""
    dtype: DType
    """Type of one value; at most 4 bytes wide unless the array is an index."""
    kind: Kind = "mapped"
    """How it lies on disk."""
    units: str = "1"
    """Unit of the values; `1` for normalised coordinates and pure numbers."""
    long_name: str
    """What the values are, in a few words."""
    role: str
    """The schema family that the array belongs to."""
    fill: int | float | str = 0
    """Value of rows that hold no data."""
    pool: Name | None = None
    """For an order: the array that it orders."""
    codes: tuple[Code, ...] = ()
    """For a coded array: every value that may occur."""
    comment: str = ""
    """What a reader must know to use the values, such as a grid's cell convention."""

    @model_validator(mode="after")
    def _dims_match_shape(self) -> Self:
        """Every dimension has a name, and no name occurs twice."""
        if len(self.dims) != len(self.shape) or len({"shape", *self.dims}) != len(self.dims) + 1:
            raise ValueError(f"{self.name}: dims {self.dims} do not name shape {self.shape}, each once")
        return self

    @model_validator(mode="after")
    def _narrow_unless_index(self) -> Self:
        """Rows that are viewed in place hold values of at most 4 bytes.

        A row is followed by a 4-byte checksum, so wider values would lie unaligned, which torch refuses.
        """
        if self.kind != "index" and self.dtype in ("int64", "float64", "string"):
            raise ValueError(f"{self.name}: {self.dtype} is only possible in an index array")
        return self

    @model_validator(mode="after")
    def _half_floats_are_packed(self) -> Self:
        """16-bit floats are for packed grids only; mapped ones are float32."""
        if self.dtype == "float16" and self.kind != "packed":
            raise ValueError(f"{self.name}: float16 is only possible in a packed array")
        return self

    @model_validator(mode="after")
    def _fill_is_a_value(self) -> Self:
        """The fill is a value that the type can hold."""
        if self.dtype == "string":
            fits = isinstance(self.fill, str)
        else:
            fits = not isinstance(self.fill, str) and self._holds(self.fill)
        if not fits:
            raise ValueError(f"{self.name}: {self.fill!r} is no {self.dtype}")
        return self

    @model_validator(mode="after")
    def _codes_are_distinct_values(self) -> Self:
        """Every code is a value of the type, and neither a value nor a meaning is declared twice."""
        values, names = {code.value for code in self.codes}, {code.name for code in self.codes}
        if len(values) < len(self.codes) or len(names) < len(self.codes) or not all(map(self._holds, values)):
            raise ValueError(f"{self.name}: codes must be different {self.dtype} values with different meanings")
        return self

    def _holds(self, value: float) -> bool:
        if self.numpy_dtype.kind == "f":
            return True
        limits = np.iinfo(self.dtype)
        return value == int(value) and limits.min <= value <= limits.max

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The little-endian numpy type of one value (object for strings)."""
        if self.dtype == "string":
            return np.dtype(object)
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        """Bytes of one uncompressed row, without its checksum."""
        return prod(self.shape) * self.numpy_dtype.itemsize
