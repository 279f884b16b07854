"""Rays from cameras around a normalised shape, and where they first meet a mesh or an occupancy grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame


@dataclass(frozen=True, eq=False)
class RayHits:
    """The first hit of each ray; rows of rays that miss are zero throughout.

    Attributes
    ----------
    hit
        (n,) uint8: 1 where the ray meets the shape.
    t
        (n,) float32, >= 0: distance from the origin to the hit, in the unit of the shape.
    normal
        (n, 3) float32: unit normal at the hit; zero where the shape knows none.
    """

    hit: NDArray[np.uint8]
    t: NDArray[np.float32]
    normal: NDArray[np.float32]


def camera_rays(
    views: int,
    rays_per_view: int,
    count: int,
    radius: float,
    elevation: float,
    fov_degrees: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw rays from cameras on a sphere that all look at the origin.

    Camera k stands at azimuth 2 pi k / views; elevations go evenly from -elevation to +elevation. Up is z, or y
    for a camera on the z axis. Each camera draws max(rays_per_view, ceil(count / views)) rays uniformly over its
    square image. If that is more than `count`, each keeps its first `count / views`, the first cameras one more if it
    does not divide.

    Parameters
    ----------
    views
        Number of cameras, >= 1.
    rays_per_view
        Least number of rays that each camera draws, >= 0.
    count
        Number of rays, >= 0.
    radius
        Distance of the cameras from the origin, > 0, normalised units.
    elevation
        Largest elevation of a camera in radians, 0 to pi / 2.
    fov_degrees
        Full field of view, both ways, in degrees, in (0, 180).
    rng
        Source of the image positions.

    Returns
    -------
    origins
        (count, 3) float32, camera after camera.
    directions
        (count, 3) float32, unit.

    Raises
    ------
    ValueError
        An argument is out of its range.
    """
    if views < 1 or radius <= 0 or not 0 <= elevation <= math.pi / 2 or not 0 < fov_degrees < 180:
        raise ValueError(f"no cameras: {views=}, {radius=}, {elevation=} radians, {fov_degrees=}")
    each = max(rays_per_view, -(-count // views))
    azimuths = 2 * np.pi * np.arange(views) / views
    elevations = np.linspace(-elevation, elevation, views)
    outward = np.stack(
        [np.cos(elevations) * np.cos(azimuths), np.cos(elevations) * np.sin(azimuths), np.sin(elevations)],
        axis=1,
    )
    right, up = _image_axes(outward)
    across, along = np.moveaxis(rng.uniform(-1, 1, (views, each, 2)), -1, 0)
    extent = math.tan(math.radians(fov_degrees) / 2)
    image = across[..., None] * right[:, None] + along[..., None] * up[:, None]
    directions = extent * image - outward[:, None]
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    origins = np.broadcast_to(radius * outward[:, None], directions.shape)
    # Ranked draw by draw, camera within draw: a surplus is cut from all cameras alike.
    kept = np.arange(each) * views + np.arange(views)[:, None] < count
    return origins[kept].astype(np.float32), directions[kept].astype(np.float32)


def mesh_hits(mesh: Mesh, origins: ArrayLike, directions: ArrayLike) -> RayHits:
    """First hit of each ray on a mesh, from either side of a face.

    Embree names the face in float32; the distance is then computed from that face's plane in float64. The normal
    is the face's own, by the right-hand rule, and not turned towards the ray. Where faces coincide, the one that
    Embree names is arbitrary, though the same for the same mesh.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`.
    origins
        (n, 3) finite positions, in the unit of the mesh.
    directions
        (n, 3) unit vectors.

    Returns
    -------
    RayHits
        One row a ray.

    Raises
    ------
    InputRefused
        As `refuse_unsafe`; NOT_FINITE for a NaN or infinite ray.
    UsageError
        There is no embreex on this platform.
    """
    refuse_unsafe(mesh)
    starts, towards = _rays(origins, directions)
    face = _first_faces(mesh, starts, towards)
    hit = face >= 0
    corners = mesh.vertices[mesh.faces[face[hit]]]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    normal = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    return _hits(hit, _plane_depth(corners, normal, starts[hit], towards[hit]), normal)


def cloud_hits(
    points: ArrayLike,
    normals: ArrayLike | None,
    occupancy: NDArray[np.uint8],
    origins: ArrayLike,
    directions: ArrayLike,
) -> RayHits:
    """First occupied cell that each ray enters, walking through the grid over [-1, 1]^3.

    The ray is cut to the cube by the slab test and followed from cell to cell (Amanatides & Woo, "A fast voxel
    traversal algorithm for ray tracing", Eurographics 1987). `t` is where it enters the occupied cell, or 0 if it
    starts inside one.

    Parameters
    ----------
    points
        (m, 3) finite normalised points, m >= 1.
    normals
        (m, 3) their unit normals, or None for a cloud without: hits then have normal zero.
    occupancy
        (G, G, G) uint8 indexed (x, y, z): nonzero where occupied, as `occupancy_grid` makes it of `points`.
    origins
        (n, 3) finite normalised positions.
    directions
        (n, 3) unit vectors.

    Returns
    -------
    RayHits
        One row a ray; the normal is that of the point nearest to the entry.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS for an empty cloud; NOT_FINITE for NaN or infinite coordinates.
    ValueError
        `occupancy` is not a cube, or the normals are not one a point.
    """
    cloud = np.asarray(points, np.float64)
    if len(cloud) == 0:
        raise InputRefused(Reason.TOO_FEW_POINTS, "rays cannot meet an empty cloud")
    if not np.isfinite(cloud).all():
        raise InputRefused(Reason.NOT_FINITE, "points of the cloud")
    if occupancy.ndim != 3 or len(set(occupancy.shape)) != 1 or occupancy.size == 0:
        raise ValueError(f"the grid must be a cube of cells, got shape {occupancy.shape}")
    known = np.zeros_like(cloud) if normals is None else np.asarray(normals, np.float64)
    if known.shape != cloud.shape:
        raise ValueError(f"{len(cloud)} points need as many normals, got shape {known.shape}")
    starts, towards = _rays(origins, directions)
    entry = _walk(np.ascontiguousarray(occupancy, dtype=np.uint8), starts, towards)
    hit = np.isfinite(entry)
    depth = entry[hit]
    _, nearest = cKDTree(cloud).query(starts[hit] + depth[:, None] * towards[hit])
    return _hits(hit, depth, known[nearest])


def _rays(origins: ArrayLike, directions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rays as contiguous float64, refused unless finite: native code answers NaN with noise."""
    starts = np.ascontiguousarray(origins, dtype=np.float64)
    towards = np.ascontiguousarray(directions, dtype=np.float64)
    if not (np.isfinite(starts).all() and np.isfinite(towards).all()):
        raise InputRefused(Reason.NOT_FINITE, "origin or direction of a ray")
    return starts, towards


def _hits(hit: NDArray[np.bool_], depth: NDArray[np.float64], normal: NDArray[np.float64]) -> RayHits:
    """Spread the values of the rays that hit over all rays."""
    t = np.zeros(len(hit), np.float32)
    t[hit] = depth
    normals = np.zeros((len(hit), 3), np.float32)
    normals[hit] = normal
    return RayHits(hit.astype(np.uint8), t, normals)


def _image_axes(outward: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors to the right and up in the images of cameras that look against `outward`."""
    on_axis = np.hypot(outward[:, 0], outward[:, 1]) < 1e-6
    reference = np.where(on_axis[:, None], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    right = np.cross(-outward, reference)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return right, np.cross(right, -outward)


def _first_faces(mesh: Mesh, starts: NDArray[np.float64], towards: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) face that each ray meets first, -1 where none."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise UsageError(
            "Rays through a mesh need the package embreex, which is not built for this platform "
            "(there are builds for x86-64 and macOS). Leave the mesh rays out of the recipe, or run elsewhere."
        ) from error
    # Embree computes in float32: only a mesh around the origin and of unit size keeps its digits there.
    frame = box_frame(mesh.vertices)
    scene = EmbreeScene(robust=True)  # else rays can slip through between two faces at their common edge
    TriangleMesh(scene, frame.apply(mesh.vertices).astype(np.float32), mesh.faces.astype(np.int32))
    return np.asarray(scene.run(frame.apply(starts).astype(np.float32), towards.astype(np.float32)), np.int64)


def _plane_depth(
    corners: NDArray[np.float64],
    normal: NDArray[np.float64],
    starts: NDArray[np.float64],
    towards: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(k,) float64 depth at which each ray meets the plane of its triangle.

    A ray that grazes the plane has no well-defined depth there, but a point of the triangle is never nearer or
    farther along the ray than all three corners: the depth is clipped to theirs.
    """
    along = ((corners - starts[:, None]) * towards[:, None]).sum(axis=2)
    low, high = along.min(axis=1), along.max(axis=1)
    slope = (normal * towards).sum(axis=1)
    height = (normal * (corners[:, 0] - starts)).sum(axis=1)
    depth = np.divide(height, slope, out=low.copy(), where=np.abs(slope) > 1e-12)
    return np.asarray(np.maximum(np.clip(depth, low, high), 0.0))


@kernel
def _walk(
    occupancy: NDArray[np.uint8], starts: NDArray[np.float64], towards: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) float64 depth of the entry into the first occupied cell, infinite where there is none."""
    entries = np.full(len(starts), np.inf)
    for row in range(len(starts)):
        enter, leave = _slab(starts[row], towards[row])
        if enter <= leave:
            entries[row] = _first_occupied(occupancy, starts[row], towards[row], enter)
    return entries


@kernel
def _slab(start: NDArray[np.float64], towards: NDArray[np.float64]) -> tuple[float, float]:
    """Depths between which a ray is inside [-1, 1]^3; the first is above the second where it never is."""
    enter, leave = 0.0, np.inf
    for axis in range(3):
        if towards[axis] == 0:
            if abs(start[axis]) > 1:
                return np.inf, -np.inf
        else:
            one = (-1 - start[axis]) / towards[axis]
            other = (1 - start[axis]) / towards[axis]
            enter = max(enter, min(one, other))
            leave = min(leave, max(one, other))
    return enter, leave


@kernel
def _first_occupied(
    occupancy: NDArray[np.uint8], start: NDArray[np.float64], towards: NDArray[np.float64], enter: float
) -> float:
    """Depth at which a ray that is inside the cube from `enter` on enters an occupied cell, or infinity."""
    size = occupancy.shape[0]
    x = _cell_at(start[0] + enter * towards[0], size)
    y = _cell_at(start[1] + enter * towards[1], size)
    z = _cell_at(start[2] + enter * towards[2], size)
    leave_x = _wall_depth(start[0], towards[0], x, size)
    leave_y = _wall_depth(start[1], towards[1], y, size)
    leave_z = _wall_depth(start[2], towards[2], z, size)
    depth = enter
    while 0 <= x < size and 0 <= y < size and 0 <= z < size:
        if occupancy[x, y, z]:
            return depth
        if leave_x <= leave_y and leave_x <= leave_z:
            depth = max(depth, leave_x)
            x += 1 if towards[0] > 0 else -1
            leave_x = _wall_depth(start[0], towards[0], x, size)
        elif leave_y <= leave_z:
            depth = max(depth, leave_y)
            y += 1 if towards[1] > 0 else -1
            leave_y = _wall_depth(start[1], towards[1], y, size)
        else:
            depth = max(depth, leave_z)
            z += 1 if towards[2] > 0 else -1
            leave_z = _wall_depth(start[2], towards[2], z, size)
    return np.inf


@kernel
def _cell_at(coordinate: float, size: int) -> int:
    """The cell along one axis that holds a coordinate, the nearest one outside the cube."""
    return min(max(math.floor((coordinate + 1) / 2 * size), 0), size - 1)


@kernel
def _wall_depth(start: float, towards: float, cell: int, size: int) -> float:
    """Depth at which a ray leaves a cell across this axis, infinite where it runs along the wall.

    Each wall is computed from its number: adding up steps would drift from the grid.
    """
    if towards == 0:
        return np.inf
    return (-1 + (cell + (towards > 0)) * 2 / size - start) / towards
