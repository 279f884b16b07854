"""One row to the bytes of one inner chunk and back: `bytes` little-endian, zstd where packed, crc32c last.

The same codec chain as the arrays' metadata declare (Zarr v3: bytes, zstd, crc32c), written for whole rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import zstd
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec

CHECKSUM_BYTES = 4
ZSTD_LEVEL = 3


def crc32c(data: Any) -> int:
    """Crc32c (Castagnoli) of a contiguous buffer."""
    # The library takes bytes and arrays, but no memoryview.
    value: int = google_crc32c.value(data if isinstance(data, bytes) else np.frombuffer(data, np.uint8))
    return value


def row_encoder(spec: ArraySpec) -> Callable[[NDArray[Any]], bytes]:
    """Make the function that turns a row of `spec` into an inner chunk with its checksum."""
    packed = spec.kind == "packed"
    dtype = spec.numpy_dtype

    def encode(row: NDArray[Any]) -> bytes:
        body = np.ascontiguousarray(row, dtype=dtype).tobytes()
        if packed:
            body = zstd.compress(body, ZSTD_LEVEL)
        return body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little")

    return encode


def checksum_holds(chunk: Any) -> bool:
    """Whether the last 4 bytes of an inner chunk are the crc32c of the rest."""
    view = memoryview(chunk)
    if len(view) <= CHECKSUM_BYTES:
        return False  # nothing, whose checksum is 0, is no row
    return crc32c(view[:-CHECKSUM_BYTES]) == int.from_bytes(view[-CHECKSUM_BYTES:], "little")


def unpack_row(spec: ArraySpec, chunk: Any) -> NDArray[Any]:
    """Decode an inner chunk of a packed array, checksum left out.

    Raises
    ------
    ValueError
        The bytes are no zstd frame of a row of this array.
    """
    try:
        body = zstd.decompress(bytes(memoryview(chunk)[:-CHECKSUM_BYTES]))
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    if len(body) != spec.row_bytes:
        raise ValueError(f"{len(body)} bytes where a row has {spec.row_bytes}")
    return np.frombuffer(body, spec.numpy_dtype).reshape(spec.shape)


def fill_row(spec: ArraySpec) -> NDArray[Any]:
    """The row of a shape that has no data."""
    return np.full(spec.shape, spec.fill, spec.numpy_dtype)
