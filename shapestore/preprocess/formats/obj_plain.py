"""OBJ files as most programs write them, read in one pass over their bytes: much faster than record by record."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.text_rows import fill_odd, noted
from shapestore.preprocess.formats.text_scan import (
    is_line_end,
    is_space,
    line_end,
    next_row,
    scan_float,
    scan_int,
    token_end,
    token_start,
)

_Bytes = NDArray[np.uint8]


def parse_plain_obj(data: bytes, no_surface: Iterable[bytes]) -> PolygonSoup | None:
    """Read a file in which no record goes on in a second line.

    Buffers are as large as the file could need; of what it does not need nothing is ever touched, so that memory
    stays below ten bytes a byte of the file.

    Parameters
    ----------
    data
        The file, as `text_bytes` gives it: its last byte ends a line.
    no_surface
        Keywords of the records to read over.

    Returns
    -------
    PolygonSoup or None
        What `parse_obj` returns, or None if the file is not that plain or not right.
    """
    known = np.array([int.from_bytes(word) for word in no_surface if len(word) < 8], np.int64)
    vertices, odd, corners, sizes, plain = _records(np.frombuffer(data, np.uint8), known)
    if not (plain and fill_odd(data, vertices, odd)):
        return None
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        return None
    return PolygonSoup(vertices, corners, sizes)


@kernel
def _records(
    data: _Bytes, no_surface: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], bool]:
    """Vertices, their odd numbers, corners from 0, sizes, and whether the file is plain."""
    # The shortest vertex is "v 0 0 0" and its line end, the shortest face alike, the shortest corner " 1".
    vertices = np.empty((len(data) // 8 + 1, 3))
    corners = np.empty(len(data) // 2 + 1, np.int64)
    sizes = np.empty(len(data) // 8 + 1, np.int64)
    odd = np.empty((8, 3), np.int64)
    vertex, corner, face, odds = 0, 0, 0, 0
    plain = True
    at = next_row(data, 0, True)
    while at < len(data) and plain:
        stop = token_end(data, at)
        keyword = _word(data, at, stop)
        at = stop
        if keyword == 118:  # v
            for axis in range(3):
                at = token_start(data, at, True)
                plain &= not is_line_end(data[at])
                number, stop, exact = scan_float(data, at)
                vertices[vertex, axis] = number
                if not exact:
                    odd = noted(odd, odds, 3 * vertex + axis, at, stop)
                    odds += 1
                at = stop
            vertex += 1
        elif keyword == 102:  # f
            first = corner
            at = token_start(data, at, True)
            while not is_line_end(data[at]):
                index, at, whole = scan_int(data, at)
                corners[corner] = index + vertex if index < 0 else index - 1
                plain &= whole and (is_space(data[at]) or data[at] == 47)  # a slash: other indices follow
                corner += 1
                at = token_start(data, token_end(data, at), True)
            plain &= corner - first >= 3
            sizes[face] = corner - first
            face += 1
        else:
            plain = (no_surface == keyword).any()
        end = line_end(data, at)
        plain &= data[end - 1] != 92  # a backslash: the record goes on in the next line
        at = next_row(data, end, True)
    return vertices[:vertex].copy(), odd[:odds], corners[:corner].copy(), sizes[:face].copy(), plain


@kernel
def _word(data: _Bytes, start: int, stop: int) -> np.int64:
    """The bytes of a short token as one big-endian number, 0 for a long one."""
    word = np.int64(0)
    if stop - start < 8:
        for at in range(start, stop):
            word = word * 256 + np.int64(data[at])
    return word
