"""A dense prediction of analytic balls has their classes, volumes and surfaces."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from shapestore.evaluate.dense import predict
from shapestore.preprocess.geometry.closed_mesh import signed_volume
from shapestore.preprocess.geometry.normalise import Frame

CENTRES = np.array([[-0.4, 0.0, 0.0], [0.4, 0.1, 0.0]])
RADII = np.array([0.3, 0.2])
FRAME = Frame(np.array([100.0, -20.0, 5.0]), 0.01)


def two_balls(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    distances = np.linalg.norm(queries[:, None] - CENTRES, axis=-1) - RADII
    return np.concatenate([distances.min(axis=1, keepdims=True), -distances], axis=1).astype(np.float32)


def one_ball(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    distance = np.linalg.norm(queries, axis=1, keepdims=True) - 1.2  # reaches out of the cube
    return np.concatenate([distance, np.zeros_like(distance)], axis=1).astype(np.float32)


def test_codes_are_those_of_the_ball_that_holds_the_cell() -> None:
    field = predict(two_balls, 32, 2)
    centres = -1 + (np.arange(32) + 0.5) / 16
    where = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1)
    expected = np.zeros((32, 32, 32), np.int8)
    for code, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True), start=1):
        expected[np.linalg.norm(where - centre, axis=-1) < radius] = code
    np.testing.assert_array_equal(field.codes, expected)


@pytest.mark.parametrize("code", [1, 2])
def test_a_class_surface_is_outward_and_lies_on_its_ball_in_raw_units(code: int) -> None:
    mesh = predict(two_balls, 64, 2).class_surface(code, FRAME)
    assert mesh is not None
    centre, radius = FRAME.invert(CENTRES[code - 1]), RADII[code - 1] / FRAME.scale
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - centre, axis=1), radius, rtol=0.01)
    assert signed_volume(mesh) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)


def test_the_union_has_both_balls() -> None:
    mesh = predict(two_balls, 48, 2).union_surface(FRAME)
    assert mesh is not None
    volume = sum(4 / 3 * np.pi * (radius / FRAME.scale) ** 3 for radius in RADII)
    assert signed_volume(mesh) == pytest.approx(volume, rel=0.02)


def test_a_class_that_is_hardly_more_likely_than_another_has_a_closed_surface() -> None:
    """As after a few steps of training: the logits differ by less than what half precision tells apart."""

    def hardly(queries: NDArray[np.float32]) -> NDArray[np.float32]:
        distance = np.linalg.norm(queries, axis=1, keepdims=True) - 0.7
        lean = 1e-4 * np.sin(5 * queries.sum(axis=1, keepdims=True))
        return np.concatenate([distance, 1 + lean, 1 - lean], axis=1).astype(np.float32)

    for code in (1, 2):
        mesh = predict(hardly, 32, 2).class_surface(code, FRAME)
        assert mesh is not None
        assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight


def test_what_leaves_the_cube_is_closed_at_its_border() -> None:
    mesh = predict(one_ball, 16, 1).union_surface(Frame(np.zeros(3), 1.0))
    assert mesh is not None
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert np.abs(mesh.vertices).max() < 1 + 2 / 16


def test_nothing_inside_has_no_surface() -> None:
    field = predict(lambda queries: np.ones((len(queries), 2), np.float32), 8, 1)
    assert field.union_surface(FRAME) is None
    assert not field.codes.any()
