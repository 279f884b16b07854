"""STL, binary or text: triangles without shared vertices."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted, refuse_short
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.text import text_lines
from shapestore.preprocess.formats.trimesh_quiet import load_quietly

_HEADER: Final = 84
"""80 bytes of anything, then the number of facets."""

_FACET: Final = 50
"""Normal, three corners, two bytes of anything."""

_FACET_LINES: Final = ("facet", "outer", "vertex", "vertex", "vertex", "endloop", "endfacet")


def parse_stl(data: bytes) -> PolygonSoup:
    """Read the facets of all solids of an STL file, three vertices each; the stored normals are not used.

    A file is binary if its size is what its header says, or if it is no text: binary files that start with the
    keyword of the text form are common.

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
    size = _HEADER + _FACET * declared
    if len(data) >= _HEADER and len(data) == size:
        return _load(data, ())
    if re.match(rb"\s*solid\b", data) and b"\0" not in data:
        return _load(_checked_text(data), ())
    refuse_short("the header of a binary STL file", _HEADER, len(data))
    refuse_short(f"a binary STL file of {counted(declared, 'facet')}", size, len(data))
    rest = counted(len(data) - size, "byte")
    return _load(data[:size], (f"{rest} after the last facet ignored",))


def _checked_text(data: bytes) -> bytes:
    """Refuse a text that breaks the grammar; returns one that does not, without the solids' free-form names."""
    expected = 0
    inside = False
    lines = []
    for number, line in enumerate(text_lines(data), 1):
        tokens = line.lower().split()
        if not tokens:
            continue
        keyword = tokens[0].decode("latin-1")
        due = _FACET_LINES[expected] if inside else "solid"
        if expected == 0 and keyword == ("endsolid" if inside else "solid"):
            inside = not inside
            lines.append(keyword.encode())
            continue
        if keyword != due or (keyword == "vertex" and len(tokens) != 4):
            raise InputRefused(Reason.MALFORMED, f"line {number}: {line[:40]!r} where {due!r} is due")
        expected = (expected + 1) % len(_FACET_LINES)
        lines.append(b" ".join(tokens))
    if inside:
        raise InputRefused(Reason.TRUNCATED, "the text ends within a solid: endsolid is missing")
    return b"\n".join([*lines, b""])


def _load(data: bytes, notes: tuple[str, ...]) -> PolygonSoup:
    """The facets of a checked file."""
    scene = load_quietly(data, "stl")
    vertices = [np.asarray(solid.vertices[solid.faces].reshape(-1, 3)) for solid in scene.geometry.values()]
    soup = np.concatenate([np.empty((0, 3)), *vertices])
    return PolygonSoup(soup, np.arange(len(soup)), np.full(len(soup) // 3, 3, np.int64), notes)
