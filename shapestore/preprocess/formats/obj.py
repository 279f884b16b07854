"""Wavefront OBJ: polygons of a text file; materials, groups, normals and texture coordinates are not geometry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.obj_plain import parse_plain_obj
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.text import parse_floats, parse_ints, text_bytes, tokens_of

_NO_SURFACE: Final = frozenset(
    b"vt vn vp g o s mg usemtl mtllib usemap maplib bevel c_interp d_interp lod shadow_obj trace_obj call csh".split()
)
"""Records that say nothing of where the surface is."""

_ELEMENTS: Final = {b"l": "line element", b"p": "point element"}
"""Geometry without area."""

_FREE_FORM: Final = b"surf"
"""A spline surface."""


@dataclass
class _Records:
    """The geometry of a file as tokens, with the line of each record for messages."""

    coordinates: list[bytes] = field(default_factory=list)
    vertex_lines: list[int] = field(default_factory=list)
    corners: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    face_lines: list[int] = field(default_factory=list)
    vertices_before: list[int] = field(default_factory=list)
    """For each face the number of vertices above it, from which negative indices count."""
    ignored: Counter[str] = field(default_factory=Counter)


def parse_obj(data: bytes) -> PolygonSoup:
    """Read the polygons of an OBJ file.

    Of a vertex the first three numbers are read (a weight or colour may follow), of a corner the first index. Lines
    ended by a backslash go on in the next one. Indices count from 1, negative ones back from the last vertex above.

    A face of one or two corners is refused rather than dropped: OBJ does not say how many corners a face should
    have, so that it may be a polygon that lost some.

    Parameters
    ----------
    data
        The file, as `text_bytes` takes it.

    Raises
    ------
    InputRefused
        With the number of the line: MALFORMED for what is no number where one is due, a vertex of fewer than three
        numbers, a face of fewer than three corners; INDEX_RANGE for the index 0 and for those beyond the vertices.
        UNSUPPORTED if there are spline surfaces.
    """
    text = text_bytes(data)
    return parse_plain_obj(text, _NO_SURFACE) or _parse_records(text.splitlines())


def _parse_records(lines: list[bytes]) -> PolygonSoup:
    """Read a file record by record, or refuse it as `parse_obj` says."""
    records = _collect(_logical_lines(lines))
    vertices = parse_floats(records.coordinates, lambda position: records.vertex_lines[position // 3])
    notes = tuple(f"{counted(number, what)} ignored" for what, number in records.ignored.items())
    return PolygonSoup(vertices.reshape(-1, 3), _corners(records), np.array(records.sizes, np.int64), notes)


def _logical_lines(lines: list[bytes]) -> Iterable[tuple[int, bytes]]:
    """Number, from 1, and text of each line; lines that go on in the next are joined under the first number."""
    if not any(line.endswith(b"\\") for line in lines):
        return enumerate(lines, 1)
    return _joined(lines)


def _joined(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """As `_logical_lines`; a backslash in a comment belongs to the comment."""
    start, parts = 1, list[bytes]()
    for number, line in enumerate(lines, 1):
        start = start if parts else number
        if line.endswith(b"\\") and b"#" not in line:
            parts.append(line[:-1])
        else:
            yield start, b" ".join([*parts, line])
            parts = []
    if parts:
        yield start, b" ".join(parts)


def _collect(lines: Iterable[tuple[int, bytes]]) -> _Records:
    """Sort the records of a file; refuses those whose number of tokens is wrong."""
    records = _Records()
    for number, line in lines:
        tokens = tokens_of(line)
        if not tokens:
            continue
        keyword = tokens[0]
        if keyword == b"v":
            if len(tokens) < 4:
                raise _malformed(number, f"a vertex of {counted(len(tokens) - 1, 'number')}")
            records.coordinates += tokens[1:4]
            records.vertex_lines.append(number)
        elif keyword == b"f":
            if len(tokens) < 4:
                raise _malformed(number, f"a face of {counted(len(tokens) - 1, 'corner')}; it may have lost some")
            records.corners += tokens[1:]
            records.sizes.append(len(tokens) - 1)
            records.face_lines.append(number)
            records.vertices_before.append(len(records.vertex_lines))
        elif keyword not in _NO_SURFACE:
            _ignore(records, keyword, number)
    return records


def _ignore(records: _Records, keyword: bytes, line: int) -> None:
    """Count a record that is read over, or refuse it if the shape would not be whole without it."""
    if keyword == _FREE_FORM:
        raise InputRefused(Reason.UNSUPPORTED, f"line {line}: a spline surface; only polygons are read")
    records.ignored[_ELEMENTS.get(keyword, "unknown record")] += 1


def _corners(records: _Records) -> NDArray[np.int64]:
    """(N,) vertices of all corners, counted from 0."""

    def line_of(corner: int) -> int:
        return records.face_lines[int(np.searchsorted(np.cumsum(records.sizes), corner, side="right"))]

    heads = [corner.partition(b"/")[0] for corner in records.corners]
    stated = parse_ints(heads, line_of)
    before = np.repeat(np.array(records.vertices_before, np.int64), records.sizes)
    corners = np.where(stated < 0, stated + before, stated - 1)
    total = len(records.vertex_lines)
    bad = (corners < 0) | (corners >= total)  # an index of 0 became -1
    if bad.any():
        first = int(bad.argmax())
        raise InputRefused(
            Reason.INDEX_RANGE,
            f"line {line_of(first)}: a face uses vertex {stated[first]}; the file has "
            f"{counted(total, 'position')}, counted from 1, {before[first]} of them above this line",
        )
    return corners


def _malformed(line: int, what: str) -> InputRefused:
    return InputRefused(Reason.MALFORMED, f"line {line}: {what}")
