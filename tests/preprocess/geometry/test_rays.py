from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.geometry.distance import surface_distance
from shapestore.preprocess.geometry.grid import cell_centres, occupancy_grid
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame
from shapestore.preprocess.geometry.rays import camera_rays, cloud_hits, mesh_hits

SEED_CAMERAS = {"radius": 2.2, "elevation": 0.35 * np.pi, "fov_degrees": 60.0}
REAL = [
    "GHDHeart/LV.obj",
    "kaolin/avocado.obj",
    "pytorch3d/cow.obj",
    "assimp/spider.obj",
    "trimesh/suzanne.ply",
]


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(solid.vertices, np.float64), np.array(solid.faces, np.int64))


def random_rays(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays from everywhere through the cube, some of them along an axis."""
    origins = rng.uniform(-3, 3, (count, 3))
    towards = rng.uniform(-1, 1, (count, 3)) - origins
    axis = rng.random((count, 3)) < 0.15
    towards[axis] = 0
    towards[(towards == 0).all(axis=1)] = [0, 0, 1]
    return origins, towards / np.linalg.norm(towards, axis=1, keepdims=True)


# --- cameras


def test_cameras_stand_where_they_should_and_see_the_origin_in_the_middle() -> None:
    origins, directions = camera_rays(20, 400, 8000, rng=np.random.default_rng(0), **SEED_CAMERAS)
    assert origins.dtype == directions.dtype == np.float32
    assert origins.shape == directions.shape == (8000, 3)
    np.testing.assert_allclose(np.linalg.norm(directions.astype(float), axis=1), 1, atol=1e-6)
    cameras = origins.reshape(20, 400, 3)
    assert (cameras == cameras[:, :1]).all()
    x, y, z = cameras[:, 0].astype(float).T
    np.testing.assert_allclose(np.hypot(np.hypot(x, y), z), 2.2, rtol=1e-6)
    np.testing.assert_allclose(np.arctan2(y, x) % (2 * np.pi), np.arange(20) * np.pi / 10, atol=1e-5)
    np.testing.assert_allclose(np.arcsin(z / 2.2), np.linspace(-0.35, 0.35, 20) * np.pi, atol=1e-5)
    mean = directions.reshape(20, 400, 3).mean(axis=1)
    np.testing.assert_allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), -cameras[:, 0] / 2.2, atol=0.08)


@pytest.mark.parametrize("elevation", [0.0, 1.0, np.pi / 2])
def test_rays_fill_the_field_of_view(elevation: float) -> None:
    origins, directions = camera_rays(5, 4000, 20_000, 2.0, elevation, 90.0, np.random.default_rng(1))
    depth = -(directions * origins).sum(axis=1) / 2.0
    off_axis = directions / depth[:, None] + origins / 2.0
    inner = np.linalg.norm(off_axis, axis=1)
    # The image plane at depth 1 is the square [-1, 1]^2: its corners are sqrt(2) away, (pi / 4) of it within 1.
    assert 1.3 < inner.max() <= np.sqrt(2) + 1e-5
    assert (inner < 1).mean() == pytest.approx(np.pi / 4, abs=0.02)
    # At the horizon up is z, at the poles it is y: there the sides of the image lie along these axes.
    horizon, pole = np.abs(origins[:, 2]) < 1e-6, np.abs(origins[:, 2]) > 2 - 1e-6
    assert horizon.any()
    assert np.abs(off_axis[horizon, 2]).max() == pytest.approx(1, abs=1e-2)
    assert np.abs(off_axis[pole, :2]).max(initial=1) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(
    ("views", "each", "count"),
    [(20, 400, 100), (20, 400, 107), (3, 0, 100), (7, 10, 70), (1, 1, 1), (5, 3, 0)],
)
def test_the_count_is_met_by_all_cameras_alike(views: int, each: int, count: int) -> None:
    origins, directions = camera_rays(views, each, count, rng=np.random.default_rng(2), **SEED_CAMERAS)
    assert len(origins) == len(directions) == count
    shares = np.unique(origins, axis=0, return_counts=True)[1]
    assert len(shares) == min(views, count)
    assert count == 0 or shares.max() - shares.min() <= 1
    changes = (np.diff(origins, axis=0) != 0).any(axis=1).sum()
    assert changes == max(len(shares) - 1, 0)  # camera after camera


def test_impossible_cameras_are_refused() -> None:
    good = {"views": 2, "radius": 2.0, "elevation": 1.0, "fov_degrees": 60.0}
    for bad in [
        {"views": 0},
        {"radius": 0.0},
        {"elevation": 2.0},
        {"fov_degrees": 180.0},
        {"fov_degrees": np.nan},
    ]:
        with pytest.raises(ValueError, match="no cameras"):
            camera_rays(rays_per_view=1, count=1, rng=np.random.default_rng(0), **{**good, **bad})


# --- meshes


def test_a_box_by_the_slab_formula() -> None:
    origins, directions = random_rays(np.random.default_rng(3), 3000)
    half = np.array([0.5, 0.4, 0.3])
    keep = ~((np.abs(origins) < half).all(axis=1))
    origins, directions = origins[keep], directions[keep]
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.sort([(-half - origins) / directions, (half - origins) / directions], axis=0)
    enter, leave = np.max(walls[0], axis=1), np.min(walls[1], axis=1)
    expected = (enter < leave) & (enter > 0)
    hits = mesh_hits(mesh_of(trimesh.creation.box(extents=2 * half)), origins, directions)
    clear = np.abs(enter - leave) > 1e-5
    np.testing.assert_array_equal(hits.hit[clear], expected[clear])
    both = clear & expected
    np.testing.assert_allclose(hits.t[both], enter[both], rtol=1e-6)
    face = np.argmax(walls[0][both], axis=1)
    normal = np.zeros((both.sum(), 3))
    normal[np.arange(len(face)), face] = -np.sign(directions[both][np.arange(len(face)), face])
    np.testing.assert_allclose(hits.normal[both], normal, atol=1e-7)


def test_misses_are_zero_throughout() -> None:
    box = mesh_of(trimesh.creation.box())
    hits = mesh_hits(box, [[0, 0, 5.0], [0, 0, 5.0]], [[0, 0, 1.0], [0, 0, -1.0]])
    assert (hits.hit.dtype, hits.t.dtype, hits.normal.dtype) == (np.uint8, np.float32, np.float32)
    np.testing.assert_array_equal(hits.hit, [0, 1])
    np.testing.assert_array_equal(hits.t, [0, 4.5])
    np.testing.assert_array_equal(hits.normal, [[0, 0, 0], [0, 0, 1]])


def test_normals_are_the_faces_own_also_from_behind() -> None:
    triangle = Mesh(np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    hits = mesh_hits(triangle, [[0, 0, 3.0], [0, 0, -3.0]], [[0, 0, -1.0], [0, 0, 1.0]])
    np.testing.assert_array_equal(hits.t, 3)
    np.testing.assert_array_equal(hits.normal, [[0, 0, 1], [0, 0, 1]])


def test_no_ray_from_inside_escapes_a_closed_surface_not_even_at_vertices_and_edges() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    targets = np.concatenate([ball.vertices, ball.vertices[ball.edges_unique].mean(axis=1)])
    directions = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    hits = mesh_hits(mesh_of(ball), np.full_like(directions, 0.0), directions)
    assert hits.hit.all()
    np.testing.assert_allclose(hits.t, np.linalg.norm(targets, axis=1), rtol=1e-6)


def test_rays_survive_a_far_away_origin_and_any_unit() -> None:
    ball = mesh_of(trimesh.creation.icosphere(subdivisions=3))
    origins, directions = random_rays(np.random.default_rng(4), 1000)
    near = mesh_hits(ball, origins, directions)
    offset = np.array([6.65e5, 5.65e6, 0])
    far = mesh_hits(Mesh(ball.vertices * 50 + offset, ball.faces), origins * 50 + offset, directions)
    assert (near.hit != far.hit).sum() <= 2
    both = (near.hit & far.hit).astype(bool)
    np.testing.assert_allclose(far.t[both] / 50, near.t[both], atol=1e-5)


@pytest.mark.parametrize("name", REAL)
def test_real_meshes_agree_with_all_triangles_tried_in_float64(shared_data: Path, name: str) -> None:
    raw = mesh_of(trimesh.load(shared_data / "mesh" / name, force="mesh", process=False))
    mesh = Mesh(box_frame(raw.vertices).apply(raw.vertices), raw.faces)
    origins, directions = camera_rays(5, 40, 200, rng=np.random.default_rng(5), **SEED_CAMERAS)
    depth = brute_force(mesh, origins.astype(np.float64), directions.astype(np.float64))
    hits = mesh_hits(mesh, origins, directions)
    assert hits.hit.any()
    assert (hits.hit != np.isfinite(depth)).sum() <= 1  # a ray through an edge may fall on either side
    both = hits.hit.astype(bool) & np.isfinite(depth)
    close = np.isclose(hits.t[both], depth[both], atol=1e-5)
    assert (~close).sum() <= 1
    np.testing.assert_allclose(np.linalg.norm(hits.normal[both], axis=1), 1, atol=1e-6)


def brute_force(mesh: Mesh, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n,) depth of the first hit by signed volumes, infinite for a miss."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    normal = np.cross(b - a, c - a)
    depths = np.full(len(origins), np.inf)
    for row, (start, towards) in enumerate(zip(origins, directions, strict=True)):
        sides = [(np.cross(p - start, q - start) @ towards) for p, q in ((a, b), (b, c), (c, a))]
        through = (np.min(sides, axis=0) >= 0) | (np.max(sides, axis=0) <= 0)
        through &= np.abs(normal @ towards) > 1e-14
        depth = ((a - start) * normal).sum(axis=1)[through] / (normal @ towards)[through]
        depths[row] = depth[depth >= 0].min(initial=np.inf)
    return depths


def test_agrees_with_the_same_rays_through_another_library(shared_data: Path) -> None:
    raw = trimesh.load(shared_data / "mesh" / "pytorch3d" / "cow.obj", force="mesh", process=False)
    mesh = mesh_of(raw)
    origins, directions = camera_rays(20, 400, 8000, rng=np.random.default_rng(6), **SEED_CAMERAS)
    locations, rows, faces = raw.ray.intersects_location(origins, directions, multiple_hits=False)
    hits = mesh_hits(mesh, origins, directions)
    expected = np.zeros(8000, np.uint8)
    expected[rows] = 1
    assert (hits.hit != expected).sum() <= 4
    both = hits.hit[rows] > 0
    depth = ((locations - origins[rows]) * directions[rows]).sum(axis=1)
    same = np.isclose(hits.t[rows][both], depth[both], atol=1e-5)
    assert (~same).mean() < 1e-3
    np.testing.assert_allclose(hits.normal[rows][both][same], raw.face_normals[faces][both][same], atol=0.2)


@pytest.mark.parametrize("slope", [1e-8, 1e-3])
def test_grazing_rays_hit_within_the_face(slope: float) -> None:
    rng = np.random.default_rng(7)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    corners = np.array([[-0.6, -0.3, 0], [0.5, -0.4, 0], [0.1, 0.7, 0]]) @ axes + 0.1
    sheet = Mesh(corners, np.array([[0, 1, 2]]))
    targets = rng.dirichlet(np.ones(3), 5000) @ corners
    towards = rng.uniform(-2, 2, (5000, 2)) @ axes[:2] + rng.choice([-slope, slope], (5000, 1)) * axes[2]
    starts = targets - towards + rng.normal(size=(5000, 1)) * 1e-8 * axes[2]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    hits = mesh_hits(sheet, starts, towards)
    hit = hits.hit > 0
    assert hit.sum() > 100
    reach = ((corners - starts[hit, None]) * towards[hit, None]).sum(axis=2)
    assert (hits.t[hit] >= reach.min(axis=1) - 1e-6).all()
    assert (hits.t[hit] <= reach.max(axis=1) + 1e-6).all()
    if slope == 1e-3:  # at 1e-8 the plane is met anywhere: only the corners bound the hit
        assert surface_distance(sheet, starts[hit] + hits.t[hit, None] * towards[hit]).max() < 1e-4


def test_bad_rays_and_meshes_are_refused() -> None:
    box = mesh_of(trimesh.creation.box())
    ray = np.array([[0.0, 0, 5]]), np.array([[0.0, 0, -1]])
    for mesh, origins, reason in [
        (Mesh(box.vertices, np.zeros((0, 3), np.int64)), ray[0], Reason.NO_FACES),
        (Mesh(box.vertices, box.faces + 8), ray[0], Reason.INDEX_RANGE),
        (box, ray[0] * np.nan, Reason.NOT_FINITE),
    ]:
        with pytest.raises(InputRefused) as refused:
            mesh_hits(mesh, origins, ray[1])
        assert refused.value.reason is reason


def test_a_platform_without_embreex_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    with pytest.raises(UsageError, match="embreex"):
        mesh_hits(mesh_of(trimesh.creation.box()), [[0, 0, 5.0]], [[0, 0, -1.0]])


# --- grids


def cell_entries(occupancy: np.ndarray, origins: np.ndarray, directions: np.ndarray, grow: float) -> np.ndarray:
    """(n,) entry into the nearest occupied cell by a slab test of each, their half size changed by `grow`."""
    size = len(occupancy)
    centres = cell_centres(size)[occupancy.reshape(-1) > 0]
    half = 1 / size + grow
    start, towards = origins[:, None], directions[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.sort([(centres - half - start) / towards, (centres + half - start) / towards], axis=0)
    inside = np.abs(centres - start) <= half
    low = np.where(towards == 0, np.where(inside, -np.inf, np.inf), walls[0]).max(axis=2)
    high = np.where(towards == 0, np.where(inside, np.inf, -np.inf), walls[1]).min(axis=2)
    return np.where((low <= high) & (high >= 0), np.maximum(low, 0), np.inf).min(axis=1, initial=np.inf)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 8), st.integers(0, 2**32))
def test_the_walk_finds_the_cell_that_testing_all_finds(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(-1, 1, (rng.integers(1, 30), 3))
    occupancy = occupancy_grid(cloud, size, 0)
    origins, directions = random_rays(rng, 100)
    hits = cloud_hits(cloud, None, occupancy, origins, directions)
    found = np.where(hits.hit > 0, hits.t, np.inf)
    # Touching an edge may count or not: the truth lies between cells a little smaller and a little larger.
    smaller = cell_entries(occupancy, origins, directions, -1e-9)
    larger = cell_entries(occupancy, origins, directions, 1e-9)
    assert (found <= smaller + 1e-5).all()
    assert (found >= larger - 1e-5).all()
    assert not hits.normal.any()


def test_lattice_rays_along_cell_walls_do_not_leave_the_grid() -> None:
    steps = np.linspace(-1.5, 1.5, 13)
    origins = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    occupancy = np.zeros((4, 4, 4), np.uint8)
    occupancy[3, 3, 3] = 1
    for towards in [(1, 0, 0), (0, -1, 0), (0, 0, 1), (1, 1, 0), (-1, 1, 1), (1, 1, 1), (-1, -1, -1)]:
        directions = np.tile(np.array(towards) / np.linalg.norm(towards), (len(origins), 1))
        found = cloud_hits(np.ones((1, 3)), None, occupancy, origins, directions)
        depth = np.where(found.hit > 0, found.t, np.inf)
        assert (depth <= cell_entries(occupancy, origins, directions, -1e-9) + 1e-5).all()
        assert (depth >= cell_entries(occupancy, origins, directions, 1e-9) - 1e-5).all()


def test_normals_come_from_the_nearest_point() -> None:
    cloud = np.array([[0.9, 0.0, 0.0], [-0.9, 0.0, 0.0]])
    normals = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    occupancy = occupancy_grid(cloud, 16, 1)
    hits = cloud_hits(
        cloud,
        normals,
        occupancy,
        [[3.0, 0, 0], [-3.0, 0, 0], [0, 3.0, 0]],
        [[-1, 0, 0], [1, 0, 0], [0, -1, 0]],
    )
    np.testing.assert_array_equal(hits.hit, [1, 1, 0])
    np.testing.assert_allclose(hits.t, [2, 2, 0])
    np.testing.assert_array_equal(hits.normal, [[1, 0, 0], [-1, 0, 0], [0, 0, 0]])


def test_a_ray_that_starts_in_an_occupied_cell_hits_at_once() -> None:
    occupancy = np.ones((2, 2, 2), np.uint8)
    hits = cloud_hits(np.zeros((1, 3)), None, occupancy, [[0.1, 0.1, 0.1]], [[0, 0, 1.0]])
    np.testing.assert_array_equal(hits.hit, 1)
    np.testing.assert_array_equal(hits.t, 0)


def test_bad_clouds_are_refused() -> None:
    ray = [[0.0, 0, 5]], [[0.0, 0, -1]]
    grid = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(InputRefused, match="empty cloud"):
        cloud_hits(np.zeros((0, 3)), None, grid, *ray)
    with pytest.raises(InputRefused, match="NaN"):
        cloud_hits(np.full((1, 3), np.nan), None, grid, *ray)
    with pytest.raises(ValueError, match="cube"):
        cloud_hits(np.zeros((1, 3)), None, grid[:1], *ray)
    with pytest.raises(ValueError, match="normals"):
        cloud_hits(np.zeros((1, 3)), np.zeros((2, 3)), grid, *ray)
