"""OFF, the object file format of Geomview: counts, vertices, polygons, as text."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.text import parse_floats, parse_ints, text_lines, tokens_of
from shapestore.preprocess.formats.text_blocks import float_columns, natural_rows

_HEADER: Final = re.compile(rb"(?:ST)?C?N?(4?n?)OFF(.*)", re.DOTALL)
"""The keyword: which numbers follow a position, the dimensions, and what is glued to it."""

_Lines = list[tuple[int, bytes]]
"""1-based numbers and content of lines."""


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
        The file, as `text_lines` takes it.

    Raises
    ------
    InputRefused
        UNSUPPORTED for binary and four-dimensional OFF; TRUNCATED if fewer lines follow than the counts declare;
        MALFORMED, with the number of the line, for everything else that is not as described.
    """
    lines = _lines_of_data(data)
    number, tokens = _take_counts(lines)
    vertex_count, face_count, *_ = parse_ints(tokens, lambda _: number).tolist()
    if vertex_count < 0 or face_count < 0:
        raise _malformed(number, "a negative count")
    rest = len(lines) - vertex_count - face_count
    if rest < 0:
        raise InputRefused(
            Reason.TRUNCATED,
            f"declares {counted(vertex_count, 'position')} and {counted(face_count, 'face')}, one a line; "
            f"the file holds {counted(len(lines), 'line')} of data",
        )
    vertices = _vertices(lines[:vertex_count])
    corners, sizes, flat = _faces(lines[vertex_count : vertex_count + face_count])
    notes = []
    if flat:
        notes.append(f"{counted(flat, 'face')} of fewer than three corners ignored")
    if rest:
        notes.append(f"{counted(rest, 'line')} after the last face ignored")
    return PolygonSoup(vertices, corners, sizes, tuple(notes))


def _lines_of_data(data: bytes) -> _Lines:
    """The lines that hold anything but comments, without these."""
    lines = text_lines(data)
    if b"#" in data:
        lines = [b" ".join(tokens_of(line)) for line in lines]
    return [(number, line) for number, line in enumerate(lines, 1) if line and not line.isspace()]


def _take_counts(lines: _Lines) -> tuple[int, list[bytes]]:
    """Take the keyword and the counts off `lines`; returns the line and the tokens of the counts."""
    number, line = lines[0] if lines else (1, b"")
    keyword, *tokens = line.split() or [b""]
    header = _HEADER.fullmatch(keyword)
    if header is None:
        raise _malformed(number, "the keyword OFF is due")
    if header[1]:
        raise InputRefused(Reason.UNSUPPORTED, "OFF with other than three dimensions")
    tokens = [header[2], *tokens] if header[2] else tokens
    if tokens[:1] == [b"BINARY"]:
        raise InputRefused(Reason.UNSUPPORTED, "binary OFF; only text is read")
    del lines[0]
    if not tokens:
        if not lines:
            raise InputRefused(Reason.TRUNCATED, "the file ends after the keyword OFF")
        number, line = lines.pop(0)
        tokens = line.split()
    if len(tokens) not in (2, 3):
        raise _malformed(number, "the numbers of vertices, faces and edges are due")
    return number, tokens


def _vertices(lines: _Lines) -> NDArray[np.float64]:
    """(V, 3) positions."""
    plain = float_columns([line for _, line in lines], 0)
    if plain is not None:
        return plain
    tokens = []
    for number, line in lines:
        numbers = line.split()
        if len(numbers) < 3:
            raise _malformed(number, f"a vertex of {counted(len(numbers), 'number')}")
        tokens += numbers[:3]
    return parse_floats(tokens, lambda position: lines[position // 3][0]).reshape(-1, 3)


def _faces(lines: _Lines) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Corners and sizes of the polygons, and the number of faces that are none."""
    plain = natural_rows([line for _, line in lines])
    if plain is not None:
        rows, separators = plain
        size = int(rows[0, 0])
        if size >= 3 and b"/" not in separators and size < rows.shape[1] and (rows[:, 0] == size).all():
            corners = np.ascontiguousarray(rows[:, 1 : size + 1])
            return corners.reshape(-1), np.full(len(rows), size, np.int64), 0
    return _faces_by_line(lines)


def _faces_by_line(lines: _Lines) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """As `_faces`, whatever the faces look like."""
    split = [line.split() for _, line in lines]
    announced = parse_ints([tokens[0] for tokens in split], lambda position: lines[position][0])
    corners: list[bytes] = []
    owners: list[int] = []
    sizes = []
    for (number, _), tokens, size in zip(lines, split, announced.tolist(), strict=True):
        if not 0 <= size < len(tokens):
            raise _malformed(number, f"a face of {size} corners, of which {len(tokens) - 1} follow")
        if size >= 3:
            corners += tokens[1 : size + 1]
            owners += [number] * size
            sizes.append(size)
    return parse_ints(corners, owners.__getitem__), np.array(sizes, np.int64), len(lines) - len(sizes)


def _malformed(line: int, what: str) -> InputRefused:
    return InputRefused(Reason.MALFORMED, f"line {line}: {what}")
