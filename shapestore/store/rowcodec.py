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

_ZSTD_MAGIC = (0xFD2FB528).to_bytes(4, "little")


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
    """Decode an inner chunk of a packed array into a read-only row, its checksum unread.

    Raises
    ------
    ValueError
        The bytes are no zstd frame of a row of this array.
    """
    frame = bytes(memoryview(chunk)[:-CHECKSUM_BYTES])
    # Compared before any memory is taken: a few bytes may declare as much as there is.
    if _content_size(frame) != spec.row_bytes:
        raise ValueError(f"it declares other than the {spec.row_bytes} bytes of a row")
    row = np.empty(spec.shape, spec.numpy_dtype)
    try:
        zstd.decompress(frame, row)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    row.flags.writeable = False
    return row


def _content_size(frame: bytes) -> int:
    """Uncompressed size that a zstd frame declares in its header (RFC 8878, 3.1.1.1); -1 where it declares none."""
    flags = frame[len(_ZSTD_MAGIC)] if frame.startswith(_ZSTD_MAGIC) and len(frame) > len(_ZSTD_MAGIC) else 0
    single_segment = bool(flags & 0x20)
    width = (int(single_segment), 2, 4, 8)[flags >> 6]
    start = len(_ZSTD_MAGIC) + 1 + (not single_segment) + (0, 1, 2, 4)[flags & 0x03]
    field = frame[start : start + width]
    if not width or len(field) < width:
        return -1
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def fill_row(spec: ArraySpec) -> NDArray[Any]:
    """The row of a shape that has no data."""
    return np.full(spec.shape, spec.fill, spec.numpy_dtype)
