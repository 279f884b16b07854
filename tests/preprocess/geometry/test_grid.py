from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import map_coordinates

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.mesh_file import read_mesh
from shapestore.preprocess.geometry.distance import surface_distance
from shapestore.preprocess.geometry.grid import (
    cell_centres,
    cloud_udf_grid,
    edt_udf_grid,
    occupancy_grid,
    surface_udf_grid,
)
from shapestore.preprocess.geometry.hygiene import clean
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame
from shapestore.preprocess.geometry.trilinear import trilinear

CLOUD = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1, 1))
SIZES = st.integers(1, 9)


def test_centres_follow_the_convention_in_x_y_z_order() -> None:
    centres = cell_centres(4).reshape(4, 4, 4, 3)
    axis = [-0.75, -0.25, 0.25, 0.75]
    for dimension, index in enumerate([np.s_[:, 0, 0], np.s_[0, :, 0], np.s_[0, 0, :]]):
        np.testing.assert_array_equal(centres[index][:, dimension], axis)
    np.testing.assert_array_equal(cell_centres(1), [[0, 0, 0]])


@given(CLOUD, SIZES)
def test_a_cell_is_occupied_if_a_point_is_within_half_a_cell_of_its_centre(cloud: np.ndarray, size: int) -> None:
    occupied = occupancy_grid(cloud, size, 0).reshape(-1).astype(bool)
    gap = np.abs(cloud[:, None] - cell_centres(size)).max(axis=2) - 1 / size
    assert not (occupied & (gap > 1e-9).all(axis=0)).any()
    assert occupied[(gap < -1e-9).any(axis=0)].all()


@given(CLOUD, SIZES, st.integers(0, 3))
def test_dilation_reaches_face_neighbours_step_by_step(cloud: np.ndarray, size: int, dilate: int) -> None:
    seeds = np.argwhere(occupancy_grid(cloud, size, 0))
    cells = np.argwhere(np.ones((size, size, size)))
    steps = np.abs(cells[:, None] - seeds).sum(axis=2).min(axis=1).reshape(size, size, size)
    grid = occupancy_grid(cloud, size, dilate)
    assert grid.dtype == np.uint8
    np.testing.assert_array_equal(grid, steps <= dilate)


@given(CLOUD, SIZES, st.integers(0, 2))
def test_the_occupancy_field_is_the_distance_to_the_nearest_occupied_centre(
    cloud: np.ndarray, size: int, dilate: int
) -> None:
    occupied = occupancy_grid(cloud, size, dilate).reshape(-1) > 0
    centres = cell_centres(size)
    expected = np.linalg.norm(centres[:, None] - centres[occupied], axis=2).min(axis=1)
    field = edt_udf_grid(cloud, size, dilate)
    assert field.dtype == np.float32
    np.testing.assert_allclose(field.reshape(-1), expected, rtol=1e-6, atol=1e-9)


def assert_cells_are_points(mesh: Mesh, size: int) -> None:
    field = surface_udf_grid(mesh, size)
    assert field.dtype == np.float32
    np.testing.assert_array_equal(field, surface_distance(mesh, cell_centres(size)).reshape(size, size, size))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 21), st.sampled_from([1e-3, 0.1, 1, 30]))
def test_the_surface_field_has_the_bytes_of_scattered_distances(seed: int, faces: int, size: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-1, 1, (faces, 1, 3)) + scale * rng.normal(size=(faces, 3, 3))
    assert_cells_are_points(Mesh(corners.reshape(-1, 3), np.arange(3 * faces).reshape(-1, 3)), size)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(6, 10))
def test_mirrored_and_repeated_surfaces_whose_cells_have_several_nearest_faces(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    third = rng.integers(-2, 3, (12, 3)) / rng.choice([2, 3, 4])
    vertices = np.concatenate([third * [x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    assert_cells_are_points(Mesh(vertices, np.arange(len(vertices)).reshape(-1, 3)), size)


@pytest.mark.parametrize("subdivisions", [2, 4, 6])
def test_crowded_blocks_are_cut_and_lose_nothing(subdivisions: int) -> None:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.4)
    shifted = np.array(ball.vertices) + np.array([0.1, -0.2, 0.3])
    assert_cells_are_points(Mesh(shifted, np.array(ball.faces, np.int64)), 37)


@pytest.mark.slow
def test_the_fields_of_all_real_meshes_have_the_bytes_of_scattered_distances(shared_data: Path) -> None:
    count = 0
    for path in sorted((shared_data / "mesh").rglob("*")):
        if path.suffix.lower() not in {".obj", ".off", ".ply", ".stl", ".glb"}:
            continue
        try:
            mesh, _ = clean(read_mesh(path)[0])
        except InputRefused:  # lines and clouds without a face
            continue
        assert_cells_are_points(Mesh(box_frame(mesh.vertices).apply(mesh.vertices), mesh.faces), 64)
        count += 1
    assert count > 20


def test_the_exact_fields_of_a_ball_and_of_a_point() -> None:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.6)
    field = surface_udf_grid(Mesh(np.array(ball.vertices), np.array(ball.faces, np.int64)), 16)
    radius = np.linalg.norm(cell_centres(16), axis=1).reshape(16, 16, 16)
    np.testing.assert_allclose(field, np.abs(radius - 0.6), atol=1e-3)
    point = np.array([[0.3, -0.2, 0.1]])
    expected = np.linalg.norm(cell_centres(16) - point, axis=1).reshape(16, 16, 16)
    np.testing.assert_allclose(cloud_udf_grid(point, 16), expected, rtol=1e-6)


@settings(deadline=None)
@given(SIZES, st.integers(0, 2**32))
def test_reading_agrees_with_an_independent_interpolation(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.normal(size=(size, size, size)).astype(np.float32)
    points = rng.uniform(-1.3, 1.3, (50, 3))
    index = (points + 1) / 2 * size - 0.5
    expected = map_coordinates(grid.astype(np.float64), index.T, order=1, mode="nearest")
    values = trilinear(grid, points)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(SIZES, st.integers(0, 2**32))
def test_laws_of_reading(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.normal(size=(size, size, size)).astype(np.float32)
    np.testing.assert_allclose(trilinear(grid, cell_centres(size)), grid.reshape(-1), atol=1e-5)
    anywhere = trilinear(grid, rng.uniform(-9, 9, (200, 3)))
    assert anywhere.min() >= grid.min() - 1e-6
    assert anywhere.max() <= grid.max() + 1e-6
    slope = rng.normal(size=3)
    linear = (cell_centres(size) @ slope).reshape(size, size, size)
    inner = rng.uniform(-1 + 1 / size, 1 - 1 / size, (50, 3)) if size > 1 else np.zeros((1, 3))
    np.testing.assert_allclose(trilinear(linear, inner), inner @ slope, atol=1e-5)


def test_half_precision_grids_are_read() -> None:
    grid = np.arange(8, dtype=np.float16).reshape(2, 2, 2)
    np.testing.assert_array_equal(trilinear(grid, [[0, 0, 0], [9, 9, 9]]), [3.5, 7])


def test_bad_grids_and_points_are_refused() -> None:
    for points, reason in [
        (np.zeros((0, 3)), Reason.TOO_FEW_POINTS),
        (np.array([[1.1, 0, 0]]), Reason.RULE),
        (np.array([[np.nan, 0, 0]]), Reason.RULE),
    ]:
        with pytest.raises(InputRefused) as refused:
            occupancy_grid(points, 4, 0)
        assert refused.value.reason is reason
    with pytest.raises(InputRefused) as refused:
        trilinear(np.zeros((2, 2, 2), np.float32), [[np.nan, 0, 0]])
    assert refused.value.reason is Reason.NOT_FINITE
    with pytest.raises(ValueError, match="cube"):
        trilinear(np.zeros((2, 2, 3), np.float32), [[0, 0, 0]])
