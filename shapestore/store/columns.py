"""Index arrays: one value a row, in chunks of 65 536 rows, so that a commit rewrites only the chunks that it touches.

A chunk's digest covers the committed rows alone. A writer may therefore extend the last chunk before it commits, and
readers of the previous commit still find theirs unchanged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numcodecs import VLenUTF8
from numpy.typing import NDArray

from shapestore.schemas.array import DType
from shapestore.store.log import require_log
from shapestore.store.rowcodec import CHECKSUM_BYTES, crc32c

MAX_STRINGS_BYTES = 2**30
"""Most bytes of a chunk of strings: 16 KiB for each of 65 536 rows, as much as a long traceback."""

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

    @property
    def most_bytes(self) -> int:
        """Most bytes of the file of one chunk."""
        return MAX_STRINGS_BYTES if self.dtype == "string" else self.chunk_rows * self._value_bytes + CHECKSUM_BYTES

    @property
    def _value_bytes(self) -> int:
        return prod(self.shape) * self.numpy_dtype.itemsize

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
            The bytes are not those of a chunk of this array, or no values that it may have.
        """
        body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        if crc32c(body) != int.from_bytes(checksum, "little"):
            raise ValueError("it does not match its checksum")
        strings = self.dtype == "string"
        # Compared before anything is decoded: four bytes may declare 2^32 strings.
        declared = int.from_bytes(body[:_STRING_HEADER_BYTES], "little") if strings else len(body)
        if declared != self.chunk_rows * (1 if strings else self._value_bytes):
            raise ValueError("it does not have the size of a chunk")
        values = self.decode_prefix(body, rows)
        self._require_meaning(values)
        return values

    def _require_meaning(self, values: NDArray[Any]) -> None:
        """What no checksum says: that every code but -1 has a name, and that a log can be read."""
        names = self.attributes.get("categories")
        if names is not None and not ((values >= -1) & (values < len(names))).all():
            raise ValueError(f"it has codes {values.min()} to {values.max()}, of which {len(names)} have a name")
        require_log(self.path, values)

    def decode_prefix(self, data: bytes, rows: int) -> NDArray[Any]:
        """The first `rows` values of a chunk of which the rest, and so the checksum, may be damaged.

        Raises
        ------
        ValueError
            They are not there, or are no values of this array.
        """
        if self.dtype == "string":
            whole = rows.to_bytes(_STRING_HEADER_BYTES, "little") + data[_STRING_HEADER_BYTES:]
            values: NDArray[Any] = _STRINGS.decode(whole)
        else:
            values = np.frombuffer(data[: rows * self._value_bytes], self.numpy_dtype)
        return values.reshape(rows, *self.shape)

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
