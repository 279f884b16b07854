"""One entry for all mesh formats: the suffix decides, the result is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import read_raw
from shapestore.preprocess.formats.glb import parse_glb
from shapestore.preprocess.formats.obj import parse_obj
from shapestore.preprocess.formats.off import parse_off
from shapestore.preprocess.formats.ply import parse_ply
from shapestore.preprocess.formats.soup import PolygonSoup, to_mesh
from shapestore.preprocess.formats.stl import parse_stl
from shapestore.preprocess.geometry.mesh import Mesh

_PARSERS: Final[dict[str, Callable[[bytes], PolygonSoup]]] = {
    ".glb": parse_glb,
    ".obj": parse_obj,
    ".off": parse_off,
    ".ply": parse_ply,
    ".stl": parse_stl,
}

MESH_SUFFIXES: Final = tuple(_PARSERS)
"""Suffixes of the files that `read_mesh` reads, in lower case."""


def read_mesh(path: Path) -> tuple[Mesh, tuple[str, ...]]:
    """Read a mesh file; the suffix, in any case, names the format.

    Parameters
    ----------
    path
        A file with one of `MESH_SUFFIXES`.

    Returns
    -------
    mesh
        Triangles in the order of the file, in its unit and frame. Polygons are cut into triangles. Vertices are
        neither merged nor dropped, those that no face uses may be NaN.
    notes
        Plain remarks on what was cut, assumed or left out.

    Raises
    ------
    InputRefused
        As `open_raw`; UNSUPPORTED for another suffix or a variant of a format that is not read; TRUNCATED for a
        file that declares more than it holds; MALFORMED; as `to_mesh`: NO_FACES, INDEX_RANGE, NOT_FINITE.
    """
    data = read_raw(path)
    parser = _PARSERS.get(path.suffix.lower())
    if parser is None:
        known = ", ".join(MESH_SUFFIXES)
        raise InputRefused(Reason.UNSUPPORTED, f"{path.name}: no mesh format; {known} are read")
    return to_mesh(parser(data))
