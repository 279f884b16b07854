from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.stats import chisquare, kstest

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import sample_surface

BUMPY = trimesh.creation.icosphere(subdivisions=1)
BUMPY.vertices *= np.random.default_rng(5).uniform(0.5, 1.5, (len(BUMPY.vertices), 1))
MESH = Mesh(np.array(BUMPY.vertices), np.array(BUMPY.faces, np.int64))
TRIANGLE = Mesh(np.array([[1.0, 1, 1], [4, 1, 1], [1, 3, 2]]), np.array([[0, 1, 2]]))


def barycentric(mesh: Mesh, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return trimesh.triangles.points_to_barycentric(mesh.vertices[mesh.faces[faces]], points)


def test_faces_are_drawn_by_area() -> None:
    drawn = sample_surface(MESH, 50_000, np.random.default_rng(1)).faces
    expected = BUMPY.area_faces / BUMPY.area * 50_000
    assert chisquare(np.bincount(drawn, minlength=len(MESH.faces)), expected).pvalue > 1e-3


def test_positions_are_uniform_within_a_face() -> None:
    weights = barycentric(TRIANGLE, *_points_and_faces(TRIANGLE, 20_000))
    for corner in range(3):
        # A uniform point of a triangle has barycentric weights with distribution 1 - (1 - w)^2 each.
        assert kstest(weights[:, corner], lambda w: 1 - (1 - w) ** 2).pvalue > 1e-3


def test_points_lie_on_their_faces_with_the_face_normal() -> None:
    samples = sample_surface(MESH, 3000, np.random.default_rng(2))
    weights = barycentric(MESH, samples.points, samples.faces)
    assert weights.min() >= -1e-9
    rebuilt = (weights[:, :, None] * MESH.vertices[MESH.faces[samples.faces]]).sum(axis=1)
    np.testing.assert_allclose(rebuilt, samples.points, atol=1e-12)
    np.testing.assert_allclose(samples.normals, BUMPY.face_normals[samples.faces], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(samples.normals, axis=1), 1, atol=1e-14)
    assert (samples.points.dtype, samples.normals.dtype, samples.faces.dtype) == (float, float, np.int64)


def test_a_shorter_draw_is_a_prefix_and_draws_repeat() -> None:
    long = sample_surface(MESH, 100, np.random.default_rng(3))
    short = sample_surface(MESH, 40, np.random.default_rng(3))
    np.testing.assert_array_equal(long.points[:40], short.points)
    np.testing.assert_array_equal(long.faces[:40], short.faces)
    assert len(sample_surface(MESH, 0, np.random.default_rng(3)).points) == 0


def test_faces_without_area_are_never_drawn() -> None:
    faces = np.array([[0, 0, 1], [0, 1, 2], [1, 1, 1], [2, 1, 2]])
    samples = sample_surface(Mesh(TRIANGLE.vertices, faces), 1000, np.random.default_rng(4))
    assert set(samples.faces.tolist()) == {1}

    class Lowest(np.random.Generator):
        def random(self, size: object) -> np.ndarray:  # type: ignore[override]
            return np.zeros(size)  # type: ignore[call-overload, no-any-return]

    edge = sample_surface(Mesh(TRIANGLE.vertices, faces), 3, Lowest(np.random.PCG64(0)))
    assert set(edge.faces.tolist()) == {1}


def test_far_from_the_origin_samples_stay_on_the_surface() -> None:
    offset = np.array([6.65e5, 5.65e6, 0])
    near = sample_surface(MESH, 500, np.random.default_rng(6))
    far = sample_surface(Mesh(MESH.vertices + offset, MESH.faces), 500, np.random.default_rng(6))
    np.testing.assert_allclose(far.points - offset, near.points, atol=1e-8)


def test_a_mesh_without_area_is_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        sample_surface(Mesh(TRIANGLE.vertices, np.array([[0, 1, 1]])), 5, np.random.default_rng(0))
    assert refused.value.reason is Reason.ZERO_AREA


def _points_and_faces(mesh: Mesh, count: int) -> tuple[np.ndarray, np.ndarray]:
    samples = sample_surface(mesh, count, np.random.default_rng(9))
    return samples.points, samples.faces
