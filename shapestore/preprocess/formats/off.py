"""OFF, the object file format of Geomview: counts, vertices, polygons, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.text import parse_floats, parse_ints, text_bytes, tokens_of
from shapestore.preprocess.formats.text_rows import float_columns, list_rows, rows_left

_KEYWORD: Final = re.compile(rb"(?:ST)?C?N?(4?n?)OFF(.*)", re.DOTALL)
"""The keyword: which numbers follow a position, the dimensions, and what is glued to it."""

_LINE: Final = re.compile(rb"([^\r\n]*)(?:\r\n|\r|\n)")

_Lines = list[tuple[int, bytes]]
"""1-based numbers and content of lines."""


@dataclass(frozen=True)
class _Header:
    """What the first lines declare."""

    vertices: int
    faces: int
    size: int
    """Bytes up to the end of the last of these lines."""
    lines: int
    """Number of these lines, comments and blank ones among them."""


def parse_off(data: bytes) -> PolygonSoup:
    """Read the polygons of an OFF file.

    The header may be OFF, or STOFF, COFF, NOFF and their combinations, and the counts may follow it with or without
    a blank or line end between. The count of edges may be left out. One vertex or face a line; of a vertex the first
    three numbers are read (normal, colour, texture coordinates follow), of a face the indices that its count
    announces (a colour may follow). Comments may stand anywhere.

    A face that announces one or two corners is a point or an edge by the format's definition, so it is left out
    with a note.

    Parameters
    ----------
    data
        The file, as `text_bytes` takes it.

    Raises
    ------
    InputRefused
        UNSUPPORTED for binary and four-dimensional OFF; TRUNCATED if fewer lines follow than the counts declare;
        MALFORMED, with the number of the line, for everything else that is not as described.
    """
    text = text_bytes(data)
    header = _header(text)
    vertices, corners, sizes, rest = _plain(text, header) or _by_line(text, header)
    notes = []
    flat = int((sizes < 3).sum())
    if flat:
        notes.append(f"{counted(flat, 'face')} of fewer than three corners ignored")
        corners, sizes = corners[np.repeat(sizes >= 3, sizes)], sizes[sizes >= 3]
    if rest:
        notes.append(f"{counted(rest, 'line')} after the last face ignored")
    return PolygonSoup(vertices, corners, sizes, tuple(notes))


def _header(text: bytes) -> _Header:
    """Read the keyword and the counts, which may stand on the next line with data."""
    keyword_end, keyword_line, line = next(_data_lines(text, 0, 1), (len(text), 1, b""))
    keyword, *tokens = line.split() or [b""]
    match = _KEYWORD.fullmatch(keyword)
    if match is None:
        raise _malformed(keyword_line, "the keyword OFF is due")
    if match[1]:
        raise InputRefused(Reason.UNSUPPORTED, "OFF with other than three dimensions")
    tokens = [match[2], *tokens] if match[2] else tokens
    if tokens[:1] == [b"BINARY"]:
        raise InputRefused(Reason.UNSUPPORTED, "binary OFF; only text is read")
    size, number = keyword_end, keyword_line
    if not tokens:
        following = next(_data_lines(text, keyword_end, keyword_line + 1), None)
        if following is None:
            raise InputRefused(Reason.TRUNCATED, "the file ends after the keyword OFF")
        size, number, line = following
        tokens = line.split()
    if len(tokens) not in (2, 3):
        raise _malformed(number, "the numbers of vertices, faces and edges are due")
    vertices, faces, *_ = parse_ints(tokens, lambda _: number).tolist()
    if vertices < 0 or faces < 0:
        raise _malformed(number, "a negative count")
    return _Header(vertices, faces, size, number)


def _data_lines(text: bytes, start: int, number: int) -> Iterator[tuple[int, int, bytes]]:
    """End, number and content of the lines from `start` on, which has this number, that hold more than comments."""
    for match in _LINE.finditer(text, start):
        line = b" ".join(tokens_of(match[1]))
        if line:
            yield match.end(), number, line
        number += 1


def _plain(
    text: bytes, header: _Header
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], int] | None:
    """Vertices, corners, sizes and the number of lines left, or None if any line is not right."""
    table = float_columns(text, header.size, header.vertices, (0, 1, 2), 3, comments=True)
    if table is None:
        return None
    vertices, end = table
    lists = list_rows(text, end, header.faces, 0, 0, comments=True)
    if lists is None:
        return None
    corners, sizes, end = lists
    return vertices, corners, sizes, rows_left(text, end, comments=True)


def _by_line(text: bytes, header: _Header) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], int]:
    """As `_plain`; refuses what is not right."""
    lines = [(number, line) for _, number, line in _data_lines(text, header.size, header.lines + 1)]
    rest = len(lines) - header.vertices - header.faces
    if rest < 0:
        raise InputRefused(
            Reason.TRUNCATED,
            f"declares {counted(header.vertices, 'position')} and {counted(header.faces, 'face')}, one a line; "
            f"the file holds {counted(len(lines), 'line')} of data",
        )
    vertices = _vertices(lines[: header.vertices])
    return vertices, *_faces(lines[header.vertices : header.vertices + header.faces]), rest


def _vertices(lines: _Lines) -> NDArray[np.float64]:
    """(V, 3) positions."""
    tokens = []
    for number, line in lines:
        numbers = line.split()
        if len(numbers) < 3:
            raise _malformed(number, f"a vertex of {counted(len(numbers), 'number')}")
        tokens += numbers[:3]
    return parse_floats(tokens, lambda position: lines[position // 3][0]).reshape(-1, 3)


def _faces(lines: _Lines) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners and sizes of the polygons."""
    split = [line.split() for _, line in lines]
    announced = parse_ints([tokens[0] for tokens in split], lambda position: lines[position][0])
    corners: list[bytes] = []
    owners: list[int] = []
    for (number, _), tokens, size in zip(lines, split, announced.tolist(), strict=True):
        if not 0 <= size < len(tokens):
            raise _malformed(number, f"a face of {size} corners, of which {len(tokens) - 1} follow")
        corners += tokens[1 : size + 1]
        owners += [number] * size
    return parse_ints(corners, owners.__getitem__), announced


def _malformed(line: int, what: str) -> InputRefused:
    return InputRefused(Reason.MALFORMED, f"line {line}: {what}")
