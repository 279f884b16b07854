"""Closed meshes and their pseudonormals, against winding numbers and analytic shapes."""

from __future__ import annotations

import igl
import numpy as np
import pytest
import trimesh

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.bvh import TriangleTree, foot
from shapestore.preprocess.geometry.closed_mesh import ClosedMesh, closed_mesh, pseudonormal, signed_volume
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.triangle import CORNER, EDGE, INTERIOR


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(shape.vertices, np.float64), np.array(shape.faces, np.int64))


def spiky() -> trimesh.Trimesh:
    """A ball whose vertices lie at random radii: sharp edges, and vertices both convex and saddle-like."""
    shape = trimesh.creation.icosphere(subdivisions=2)
    shape.vertices *= np.random.default_rng(0).uniform(0.4, 1.0, (len(shape.vertices), 1))
    return shape


def uneven_spike() -> trimesh.Trimesh:
    """A spike of which one side has nearly all the faces: their normals outnumber those of the others."""
    turn = np.radians(np.concatenate([np.linspace(-2, 2, 41), [120, 240]]))
    rim = np.stack([0.3 * np.cos(turn), 0.3 * np.sin(turn), np.zeros(len(turn))], axis=1)
    n = len(rim)
    sides = [[k, (k + 1) % n, n] for k in range(n)]
    floor = [[(k + 1) % n, k, n + 1] for k in range(n)]
    return trimesh.Trimesh(np.concatenate([rim, [[0, 0, 1], [0, 0, 0]]]), sides + floor, process=False)


SHAPES = {
    "uneven spike": uneven_spike(),
    "box": trimesh.creation.box((1.0, 1.2, 0.2)),
    "torus": trimesh.creation.torus(0.7, 0.2, 24, 12),
    "spiky": spiky(),
    "needle": trimesh.creation.cone(0.02, 1.0, sections=5),
}


def inside_by_normal(solid: ClosedMesh, points: np.ndarray) -> tuple[np.ndarray, set[int]]:
    """Whether each position is inside, and the kinds of features that decided."""
    tree = TriangleTree(solid.mesh.vertices, solid.mesh.faces)
    nearest = tree.closest(points)
    row_of = {int(face): row for row, face in enumerate(tree.arrays.faces)}
    inside, kinds = [], set()
    for point, face in zip(points, nearest.faces, strict=True):
        *at, feature = foot(tree.arrays, row_of[int(face)], *point)
        normal = pseudonormal(solid.mesh.vertices, solid.mesh.faces, solid.starts, solid.rings, face, feature)
        inside.append(np.dot(point - at, normal) < 0)
        kinds.add(CORNER if feature >= CORNER else EDGE if feature >= EDGE else INTERIOR)
    return np.array(inside), kinds


@pytest.mark.parametrize("name", SHAPES)
def test_the_side_is_that_of_the_winding_number(name: str) -> None:
    solid = closed_mesh(mesh_of(SHAPES[name]), name)
    vertices, faces = solid.mesh.vertices, solid.mesh.faces
    rng = np.random.default_rng(1)
    spread = vertices[rng.integers(len(vertices), size=1500)] + rng.normal(0, 0.05, (1500, 3))
    around = vertices[rng.integers(len(vertices), size=500)] + rng.normal(0, 0.5, (500, 3))
    points = np.concatenate(
        [rng.uniform(-1.1, 1.1, (1500, 3)), spread, vertices[-2] + rng.normal(0, 0.1, (500, 3)), around]
    )
    inside, kinds = inside_by_normal(solid, points)
    np.testing.assert_array_equal(inside, igl.winding_number(vertices, faces, points) > 0.5)
    assert kinds == {INTERIOR, EDGE, CORNER}


def test_the_volume_is_that_of_the_library_wherever_the_mesh_lies() -> None:
    for shape in SHAPES.values():
        mesh = mesh_of(shape)
        assert signed_volume(mesh) == pytest.approx(shape.volume)
        assert signed_volume(Mesh(mesh.vertices + 1e6, mesh.faces)) == pytest.approx(shape.volume, rel=1e-6)


def spoilt() -> dict[str, Mesh]:
    box = mesh_of(SHAPES["box"])
    return {
        "hole": Mesh(box.vertices, box.faces[1:]),
        "flipped face": Mesh(box.vertices, np.concatenate([box.faces[:1, ::-1], box.faces[1:]])),
        "inverted": Mesh(box.vertices, box.faces[:, ::-1].copy()),
        "doubled": Mesh(box.vertices, np.concatenate([box.faces, box.faces])),
        "flap": Mesh(
            np.concatenate([box.vertices, [[2.0, 2, 2]]]), np.concatenate([box.faces, [[*box.faces[0, :2], 8]]])
        ),
    }


@pytest.mark.parametrize("name", spoilt())
def test_what_encloses_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputRefused, match="it") as refused:
        closed_mesh(spoilt()[name], "it")
    assert refused.value.reason is Reason.NOT_CLOSED


def test_rings_hold_the_faces_of_each_vertex() -> None:
    solid = closed_mesh(mesh_of(SHAPES["torus"]), "torus")
    for vertex in range(0, len(solid.mesh.vertices), 7):
        expected = np.flatnonzero((solid.mesh.faces == vertex).any(axis=1))
        np.testing.assert_array_equal(solid.rings[solid.starts[vertex] : solid.starts[vertex + 1]], expected)
