"""Solids with exact occupancy and a triangle mesh of each.

A solid is a union of bodies. The occupancy is that of the polyhedra, not of the smooth shapes that they stand for, so
that it may be compared at any distance from the surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull
from skimage.measure import marching_cubes

from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Occupancy = Callable[[Floats], NDArray[np.bool_]]


@dataclass(frozen=True)
class Body:
    """One closed surface with outward faces, and what it holds.

    Attributes
    ----------
    mesh
        Closed, outward triangle mesh.
    contains
        (n, 3) positions to (n,) bool, exact up to rounding except within `margin` of the surface.
    margin
        Distance to the surface below which `contains` is no judge, in the unit of the mesh.
    """

    mesh: Mesh
    contains: Occupancy
    margin: float = 0.0

    def moved(self, offset: ArrayLike = (0, 0, 0), rotation: ArrayLike | None = None, scale: float = 1.0) -> Body:
        """Scale, then rotate by a (3, 3) matrix of determinant 1, then translate."""
        turn = np.eye(3) if rotation is None else np.asarray(rotation, np.float64)
        shift = np.asarray(offset, np.float64)
        mesh = Mesh(self.mesh.vertices * scale @ turn.T + shift, self.mesh.faces)
        return Body(mesh, lambda points: self.contains((points - shift) @ turn / scale), self.margin * scale)


@dataclass(frozen=True)
class Solid:
    """A named judge, normalised by the frame of its mesh.

    Attributes
    ----------
    name
        What it is.
    mesh
        Triangle mesh within the closed unit ball; the bodies' meshes one after the other.
    contains
        (n, 3) normalised positions to (n,) bool.
    margin
        Normalised distance to the surface below which `contains` is no judge.
    """

    name: str
    mesh: Mesh
    contains: Occupancy
    margin: float


def union(name: str, bodies: Sequence[Body], sheets: Sequence[Mesh] = ()) -> Solid:
    """Everything that any body holds; sheets are in the mesh and hold nothing."""
    return _solid(
        name,
        joined([*(body.mesh for body in bodies), *sheets]),
        lambda points: np.any([body.contains(points) for body in bodies], axis=0),
        max(body.margin for body in bodies),
    )


def hollow(name: str, shells: Sequence[Body]) -> Solid:
    """Nested shells, outermost first; every second one is wound inwards and bounds a cavity."""
    meshes = [body.mesh if k % 2 == 0 else inverted(body.mesh) for k, body in enumerate(shells)]
    return _solid(
        name,
        joined(meshes),
        lambda points: np.sum([body.contains(points) for body in shells], axis=0) % 2 == 1,
        max(body.margin for body in shells),
    )


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """All faces of all meshes, none welded."""
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, first, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def inverted(mesh: Mesh) -> Mesh:
    """The mesh with every face wound the other way."""
    return Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1]))


def convex(points: ArrayLike) -> Body:
    """Convex hull of (n, 3) points; occupancy by its supporting planes."""
    hull = ConvexHull(np.asarray(points, np.float64))
    faces = hull.simplices.astype(np.int64)
    corners = hull.points[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (cross * hull.equations[:, :3]).sum(axis=1) < 0
    faces[inward] = faces[inward, ::-1]
    used, compact = np.unique(faces, return_inverse=True)
    planes = np.unique(hull.equations.round(12), axis=0)

    def contains(query: Floats) -> NDArray[np.bool_]:
        return np.asarray((query @ planes[:, :3].T + planes[:, 3] < 0).all(axis=1))

    return Body(Mesh(hull.points[used], compact.reshape(-1, 3).astype(np.int64)), contains)


def box(size: ArrayLike, centre: ArrayLike = (0, 0, 0)) -> Body:
    """Axis-aligned box of 12 triangles."""
    corners = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5])).reshape(3, -1).T
    return convex(corners * np.asarray(size) + np.asarray(centre))


def cylinder(radius: float, height: float, sides: int = 24) -> Body:
    """Prism over a regular polygon, around the z axis and the origin."""
    return lathe([(0, -height / 2), (radius, -height / 2), (radius, height / 2), (0, height / 2)], sides)


def sphere(radius: float, rings: int = 16) -> Body:
    """Convex polyhedron over rings of latitude, `2 * rings` corners each."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    profile = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    profile[[0, -1], 0] = 0
    return lathe(profile, 2 * rings)


def capsule(radius: float, length: float, rings: int = 8) -> Body:
    """A cylinder along z with a half sphere on either end; `length` is that of the cylinder."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 2 * rings + 2)
    profile = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    profile[:, 1] += np.sign(angle) * length / 2
    profile[[0, -1], 0] = 0
    return lathe(profile, 4 * rings)


def torus(radius: float, tube: float, sides: int = 32) -> Body:
    """Ring around the z axis."""
    angle = np.arange(sides // 2) * (4 * np.pi / sides)
    return lathe(np.stack([radius + tube * np.cos(angle), tube * np.sin(angle)], axis=1), sides, ring=True)


def lathe(profile: ArrayLike, sides: int, ring: bool = False) -> Body:
    """Turn a simple counter-clockwise profile about the z axis.

    All faces between two rings are planar trapezoids across the turning direction, so a position is inside where
    (x' / cos(pi / sides), z) is inside the profile; x' is its component towards the middle of its sector.

    Parameters
    ----------
    profile
        (P, 2) radius >= 0 and height, counter-clockwise; from axis to axis, or a closed loop off the axis.
    sides
        Corners of each ring, >= 3.
    ring
        Whether the profile is a closed loop off the axis.
    """
    outline = np.asarray(profile, np.float64)
    half = np.pi / sides

    def contains(query: Floats) -> NDArray[np.bool_]:
        angle = np.arctan2(query[:, 1], query[:, 0])
        from_middle = np.remainder(angle, 2 * half) - half
        reach = np.hypot(query[:, 0], query[:, 1]) * np.cos(from_middle) / np.cos(half)
        return _inside_polygon(outline, np.stack([reach, query[:, 2]], axis=1))

    return Body(lathe_sheet(np.concatenate([outline, outline[:1]]) if ring else outline, sides), contains)


def lathe_sheet(profile: ArrayLike, sides: int) -> Mesh:
    """Turn an open profile about the z axis; a point on the axis becomes one vertex, equal points one ring."""
    outline = np.asarray(profile, np.float64)
    angle = np.arange(sides) * (2 * np.pi / sides)
    rings = np.stack(
        np.broadcast_arrays(
            outline[:, 0, None] * np.cos(angle), outline[:, 0, None] * np.sin(angle), outline[:, 1, None]
        ),
        axis=-1,
    )
    here = np.arange(len(outline) * sides).reshape(len(outline), sides)
    after = np.roll(here, -1, axis=1)
    lower = np.stack([here[:-1], after[:-1], after[1:]], axis=-1).reshape(-1, 3)
    upper = np.stack([here[:-1], after[1:], here[1:]], axis=-1).reshape(-1, 3)
    return _welded(Mesh(rings.reshape(-1, 3), np.concatenate([lower, upper])))


def implicit(field: Callable[[Floats], Floats], resolution: int) -> Body:
    """Marching cubes of a field over [-1, 1]^3 that is negative inside and positive on the border of the cube.

    The margin is the largest first-order distance |f| / |grad f| of a face's centre from the true surface, doubled.
    """
    axis = np.linspace(-1, 1, resolution)
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    values = field(lattice).reshape(resolution, resolution, resolution)
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    mesh = _welded(Mesh(vertices.astype(np.float64) * (2 / (resolution - 1)) - 1, faces.astype(np.int64)))
    centres = mesh.vertices[mesh.faces].mean(axis=1)
    step = 1e-5 * np.eye(3)
    slopes = np.stack([(field(centres + s) - field(centres - s)) / 2e-5 for s in step], axis=1)
    margin = 2 * float((np.abs(field(centres)) / np.linalg.norm(slopes, axis=1)).max())
    return Body(mesh, lambda query: np.asarray(field(query) < 0), margin)


def gyroid_blob(resolution: int = 48) -> Body:
    """A ball of radius 0.9 cut by a gyroid: one piece with many tunnels."""

    def field(points: Floats) -> Floats:
        x, y, z = (points * 6.0).T
        gyroid = (np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)) / 9.0
        return np.asarray(np.maximum(gyroid, np.linalg.norm(points, axis=1) - 0.9))

    return implicit(field, resolution)


def _solid(name: str, mesh: Mesh, contains: Occupancy, margin: float) -> Solid:
    """Normalise a mesh and its judge by the same frame."""
    frame = box_frame(mesh.vertices)
    normalised = Mesh(frame.apply(mesh.vertices), mesh.faces)
    return Solid(name, normalised, lambda points: contains(frame.invert(points)), margin * frame.scale)


def _welded(mesh: Mesh) -> Mesh:
    """Join vertices that agree to 12 digits and drop the faces that this collapses."""
    _, first, label = np.unique(mesh.vertices.round(12) + 0.0, axis=0, return_index=True, return_inverse=True)
    faces = label.reshape(-1)[mesh.faces]
    kept = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return Mesh(mesh.vertices[first], np.ascontiguousarray(faces[kept], dtype=np.int64))


def _inside_polygon(outline: Floats, query: Floats) -> NDArray[np.bool_]:
    """Which 2D positions a simple polygon holds, by the parity of crossings."""
    inside = np.zeros(len(query), bool)
    for (u, v), (s, t) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (v > query[:, 1]) != (t > query[:, 1])
        if v != t:
            inside ^= crosses & (query[:, 0] < u + (query[:, 1] - v) * (s - u) / (t - v))
    return inside
