"""One small function an operation and library, in the way that measured fastest here with one thread.

Open3D and fpsample are no dependency of the project: where one cannot be imported its lines are left out, and
`why_missing` says why. Distances and hits are made in two steps, a tree of the mesh and then its queries, so that a
profile can use one tree twice.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import igl
import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from shapestore.preprocess.geometry.mesh import Mesh

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Distances = Callable[[Floats], Floats]
"""Positions to unsigned distances."""

OPTIONAL: Final = ("open3d", "fpsample")


def why_missing(name: str) -> str | None:
    """Why an optional library cannot be imported; None where it can."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _open3d() -> ModuleType:
    """Open3D, silent about textures that are not beside a mesh."""
    library = importlib.import_module("open3d")
    library.utility.set_verbosity_level(library.utility.VerbosityLevel.Error)
    return library


# ------------------------------------------------------------------------------------------------------- loading


def trimesh_load(path: Path) -> Mesh:
    """As the file has it: no merging, no other processing; all its parts in one mesh."""
    return _mesh(trimesh.load(path, process=False, force="mesh"))


def igl_load(path: Path) -> Mesh:
    """No GLB."""
    vertices, faces = igl.read_triangle_mesh(str(path))
    return Mesh(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int64))


def igl_can_load(path: Path) -> bool:
    """Whether libigl reads a file; asked of a process of its own, as some PLY files crash the reader."""
    command = [sys.executable, "-c", "import igl, sys; igl.read_triangle_mesh(sys.argv[1])", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def open3d_load(path: Path) -> Mesh:
    """Through the legacy reader, which reads every format."""
    found = _open3d().io.read_triangle_mesh(str(path))
    return Mesh(np.asarray(found.vertices, np.float64), np.asarray(found.triangles, np.int64))


def _mesh(found: Any) -> Mesh:
    return Mesh(np.asarray(found.vertices, np.float64), np.asarray(found.faces, np.int64))


# ------------------------------------------------------------------------------------------- hygiene and sampling


def trimesh_facts(mesh: Mesh) -> tuple[int, bool, bool, float]:
    """Components, watertight, winding consistent and volume, after merging and dropping repeated and empty faces."""
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True, validate=False)
    made.update_faces(made.unique_faces())
    made.update_faces(made.nondegenerate_faces())
    return int(made.body_count), bool(made.is_watertight), bool(made.is_winding_consistent), float(made.volume)


def trimesh_sample(mesh: Mesh, count: int) -> tuple[Floats, Floats]:
    """Points and face normals."""
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, faces = trimesh.sample.sample_surface(made, count, seed=0)
    return np.asarray(points), np.asarray(made.face_normals[faces])


def igl_sample(mesh: Mesh, count: int) -> tuple[Floats, Floats]:
    """Points and face normals; its draws take no seed."""
    weights, faces, _ = igl.random_points_on_mesh(count, mesh.vertices, mesh.faces)
    corners = mesh.vertices[mesh.faces[faces]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return (weights[:, :, None] * corners).sum(axis=1), normals / np.linalg.norm(normals, axis=1, keepdims=True)


def open3d_sample(mesh: Mesh, count: int) -> tuple[Floats, Floats]:
    """Points and face normals."""
    drawn = _open3d_mesh(mesh).sample_points_uniformly(count, use_triangle_normal=True)
    return np.asarray(drawn.points), np.asarray(drawn.normals)


def _open3d_mesh(mesh: Mesh) -> Any:
    lib = _open3d()
    return lib.geometry.TriangleMesh(
        lib.utility.Vector3dVector(mesh.vertices), lib.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )


def fpsample_order(points: NDArray[np.float32], count: int) -> Ints:
    """Farthest-point order by a kd-line; it starts elsewhere than it is asked to, and repeats repeated points."""
    fpsample = importlib.import_module("fpsample")
    return np.asarray(fpsample.bucket_fps_kdline_sampling(points, count, h=5, start_idx=0), np.int64)


def open3d_order(points: NDArray[np.float32], count: int) -> Floats:
    """Farthest points, as positions: it gives no indices. A whole cloud comes back as it was."""
    lib = _open3d()
    cloud = lib.geometry.PointCloud(lib.utility.Vector3dVector(points.astype(np.float64)))
    return np.asarray(cloud.farthest_point_down_sample(count).points)


# ------------------------------------------------------------------------------------------------------ distances


def scipy_nearest(cloud: NDArray[np.float32], points: NDArray[np.float32]) -> Floats:
    """Distance to the nearest point of a cloud."""
    return np.asarray(cKDTree(cloud).query(points)[0])


def open3d_nearest(cloud: NDArray[np.float32], points: NDArray[np.float32]) -> Floats:
    """Distance to the nearest point of a cloud."""
    lib = _open3d()
    search = lib.core.nns.NearestNeighborSearch(lib.core.Tensor(cloud))
    search.knn_index()
    _, squared = search.knn_search(lib.core.Tensor(points), 1)
    return np.asarray(np.sqrt(squared.numpy()[:, 0]))


def igl_distances(mesh: Mesh) -> Distances:
    """A bounding-volume tree in float64."""
    tree = igl.AABB()
    tree.init(mesh.vertices, mesh.faces)
    return lambda points: np.sqrt(tree.squared_distance(mesh.vertices, mesh.faces, points)[0])


def open3d_distances(mesh: Mesh) -> Distances:
    """A bounding-volume tree in float32."""
    scene = open3d_scene(mesh)
    return lambda points: scene.compute_distance(points.astype(np.float32), nthreads=1).numpy()


def open3d_scene(mesh: Mesh) -> Any:
    """Tree for distances, occupancy and rays."""
    lib = _open3d()
    scene = lib.t.geometry.RaycastingScene(nthreads=1)
    vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32)
    scene.add_triangles(lib.core.Tensor(vertices), lib.core.Tensor(faces))
    return scene


# ----------------------------------------------------------------------------------------------------------- signs


def igl_inside(mesh: Mesh, points: Floats) -> Bools:
    """Fast winding number of the faces as they are."""
    tree = igl.FastWindingNumberBVH()
    tree.init(mesh.vertices, mesh.faces)
    return np.asarray(tree.winding_number(points) > 0.5)


def open3d_inside(mesh: Mesh, points: Floats, nsamples: int = 11) -> Bools:
    """Parity of hits along rays, the vote of `nsamples` of them."""
    found = open3d_scene(mesh).compute_occupancy(points.astype(np.float32), nthreads=1, nsamples=nsamples)
    return np.asarray(found.numpy() > 0.5)


def trimesh_inside(mesh: Mesh, points: Floats) -> Bools:
    """Parity of hits along rays by Embree."""
    return np.asarray(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).contains(points))


# ------------------------------------------------------------------------------------------------------------ rays


def trimesh_hits(mesh: Mesh, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Depth, infinite for a miss, and face normal by Embree through trimesh."""
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    caster = trimesh.ray.ray_pyembree.RayMeshIntersector(made)
    return _depth_and_normal(mesh, np.asarray(caster.intersects_first(origins, directions)), origins, directions)


def embreex_hits(mesh: Mesh, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Depth, infinite for a miss, and face normal by Embree itself."""
    scene = EmbreeScene()
    TriangleMesh(scene, mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))
    faces = np.asarray(scene.run(origins.astype(np.float32), directions.astype(np.float32)))
    return _depth_and_normal(mesh, faces, origins, directions)


def open3d_hits(mesh: Mesh, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Depth, infinite for a miss, and face normal."""
    lib = _open3d()
    rays = np.concatenate([origins, directions], axis=1).astype(np.float32)
    found = open3d_scene(mesh).cast_rays(lib.core.Tensor(rays), nthreads=1)
    return found["t_hit"].numpy().astype(np.float64), found["primitive_normals"].numpy().astype(np.float64)


def _depth_and_normal(mesh: Mesh, faces: Ints, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Depth in float64 from the plane of each hit face."""
    hit = faces >= 0
    corners = mesh.vertices[mesh.faces[faces[hit]]]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    depth, normals = np.full(len(faces), np.inf), np.zeros((len(faces), 3))
    slope = (across * directions[hit]).sum(axis=1)
    depth[hit] = (across * (corners[:, 0] - origins[hit])).sum(axis=1) / slope
    normals[hit] = across / np.linalg.norm(across, axis=1, keepdims=True)
    return depth, normals


# ----------------------------------------------------------------------------------------------- grids, label maps


def scipy_occupancy(points: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Cells that hold a point, and their face neighbours."""
    cells = np.clip(np.floor((points + 1) * (size / 2)).astype(np.int64), 0, size - 1)
    occupied = np.zeros((size,) * 3, bool)
    occupied[tuple(cells.T)] = True
    return binary_dilation(occupied).astype(np.uint8)


def scipy_trilinear(grid: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """A grid of cell centres over [-1, 1]^3, read in between."""
    at = (points.astype(np.float64) + 1) * (len(grid) / 2) - 0.5
    return np.asarray(map_coordinates(grid, at.T, order=1, mode="nearest"))


def scipy_edt_pair(mask: Bools) -> NDArray[np.float32]:
    """Signed distance in voxels, negative inside: the distance to the mask less that to its complement."""
    return np.asarray(distance_transform_edt(~mask) - distance_transform_edt(mask), np.float32)


def skimage_surface(mask: Bools) -> Mesh:
    """Marching cubes of a mask, outward, in voxels."""
    vertices, faces, _, _ = marching_cubes(mask.astype(np.float32), 0.5, gradient_direction="ascent")
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64))
