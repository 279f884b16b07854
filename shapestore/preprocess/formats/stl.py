"""STL, binary or text: triangles, whose equal corners are joined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.formats.checks import counted, refuse_short, to_float64
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.text import parse_floats, text_bytes
from shapestore.preprocess.formats.text_rows import fill_odd, noted
from shapestore.preprocess.formats.text_scan import (
    is_line_end,
    line_end,
    next_row,
    scan_float,
    token_end,
    token_start,
)
from shapestore.preprocess.geometry.mesh import distinct_positions

_HEADER: Final = 84
"""80 bytes of anything, then the number of facets."""

_FACET: Final = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])

_FACET_LINES: Final = ("facet", "outer", "vertex", "vertex", "vertex", "endloop", "endfacet")


def parse_stl(data: bytes) -> PolygonSoup:
    """Read the facets of all solids of an STL file; the stored normals are not used.

    The format has no shared vertices: corners at equal positions become one. A file is binary if its size is what
    its header says, or if it is no text: binary files that start with the keyword of the text form are common.

    Parameters
    ----------
    data
        The file.

    Raises
    ------
    InputRefused
        TRUNCATED if the header declares more facets than there are bytes for, or a text ends within a solid;
        MALFORMED, with the number of the line, for a text that breaks the grammar.
    """
    declared = int.from_bytes(data[_HEADER - 4 : _HEADER], "little") if len(data) >= _HEADER else 0
    size = _HEADER + _FACET.itemsize * declared
    if len(data) >= _HEADER and len(data) == size:
        return _soup(_binary_corners(data, declared), ())
    if re.match(rb"\s*solid\b", data) and b"\0" not in data:
        return _soup(_text_corners(text_bytes(data)), ())
    refuse_short("the header of a binary STL file", _HEADER, len(data))
    refuse_short(f"a binary STL file of {counted(declared, 'facet')}", size, len(data))
    rest = counted(len(data) - size, "byte")
    return _soup(_binary_corners(data, declared), (f"{rest} after the last facet ignored",))


def _soup(corners: NDArray[np.float64], notes: tuple[str, ...]) -> PolygonSoup:
    """Facets of (3 F, 3) corners."""
    first, label = distinct_positions(corners)
    return PolygonSoup(corners[first], label, np.full(len(label) // 3, 3, np.int64), notes)


def _binary_corners(data: bytes, facets: int) -> NDArray[np.float64]:
    """(3 F, 3) corners of the facets in a binary file."""
    rows = np.frombuffer(data, _FACET, facets, _HEADER)
    return to_float64(rows["corners"].reshape(-1, 3))


def _text_corners(text: bytes) -> NDArray[np.float64]:
    """(3 F, 3) corners of the facets in a text file."""
    quick = _quick_corners(text)
    if quick is not None:
        return quick
    rows = list(_vertex_rows(text))
    tokens = [token for _, row in rows for token in row]
    return parse_floats(tokens, lambda position: rows[position // 3][0]).reshape(-1, 3)


def _quick_corners(text: bytes) -> NDArray[np.float64] | None:
    """As `_text_corners`, or None for a text that is not right."""
    keywords = np.array([int.from_bytes(word.encode()) for word in (*_FACET_LINES, "solid", "endsolid")], np.int64)
    corners: NDArray[np.float64]
    corners, odd, plain = _plain_corners(np.frombuffer(text, np.uint8), keywords)
    return corners if plain and fill_odd(text, corners, odd) else None


def _vertex_rows(text: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Line and numbers of each vertex; refuses a text that breaks the grammar."""
    expected = 0
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        keyword, *tokens = line.split() or [b""]
        keyword = keyword.lower()
        if not keyword:
            continue
        if expected == 0 and keyword == (b"endsolid" if inside else b"solid"):
            inside = not inside
            continue
        due = _FACET_LINES[expected] if inside else "solid"
        if keyword != due.encode() or (due == "vertex" and len(tokens) != 3):
            raise InputRefused(Reason.MALFORMED, f"line {number}: {line[:40]!r} where {due!r} is due")
        if due == "vertex":
            yield number, tokens
        expected = (expected + 1) % len(_FACET_LINES)
    if inside:
        raise InputRefused(Reason.TRUNCATED, "the text ends within a solid: endsolid is missing")


@kernel
def _plain_corners(
    data: NDArray[np.uint8], keywords: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], bool]:
    """Corners, their odd numbers, and whether the text keeps the grammar.

    `keywords` are the words of `_FACET_LINES`, then those that start and end a solid, as big-endian numbers.
    """
    # The shortest vertex is "vertex 0 0 0" and its line end; untouched memory costs nothing.
    corners = np.empty((len(data) // 13 + 1, 3))
    odd = np.empty((8, 3), np.int64)
    corner, odds, expected = 0, 0, 0
    inside = False
    at = next_row(data, 0, False)
    while at < len(data):
        stop = token_end(data, at)
        keyword = _lower_word(data, at, stop)
        at = stop
        if expected == 0 and keyword == keywords[len(keywords) - 1 if inside else len(keywords) - 2]:
            inside = not inside
        elif inside and keyword == keywords[expected]:
            if keyword == keywords[2]:
                for axis in range(3):
                    at = token_start(data, at, False)
                    if is_line_end(data[at]):
                        return corners, odd, False
                    number, stop, exact = scan_float(data, at)
                    corners[corner, axis] = number
                    if not exact:
                        odd = noted(odd, odds, 3 * corner + axis, at, stop)
                        odds += 1
                    at = stop
                if not is_line_end(data[token_start(data, at, False)]):
                    return corners, odd, False
                corner += 1
            expected = (expected + 1) % (len(keywords) - 2)
        else:
            return corners, odd, False
        at = next_row(data, line_end(data, at), False)
    return corners[:corner].copy(), odd[:odds], not inside


@kernel
def _lower_word(data: NDArray[np.uint8], start: int, stop: int) -> np.int64:
    """The bytes of a token in lower case as one big-endian number, 0 for a token of more than eight bytes."""
    word = np.int64(0)
    if stop - start <= 8:
        for at in range(start, stop):
            word = word * 256 + np.int64(data[at]) + (32 if 65 <= data[at] <= 90 else 0)
    return word
