"""The recipe `nepa-shapenet` on real meshes, beside the fastest libraries.

Ours is timed from the file to the validated record, as a worker computes it. The libraries are timed stage by stage
on the same mesh, cloud, positions and rays; of each stage the fastest one with right answers counts, and a stage that
no library has counts with our own function. They neither describe the mesh nor validate the arrays.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import geometry_judges as judge
from benchmarks import geometry_libraries as lib
from benchmarks.common import SEED, Timing, WrongValues, take_turns
from benchmarks.geometry_operations import JUDGED, optional
from benchmarks.geometry_records import job_of, own_stages, record_of
from benchmarks.geometry_trials import OURS
from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.compute import Job
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.preprocess.geometry.grid import cell_centres
from shapestore.preprocess.geometry.hygiene import clean
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame
from shapestore.preprocess.geometry.queries import query_pool
from shapestore.preprocess.geometry.rays import camera_rays, cloud_hits
from shapestore.preprocess.plan import PlannedItem
from shapestore.preprocess.raw import RawMesh
from shapestore.preprocess.source import load_source
from shapestore.schemas.recipe import RaysPart

LEAST_FACES, MOST_FACES = 500, 15_000
ARCHIVE: Final = ".zip"
NO_MESH: Final = (Reason.UNSUPPORTED, Reason.NO_FACES)
"""Why files below the folder are left alone: archives, and clouds of points."""

Answer = Callable[[Any], float]


@dataclass(frozen=True)
class Stage:
    """A part of the work of the libraries."""

    name: str
    entrants: Mapping[str, Callable[[], Any]]
    error: Answer | None = None
    """Judge of an answer; None where there is one way only, which is ours or a definition."""
    bound: float = 1e-6


@dataclass(frozen=True)
class Profile:
    """One shape, ours and the libraries'."""

    shape: str
    faces: int
    ours: Timing
    libraries: float
    """Seconds of the fastest libraries together."""
    chosen: Mapping[str, tuple[str, float]]
    """Stage to the fastest library and its seconds."""
    own: Mapping[str, float]
    """Our functions, as the record builder calls them, to their seconds."""
    error: float
    """Largest error of our distances, judged by brute force."""

    @property
    def ratio(self) -> float:
        """Times our time that the libraries take."""
        return self.libraries / self.ours.median


def unpacked(data: Path, folder: Path) -> Path:
    """A copy of the mesh files, with the files of each archive in a folder beside it."""
    root = folder / "mesh"
    shutil.copytree(data, root, copy_function=shutil.copyfile)
    for archive in sorted(root.rglob(f"*{ARCHIVE}")):
        shutil.unpack_archive(archive, archive.with_suffix(""))
    return root


def jobs(root: Path) -> Iterator[tuple[Job, PlannedItem, Mesh]]:
    """Every mesh of the wanted size, with what a worker would be told about it."""
    job = job_of(root, "meshes", "nepa-shapenet")
    source = load_source(job.source_kind)
    for item in source.discover(root, job.recipe).items:
        try:
            raw = source.read(root, item, job.recipe)
        except InputRefused as refused:
            if refused.reason in NO_MESH:
                continue
            raise
        if isinstance(raw, RawMesh) and LEAST_FACES <= len(raw.mesh.faces) <= MOST_FACES:
            yield job, PlannedItem(0, item), raw.mesh


def normalised(raw: Mesh) -> Mesh:
    """The mesh that distances are measured to."""
    cleaned, _ = clean(raw)
    return Mesh(box_frame(cleaned.vertices).apply(cleaned.vertices), cleaned.faces)


def profile(job: Job, planned: PlannedItem, raw: Mesh, repeats: int) -> Profile:
    """Check and time one mesh."""
    record = record_of(job, planned)
    mesh = normalised(raw)
    error = _true_distances(mesh, record.arrays)((record.arrays["pt_dist_pool"], record.arrays["udf_grid"]))
    stages = [_right_ones(stage) for stage in _stages(job, planned, raw, mesh, record.arrays)]
    calls: dict[str, Callable[[], Any]] = {OURS: partial(record_of, job, planned)}
    calls |= {f"{stage.name}/{library}": call for stage in stages for library, call in stage.entrants.items()}
    times = take_turns(calls, repeats, 0.0)
    chosen = {}
    for stage in stages:
        seconds = {library: times[f"{stage.name}/{library}"].median for library in stage.entrants}
        library = min(seconds, key=seconds.__getitem__)
        chosen[stage.name] = (library, seconds[library])
    total = sum(seconds for _, seconds in chosen.values())
    own = own_stages(partial(record_of, job, planned))
    return Profile(planned.item.path, len(raw.faces), times[OURS], total, chosen, own, error)


def _stages(
    job: Job, planned: PlannedItem, raw: Mesh, mesh: Mesh, arrays: Mapping[str, NDArray[Any]]
) -> Iterator[Stage]:
    """The recipe in the libraries' terms."""
    path, queries, cameras = job.raw / planned.item.path, job.recipe.queries, job.recipe.rays
    assert queries is not None
    assert cameras is not None
    cloud, pool, udf = arrays["pc_xyz"], arrays["pt_xyz_pool"], arrays["udf_grid"]
    size, rng = len(udf), np.random.default_rng(SEED)
    origins, directions = (arrays[f"ray_{which}_pool"].astype(np.float64) for which in "od")
    rows = np.sort(rng.permutation(len(pool))[:JUDGED])
    positions, centres = pool.astype(np.float64), cell_centres(size)

    def both(make: Callable[[Mesh], lib.Distances]) -> tuple[Any, Any]:
        distances = make(mesh)
        return distances(positions), distances(centres)

    yield Stage(
        "load",
        {
            "trimesh": partial(lib.trimesh_load, path),
            **({"libigl": partial(lib.igl_load, path)} if lib.igl_can_load(path) else {}),
            **optional("open3d", "Open3D", partial(lib.open3d_load, path)),
        },
        _same_area(raw),
        1e-5,
    )
    yield Stage("normalise", {"numpy": lambda: box_frame(raw.vertices).apply(raw.vertices)})
    yield Stage(
        "2048 points",
        {
            "trimesh": partial(lib.trimesh_sample, mesh, len(cloud)),
            "libigl": partial(lib.igl_sample, mesh, len(cloud)),
            **optional("open3d", "Open3D", partial(lib.open3d_sample, mesh, len(cloud))),
        },
        judge.off_surface(mesh, rows[rows < len(cloud)]),
    )
    for name, points in (("order of 2048", cloud), ("order of 20000", pool)):
        yield Stage(
            name,
            {
                **optional("fpsample", "fpsample", partial(lib.fpsample_order, points, 2048)),
                **optional("open3d", "Open3D", partial(lib.open3d_order, points, 2048)),
                OURS: partial(farthest_point_order, points, 2048),
            },
            judge.greedy_gap(points),
        )
    yield Stage("pool", {"numpy": lambda: query_pool(cloud, queries.count, queries.near_ratio, queries.sigma, rng)})
    yield Stage(
        "20000 distances and grid",
        {"libigl": partial(both, lib.igl_distances)}
        | dict(optional("open3d", "Open3D", partial(both, lib.open3d_distances))),
        _true_distances(mesh, arrays),
    )
    yield Stage(
        "cloud distances",
        {
            "scipy": partial(lib.scipy_nearest, cloud, pool),
            **optional("open3d", "Open3D", partial(lib.open3d_nearest, cloud, pool)),
        },
        judge.largest_error(judge.brute_nearest(cloud, pool[rows]), rows),
    )
    yield Stage("occupancy", {"scipy": partial(lib.scipy_occupancy, cloud, size)}, _equals(arrays["occ_grid"]), 0)
    read = judge.largest_error(arrays["pt_dist_udf_pool"][rows], rows)
    yield Stage("grid read", {"scipy": partial(lib.scipy_trilinear, udf, pool)}, read)
    yield Stage("cameras", {"numpy": lambda: _cameras(cameras, rng)})
    yield Stage(
        "mesh rays",
        {
            "embreex": partial(lib.embreex_hits, mesh, origins, directions),
            "trimesh": partial(lib.trimesh_hits, mesh, origins, directions),
            **optional("open3d", "Open3D", partial(lib.open3d_hits, mesh, origins, directions)),
        },
        _hits_as(arrays),
        0.1,
    )
    yield Stage(
        "cloud rays", {OURS: partial(cloud_hits, cloud, arrays["pc_n"], arrays["occ_grid"], origins, directions)}
    )


def _cameras(part: RaysPart, rng: np.random.Generator) -> object:
    elevation = math.radians(part.elevation)
    return camera_rays(part.views, part.rays_per_view, part.count, part.radius, elevation, part.field_of_view, rng)


def _right_ones(stage: Stage) -> Stage:
    """The stage without the libraries that answer wrong; our function counts only where no other does it right."""
    if stage.error is None:
        return stage
    right = {library: call for library, call in stage.entrants.items() if _error(stage, call) <= stage.bound}
    others = {library: call for library, call in right.items() if library != OURS}
    if not right:
        raise WrongValues(f"{stage.name}: nobody is right")
    return Stage(stage.name, others or right)


def _error(stage: Stage, call: Callable[[], Any]) -> float:
    """Error of one answer; infinite for a library that cannot do it at all, such as read a file."""
    assert stage.error is not None
    try:
        return stage.error(call())
    except (ValueError, RuntimeError, IndexError):
        return math.inf


def _true_distances(mesh: Mesh, arrays: Mapping[str, NDArray[Any]]) -> Answer:
    """Judge of distances of the pool and of the grid: the larger error of both."""
    judges = []
    for points in (arrays["pt_xyz_pool"].astype(np.float64), cell_centres(len(arrays["udf_grid"]))):
        rows = np.sort(np.random.default_rng(SEED).permutation(len(points))[:JUDGED])
        judges.append(judge.largest_error(judge.brute_distance(mesh, points[rows]), rows))
    return lambda answer: max(each(part) for each, part in zip(judges, answer, strict=True))


def _same_area(mesh: Mesh) -> Answer:
    """Judge of loaded meshes: relative error of the area, as libraries cut polygons and order faces as they like."""
    area = _area(mesh)
    return lambda found: abs(_area(found) / area - 1)


def _area(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _equals(array: NDArray[Any]) -> Answer:
    return lambda found: float(np.abs(found.astype(np.int64) - array).max())


def _hits_as(arrays: Mapping[str, NDArray[Any]]) -> Answer:
    """Judge of hits: percent of the rays that differ from ours by more than 1e-4 of depth."""
    ours = np.where(arrays["ray_hit_pool"] > 0, arrays["ray_t_pool"].astype(np.float64), np.inf)

    def error(answer: tuple[NDArray[np.float64], Any]) -> float:
        hit = np.isfinite(ours) & np.isfinite(answer[0])
        wrong = np.isfinite(ours) != np.isfinite(answer[0])
        wrong[hit] = np.abs(ours[hit] - answer[0][hit]) > 1e-4
        return float(100 * wrong.mean())

    return error
