from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges import damage, furniture
from judges.solids import box, gyroid_blob, hollow, sphere, union
from shapestore.errors import InputRefused
from shapestore.preprocess.formats.mesh_file import read_mesh
from shapestore.preprocess.geometry.grid import cell_centres
from shapestore.preprocess.geometry.hygiene import clean
from shapestore.preprocess.geometry.inside_grid import inside_grid
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame
from shapestore.preprocess.geometry.sign import Inside

FEW = 10_000


def agreement(mesh: Mesh, size: int) -> float:
    inside = Inside(mesh, 0)
    grid = inside.grid(size)
    assert grid.shape == (size, size, size)
    return float((grid.reshape(-1) == inside.contains(cell_centres(size))).mean())


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_a_grid_of_a_closed_shape_equals_the_positions_one_by_one(size: int) -> None:
    for shape in (
        union("ball", [sphere(1)]),
        union("aligned box", [box((1, 1, 1))]),
        hollow("shells", [sphere(1), sphere(0.8), sphere(0.5)]),
        furniture.shelf(),
        union("gyroid", [gyroid_blob(24)]),
    ):
        assert agreement(shape.mesh, size) == 1


OPEN: dict[str, Callable[[int], Mesh]] = {
    "holes": lambda seed: damage.holes(furniture.assembly(seed).mesh, 0.02, seed),
    "cracks": lambda seed: damage.cracks(furniture.assembly(seed).mesh, 0.02, seed),
    "missing": lambda seed: damage.missing_patch(furniture.assembly(seed).mesh, 0.02, seed),
    "sheets": lambda seed: furniture.sheet_assembly(seed).mesh,
}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", OPEN)
def test_a_grid_of_an_open_shape_equals_the_positions_at_999_of_1000_cells(spoil: str) -> None:
    for seed in range(4):
        assert agreement(OPEN[spoil](seed), 32) >= 0.999


def test_few_cells_are_asked_where_the_parts_are_closed() -> None:
    asked = 0

    def contains(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return np.asarray(np.linalg.norm(points, axis=1) < 0.9)

    ball = sphere(0.9).mesh
    grid = inside_grid(contains, ball, 48, closed=True)
    assert 0 < grid.mean() < 1
    assert asked < FEW


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_no_region_reaches_across_a_face(seed: int, size: int) -> None:
    """Lattice-aligned boxes put faces, edges and corners exactly on centres and on the lines between them."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 2 * size, 3)
    high = low + rng.integers(1, size + 2, 3)
    corners = np.stack([low, high]) / size - 1
    mesh = box(corners[1] - corners[0], corners.mean(axis=0)).mesh
    centres = cell_centres(size)
    within = ((centres > corners[0] + 1e-6) & (centres < corners[1] - 1e-6)).all(axis=1)
    beyond = ((centres < corners[0] - 1e-6) | (centres > corners[1] + 1e-6)).any(axis=1)

    def contains(points: np.ndarray) -> np.ndarray:
        return np.asarray(((points > corners[0]) & (points < corners[1])).all(axis=1))

    grid = inside_grid(contains, mesh, size, closed=True).reshape(-1)
    assert grid[within].all()
    assert not grid[beyond].any()


@pytest.mark.slow
def test_grids_of_real_meshes_equal_the_positions_at_999_of_1000_cells(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "mesh").rglob("*")):
        if path.suffix.lower() not in {".obj", ".off", ".ply", ".stl", ".glb"}:
            continue
        try:
            mesh = clean(read_mesh(path)[0])[0]
        except InputRefused:
            continue
        if 500 <= len(mesh.faces) <= 15_000:
            normalised = Mesh(box_frame(mesh.vertices).apply(mesh.vertices), mesh.faces)
            assert agreement(normalised, 40) >= 0.999, path.name
            compared += 1
    assert compared >= 10
