"""Index arrays: one value a row, in chunks of 65 536 rows, so that a commit rewrites only the chunks that it touches.

A chunk's digest covers the committed rows alone. A writer may therefore extend the last chunk before it commits, and
readers of the previous commit still find theirs unchanged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numcodecs import VLenUTF8
from numpy.typing import NDArray

from shapestore.schemas.array import DType
from shapestore.store.rowcodec import CHECKSUM_BYTES, crc32c

_STRINGS = VLenUTF8()
_STRING_HEADER_BYTES = 4


@dataclass(frozen=True)
class Column:
    """One index array."""

    path: str
    """Where it lies in the store, such as `valid` or `quarantine/reason`."""
    dtype: DType | str
    """Type of one value, or `bool`."""
    long_name: str
    shape: tuple[int, ...] = ()
    """Shape of one value."""
    dims: tuple[str, ...] = ("shape",)
    """Names of all dimensions, the rows' first."""
    fill: Any = 0
    """Value where nothing was written."""
    units: str = "1"
    chunk_rows: int = 65_536
    """Rows of a chunk."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Further attributes of the array."""

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The little-endian numpy type; object for strings."""
        return np.dtype(object) if self.dtype == "string" else np.dtype(self.dtype).newbyteorder("<")

    def empty(self, rows: int) -> NDArray[Any]:
        """`rows` values of fill."""
        values: NDArray[Any] = np.full((rows, *self.shape), self.fill, self.numpy_dtype)
        return values

    def chunk_path(self, chunk: int) -> str:
        """Path in the store of one chunk."""
        return "/".join([self.path, "c", str(chunk), *["0"] * len(self.shape)])

    def encode(self, values: NDArray[Any]) -> bytes:
        """A whole chunk from its first values; the rest is fill."""
        whole = self.empty(self.chunk_rows)
        whole[: len(values)] = values
        body = self._bytes(whole)
        return body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little")

    def decode(self, data: bytes, rows: int) -> NDArray[Any]:
        """The first `rows` values of a chunk.

        Raises
        ------
        ValueError
            The bytes are not those of a chunk of this array.
        """
        body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        if crc32c(body) != int.from_bytes(checksum, "little"):
            raise ValueError("it does not match its checksum")
        strings = self.dtype == "string"
        values: NDArray[Any] = _STRINGS.decode(body) if strings else np.frombuffer(body, self.numpy_dtype)
        if values.size != np.prod((self.chunk_rows, *self.shape)):
            raise ValueError("it does not have the size of a chunk")
        return values.reshape(self.chunk_rows, *self.shape)[:rows]

    def digest(self, values: NDArray[Any]) -> str:
        """Sha256 of committed values of one chunk."""
        body = self._bytes(values)
        return hashlib.sha256(body[_STRING_HEADER_BYTES:] if self.dtype == "string" else body).hexdigest()

    def _bytes(self, values: NDArray[Any]) -> bytes:
        if self.dtype == "string":
            return bytes(_STRINGS.encode(values.astype(object)))
        return np.ascontiguousarray(values, self.numpy_dtype).tobytes()


def coded(names: tuple[str, ...]) -> dict[str, Any]:
    """CF attributes of a column of codes 0, 1, ...: meanings without blanks, and the exact names beside them."""
    if not names:
        return {"categories": []}
    meanings = " ".join("_".join(name.split()) or "_" for name in names)
    return {"flag_values": list(range(len(names))), "flag_meanings": meanings, "categories": list(names)}
