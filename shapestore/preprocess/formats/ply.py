"""PLY, the Stanford polygon format, as text or binary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted, to_float64
from shapestore.preprocess.formats.ply_binary import read_binary
from shapestore.preprocess.formats.ply_header import GEOMETRY, parse_header
from shapestore.preprocess.formats.ply_tables import Column, ListColumn
from shapestore.preprocess.formats.ply_text import read_text
from shapestore.preprocess.formats.soup import PolygonSoup


def parse_ply(data: bytes) -> PolygonSoup:
    """Read the polygons of a PLY file: text, or binary of either byte order, with faces of any and differing sizes.

    Faces of one or two corners are edges by their own account and left out with a note. Further properties and
    elements are read over.

    Parameters
    ----------
    data
        The file.

    Raises
    ------
    InputRefused
        TRUNCATED if the elements need more bytes, or lines, than the file holds; UNSUPPORTED for triangle strips;
        MALFORMED for what else is not as the header declares, or a header without positions.
    """
    header = parse_header(data)
    names = [element.name for element in header.elements]
    if len(set(names)) < len(names):
        raise InputRefused(Reason.MALFORMED, "the header declares an element twice")
    if "tristrips" in names and "face" not in names:
        raise InputRefused(Reason.UNSUPPORTED, "a PLY file of triangle strips; only faces are read")
    tables, rest = (read_binary if header.binary else read_text)(data, header)
    corners, sizes = _faces(tables.get("face"))
    flat = int((sizes < 3).sum())
    notes = [f"{counted(flat, 'face')} of fewer than three corners ignored"] if flat else []
    if rest:
        notes.append(f"{counted(rest, 'byte' if header.binary else 'line')} after the last element ignored")
    if flat:
        corners, sizes = corners[np.repeat(sizes >= 3, sizes)], sizes[sizes >= 3]
    return PolygonSoup(_positions(tables), corners, sizes, tuple(notes))


def _positions(tables: dict[str, dict[str, Column]]) -> NDArray[np.float64]:
    """(V, 3) float64 positions."""
    columns = [tables.get("vertex", {}).get(axis) for axis in GEOMETRY["vertex"]]
    scalars = [to_float64(column) for column in columns if isinstance(column, np.ndarray)]
    if len(scalars) < 3:
        raise InputRefused(Reason.MALFORMED, "the header declares no vertex element with x, y and z")
    return np.stack(scalars, axis=1)


def _faces(table: dict[str, Column] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners and sizes of all faces."""
    if table is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    indices = next(_index_lists(table), None)
    if indices is None:
        raise InputRefused(Reason.MALFORMED, "faces have none of the lists " + " and ".join(GEOMETRY["face"]))
    if indices.items.dtype.kind not in "iu":
        raise InputRefused(Reason.MALFORMED, "the vertex indices of faces are not whole numbers")
    return indices.items.astype(np.int64), indices.lengths


def _index_lists(table: dict[str, Column]) -> Iterator[ListColumn]:
    """The lists that may hold the corners, the likeliest first."""
    for name in GEOMETRY["face"]:
        column = table.get(name)
        if isinstance(column, ListColumn):
            yield column
