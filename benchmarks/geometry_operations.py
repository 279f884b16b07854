"""The operations that are put side by side: what each is done with, who judges it, and who takes part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from benchmarks import geometry_judges as judge
from benchmarks import geometry_libraries as lib
from benchmarks.common import SEED
from benchmarks.geometry_trials import OURS, Operation
from judges import furniture
from shapestore.preprocess.formats.mesh_file import read_mesh
from shapestore.preprocess.geometry.distance import cloud_distance, surface_distance
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.preprocess.geometry.grid import cell_centres, surface_udf_grid
from shapestore.preprocess.geometry.hygiene import clean
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.rays import RayHits, camera_rays, mesh_hits
from shapestore.preprocess.geometry.sample import sample_surface

Floats = NDArray[np.float64]
Calls = Mapping[str, Callable[[], Any]]
JUDGED = 300
"""Answers of a batch that brute force looks at."""
FORMATS = ("obj", "off", "ply", "stl", "glb")
FLOAT32 = 1e-6
"""Largest error of positions and distances of a shape in the unit sphere: float32 keeps 1e-7 of them."""


def meshes(quick: bool) -> dict[str, Mesh]:
    """Small and large, curved and CAD; names say how many faces they have."""
    chair = furniture.chair().mesh
    made = {"CAD chair": chair} | {"bumpy sphere": judge.bumpy_sphere(3 if quick else 4)}
    found = {f"{name}, {len(mesh.faces)} faces": mesh for name, mesh in made.items()}
    if not quick:
        large = judge.bumpy_sphere(6)
        found[f"bumpy sphere, {len(large.faces)} faces"] = large
    return found


def operations(quick: bool, folder: Path) -> Iterator[Operation]:
    """All of them; files are written into `folder`, and lines of libraries that are missing left out."""
    shapes = meshes(quick)
    *_, (name, largest) = shapes.items()
    yield from loading(name, largest, folder)
    for case, mesh in shapes.items():
        yield hygiene(case, mesh)
    yield from (sampling(count, name, largest) for count in (2048, 20_000, 100_000))
    yield from orders()
    yield from nearest()
    for case, mesh in shapes.items():
        yield scattered(case, mesh)
    for case, mesh in shapes.items():
        yield grid(case, mesh, 16 if quick else 64)
    for case, mesh in shapes.items():
        yield rays(case, mesh)


def loading(name: str, mesh: Mesh, folder: Path) -> Iterator[Operation]:
    """One file a format, written by trimesh; float32 in the binary ones."""
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    for suffix in FORMATS:
        path = folder / f"mesh.{suffix}"
        made.export(path)
        calls: dict[str, Callable[[], Mesh]] = {
            OURS: lambda path=path: read_mesh(path)[0],
            "trimesh": partial(lib.trimesh_load, path),
        }
        if suffix != "glb":
            calls["libigl"] = partial(lib.igl_load, path)
        calls |= optional("open3d", "Open3D", partial(lib.open3d_load, path))
        truth = judge.same_triangles(mesh)
        yield Operation("load a file", f"{suffix}: {name}", "largest, of a coordinate", FLOAT32, truth, calls)


def hygiene(name: str, mesh: Mesh) -> Operation:
    """Every vertex given once a face, as in an STL file: welding is a part of it."""
    soup = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))
    centred = mesh.vertices - mesh.vertices[0]
    a, b, c = np.moveaxis(centred[mesh.faces], 1, 0)
    volume = float((a * np.cross(b, c)).sum() / 6)
    parts = int(trimesh.graph.connected_component_labels(trimesh.graph.face_adjacency(mesh.faces)).max()) + 1

    def ours() -> tuple[int, bool, bool, float]:
        _, report = clean(soup)
        return report.components, report.watertight, report.winding_consistent, report.volume

    def error(facts: tuple[int, bool, bool, float]) -> float:
        return abs(facts[3] / volume - 1) if facts[:3] == (parts, True, True) else math.inf

    calls: Calls = {OURS: ours, "trimesh": partial(lib.trimesh_facts, soup)}
    return Operation("weld and describe a soup", name, "of the volume, if all facts are right", 1e-9, error, calls)


def sampling(count: int, name: str, mesh: Mesh) -> Operation:
    """Points with normals."""

    def ours() -> tuple[Floats, Floats]:
        found = sample_surface(mesh, count, np.random.default_rng(SEED))
        return found.points, found.normals

    calls: Calls = {
        OURS: ours,
        "trimesh": partial(lib.trimesh_sample, mesh, count),
        "libigl, without a seed": partial(lib.igl_sample, mesh, count),
        **optional("open3d", "Open3D", partial(lib.open3d_sample, mesh, count)),
    }
    truth = judge.off_surface(mesh, _some(count))
    return Operation("sample a surface", f"{count} on {name}", "largest distance off it", FLOAT32, truth, calls)


def orders() -> Iterator[Operation]:
    """2048 of 2048 and of 20 000 points on a curved surface."""
    for total in (2048, 20_000):
        rng = np.random.default_rng(SEED)
        points = sample_surface(judge.bumpy_sphere(4), total, rng).points.astype(np.float32)
        calls: Calls = {
            OURS: partial(farthest_point_order, points, 2048),
            **optional("fpsample", "fpsample, its own start", partial(lib.fpsample_order, points, 2048)),
            **optional("open3d", "Open3D", partial(lib.open3d_order, points, 2048)),
        }
        unit = "largest share by which a choice is not the farthest"
        yield Operation("farthest-point order", f"2048 of {total}", unit, 1e-6, judge.greedy_gap(points), calls)


def nearest() -> Iterator[Operation]:
    """The cloud of a shape, and one as large as the pool."""
    for size in (2048, 20_000):
        rng = np.random.default_rng(SEED)
        mesh = judge.bumpy_sphere(4)
        cloud = sample_surface(mesh, size, rng).points.astype(np.float32)
        points = queries(mesh, 20_000)
        rows = _some(len(points))
        truth = judge.largest_error(judge.brute_nearest(cloud, points[rows]), rows)
        calls: Calls = {
            OURS: partial(cloud_distance, cloud, points),
            "scipy": partial(lib.scipy_nearest, cloud, points),
            **optional("open3d", "Open3D", partial(lib.open3d_nearest, cloud, points)),
        }
        case = f"20000 queries, {size} points"
        yield Operation("distance to a cloud", case, "largest", FLOAT32, truth, calls)


def scattered(name: str, mesh: Mesh) -> Operation:
    """Half near the surface and half anywhere, in random order; the tree is built each time."""
    points = queries(mesh, 20_000).astype(np.float64)
    rows = _some(len(points))
    truth = judge.largest_error(judge.brute_distance(mesh, points[rows]), rows)
    calls: Calls = {
        OURS: partial(surface_distance, mesh, points),
        "libigl": lambda: lib.igl_distances(mesh)(points),
        **optional("open3d", "Open3D", lambda: lib.open3d_distances(mesh)(points)),
    }
    return Operation("distance to a surface, 20000 queries, tree included", name, "largest", FLOAT32, truth, calls)


def grid(name: str, mesh: Mesh, size: int) -> Operation:
    """All cell centres of a cube."""
    centres = cell_centres(size)
    rows = _some(len(centres))
    truth = judge.largest_error(judge.brute_distance(mesh, centres[rows]), rows)
    calls: Calls = {
        OURS: partial(surface_udf_grid, mesh, size),
        "libigl": lambda: lib.igl_distances(mesh)(centres),
        **optional("open3d", "Open3D", lambda: lib.open3d_distances(mesh)(centres)),
    }
    return Operation(f"distance grid, {size}^3, tree included", name, "largest", FLOAT32, truth, calls)


def rays(name: str, mesh: Mesh) -> Operation:
    """8000 rays of 20 cameras; the error is that of depths, a hit for a miss being infinitely wrong."""
    rng = np.random.default_rng(SEED)
    origins, directions = (
        each.astype(np.float64) for each in camera_rays(20, 400, 8000, 2.2, math.radians(63), 60.0, rng)
    )
    rows = _some(len(origins))
    true = judge.brute_depth(mesh, origins[rows], directions[rows])

    def ours() -> tuple[Floats, Floats]:
        found: RayHits = mesh_hits(mesh, origins, directions)
        return np.where(found.hit > 0, found.t.astype(np.float64), np.inf), found.normal.astype(np.float64)

    def error(answer: tuple[Floats, Floats]) -> float:
        depth = answer[0][rows]
        hit = np.isfinite(true)
        same = np.array_equal(np.isfinite(depth), hit)
        return float(np.abs(depth[hit] - true[hit]).max(initial=0)) if same else math.inf

    calls: Calls = {
        OURS: ours,
        "trimesh and embreex": partial(lib.trimesh_hits, mesh, origins, directions),
        "embreex": partial(lib.embreex_hits, mesh, origins, directions),
        **optional("open3d", "Open3D", partial(lib.open3d_hits, mesh, origins, directions)),
    }
    return Operation("first hits of 8000 rays, tree included", name, "largest, of a depth", 1e-5, error, calls)


def queries(mesh: Mesh, count: int) -> NDArray[np.float32]:
    """(count, 3) positions in the cube, half of them within a few hundredths of the surface, shuffled."""
    rng = np.random.default_rng(SEED)
    near = sample_surface(mesh, count // 2, rng).points + rng.normal(0, 0.02, (count // 2, 3))
    uniform = rng.uniform(-1, 1, (count - count // 2, 3))
    return rng.permutation(np.concatenate([near, uniform])).astype(np.float32)


def optional(module: str, library: str, call: Callable[[], Any]) -> Calls:
    """The call of a library that may be missing."""
    return {} if lib.why_missing(module) else {library: call}


def _some(count: int) -> NDArray[np.int64]:
    """Rows that brute force looks at."""
    return np.sort(np.random.default_rng(SEED).permutation(count)[:JUDGED])
