"""Polygons as files hold them, and the one way from there to a triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.polygons import triangulate
from shapestore.preprocess.geometry.mesh import Mesh


@dataclass(frozen=True, eq=False)
class PolygonSoup:
    """What every mesh format is read into.

    Attributes
    ----------
    vertices
        (V, 3) float64, raw unit. Any of them may be NaN.
    corners
        (N,) int64: the vertices around the first polygon, then around the second, and so on. Unchecked.
    sizes
        (F,) int64, each >= 3, N in sum: the number of corners of each polygon.
    notes
        What a user may want to know of the reading.
    """

    vertices: NDArray[np.float64]
    corners: NDArray[np.int64]
    sizes: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def to_mesh(soup: PolygonSoup) -> tuple[Mesh, tuple[str, ...]]:
    """Check the polygons and cut them into triangles.

    Returns
    -------
    mesh
        All vertices of the soup in their order; the triangles of each polygon in the order of the polygons, with
        its winding. Three corners stay as they are.
    notes
        Those of the soup and of the triangulation.

    Raises
    ------
    InputRefused
        NO_FACES; INDEX_RANGE if a corner is no vertex; NOT_FINITE if a polygon uses a NaN or infinite vertex;
        UNSUPPORTED as `triangulate`.
    """
    count = len(soup.vertices)
    if len(soup.sizes) == 0:
        noun = "vertex" if count == 1 else "vertices"
        raise InputRefused(Reason.NO_FACES, f"the file holds {count} {noun} and no face")
    if soup.corners.min() < 0 or soup.corners.max() >= count:
        _refuse_corner(soup, (soup.corners < 0) | (soup.corners >= count), Reason.INDEX_RANGE)
    finite = np.isfinite(soup.vertices)
    if not finite.all():
        whole = np.asarray(finite.all(axis=1))
        _refuse_corner(soup, ~whole[soup.corners], Reason.NOT_FINITE)
    faces, crossing = triangulate(soup.vertices, soup.corners, soup.sizes)
    notes = list(soup.notes)
    polygons = int((soup.sizes > 3).sum())
    if polygons:
        notes.append(f"{counted(polygons, 'polygon')} triangulated")
    if crossing:
        notes.append(f"{counted(crossing, 'polygon')} with crossing edges, cut as a fan: such a surface is ambiguous")
    return Mesh(np.ascontiguousarray(soup.vertices, np.float64), faces), tuple(notes)


def _refuse_corner(soup: PolygonSoup, bad: NDArray[np.bool_], reason: Reason) -> None:
    """Refuse a soup with bad corners, naming the first."""
    if not bad.any():
        return
    corner = int(bad.argmax())
    face = int(np.searchsorted(np.cumsum(soup.sizes), corner, side="right"))
    vertex = int(soup.corners[corner])
    if reason is Reason.INDEX_RANGE:
        detail = f"vertex {vertex}, but the file holds {counted(len(soup.vertices), 'position')}, counted from 0"
    else:
        detail = f"vertex {vertex}, which is at {soup.vertices[vertex].tolist()}"
    raise InputRefused(reason, f"face {face} of {len(soup.sizes)} (from 0) uses {detail}")
