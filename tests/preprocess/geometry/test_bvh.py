from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import igl
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.mesh_file import read_mesh
from shapestore.preprocess.geometry.bvh import (
    Closest,
    TriangleTree,
    foot,
    morton_order,
    nearest,
    new_stack,
)
from shapestore.preprocess.geometry.hygiene import clean
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import box_frame
from shapestore.preprocess.geometry.triangle import CORNER, EDGE, INTERIOR

Vector = list[Fraction]


def exact(point: np.ndarray) -> Vector:
    return [Fraction(float(value)) for value in point]


def minus(a: Vector, b: Vector) -> Vector:
    return [x - y for x, y in zip(a, b, strict=True)]


def dot(a: Vector, b: Vector) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def exact_squared(point: np.ndarray, corners: np.ndarray) -> Fraction:
    """The squared distance to a triangle in rational numbers: no rounding, no special case but zero."""
    p, (a, b, c) = exact(point), [exact(corner) for corner in corners]
    candidates = []
    for start, end in ((a, b), (b, c), (c, a)):
        edge, way = minus(end, start), minus(p, start)
        square = dot(edge, edge)
        t = min(max(dot(edge, way) / square, Fraction(0)), Fraction(1)) if square else Fraction(0)
        rest = minus(way, [t * x for x in edge])
        candidates.append(dot(rest, rest))
    u, v, w = minus(b, a), minus(c, a), minus(p, a)
    gram = dot(u, u) * dot(v, v) - dot(u, v) ** 2
    if gram:
        s = (dot(v, v) * dot(u, w) - dot(u, v) * dot(v, w)) / gram
        t = (dot(u, u) * dot(v, w) - dot(u, v) * dot(u, w)) / gram
        if s >= 0 and t >= 0 and s + t <= 1:
            rest = minus(w, [s * x + t * y for x, y in zip(u, v, strict=True)])
            candidates.append(dot(rest, rest))
    return min(candidates)


def exact_distances(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.array([math.sqrt(min(exact_squared(point, vertices[face]) for face in faces)) for point in points])


def brute_force(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, F) distances in float64: to the edges, and to the plane below which the foot lies between them.

    The plane of a sliver is known badly, so that its distance may be anything.
    """
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    best = np.full((len(points), len(faces)), np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge = end - start
        square = (edge * edge).sum(-1)
        along = ((points[:, None] - start) * edge).sum(-1) / np.where(square > 0, square, 1)
        gap = points[:, None] - start - np.clip(along, 0, 1)[..., None] * edge
        best = np.minimum(best, np.sqrt((gap * gap).sum(-1)))
    normal = np.cross(b - a, c - a)
    square = (normal * normal).sum(-1)
    normal = normal / np.sqrt(np.where(square > 0, square, 1))[:, None]
    height = ((points[:, None] - a) * normal).sum(-1)
    within = np.broadcast_to(square > 0, height.shape).copy()
    for start, end in ((a, b), (b, c), (c, a)):
        within &= (np.cross(end - start, points[:, None] - start) * normal).sum(-1) >= 0
    return np.where(within, np.minimum(best, np.abs(height)), best)


def assert_nearest(mesh: Mesh, points: np.ndarray, found: Closest) -> None:
    """The found face is at the found distance, and no other one is nearer; where float64 doubts it, fractions judge."""
    distance = np.sqrt(found.squared)
    own = [math.sqrt(exact_squared(p, mesh.vertices[mesh.faces[f]])) for p, f in zip(points, found.faces, strict=True)]
    np.testing.assert_allclose(distance, own, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(points - found.points, axis=1), distance, rtol=1e-14, atol=1e-14)
    limit = distance * (1 - 1e-13) - 1e-13
    for block in np.array_split(np.arange(len(points)), 1 + len(points) * len(mesh.faces) // 10**6):
        each = brute_force(mesh.vertices, mesh.faces, points[block])
        for row, face in np.argwhere(each < limit[block, None]):
            query = block[row]
            assert math.sqrt(exact_squared(points[query], mesh.vertices[mesh.faces[face]])) >= limit[query]


def random_soup(rng: np.random.Generator, faces: int) -> Mesh:
    """Triangles of all sizes, a part of them slivers, segments, points, repeated, or flat along an axis."""
    corners = rng.uniform(-1, 1, (faces, 1, 3)) + rng.normal(size=(faces, 3, 3)) * rng.choice(
        [1, 0.1, 1e-3], (faces, 1, 1)
    )
    kind = rng.integers(0, 8, faces)
    share = rng.uniform(-0.5, 1.5, (faces, 1))
    on_line = corners[:, 0] + share * (corners[:, 1] - corners[:, 0])
    height = 10.0 ** rng.uniform(-16, -3, (faces, 1))
    corners[:, 2] = np.where(kind[:, None] == 0, on_line + height * (corners[:, 2] - on_line), corners[:, 2])
    corners[:, 2] = np.where(kind[:, None] == 1, corners[:, 0], corners[:, 2])
    corners[kind == 2] = corners[kind == 2][:, :1]
    corners[kind == 3, :, 1] = 0.25
    faces_of = np.arange(3 * faces).reshape(-1, 3)
    faces_of[kind == 4] = faces_of[rng.integers(0, faces, (kind == 4).sum())]
    return Mesh(corners.reshape(-1, 3), faces_of)


def mixed_queries(rng: np.random.Generator, mesh: Mesh, count: int) -> np.ndarray:
    """Some anywhere, some far away, some near the surface, some on it, and some at corners."""
    picked = mesh.vertices[mesh.faces[rng.integers(0, len(mesh.faces), count)]]
    on = (picked * rng.dirichlet([1, 1, 1], count)[..., None]).sum(axis=1)
    near = on + rng.normal(size=on.shape) * 10.0 ** rng.uniform(-12, -1, (count, 1))
    queries = np.stack([rng.uniform(-1.5, 1.5, on.shape), rng.normal(0, 50, on.shape), near, on, picked[:, 0]])
    return np.asarray(rng.permutation(queries.reshape(-1, 3))[:count])


COORDINATES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0, 1 + 1e-9, 1e-12, 1 / 3]), min_size=3, max_size=3)


@settings(deadline=None)
@given(
    st.lists(COORDINATES, min_size=1, max_size=9),
    st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=3), min_size=1, max_size=9),
    st.lists(COORDINATES, min_size=1, max_size=4),
)
def test_small_soups_of_any_degeneracy_agree_with_rational_numbers(
    corners: list[list[float]], triangles: list[list[int]], queries: list[list[float]]
) -> None:
    vertices, points = np.array(corners), np.array(queries)
    faces = np.array(triangles) % len(vertices)
    tree = TriangleTree(vertices, faces)
    found = tree.closest(points)
    np.testing.assert_allclose(np.sqrt(found.squared), exact_distances(vertices, faces, points), atol=4e-15)
    np.testing.assert_array_equal(found.squared, tree.squared_distance(points))
    np.testing.assert_allclose(np.linalg.norm(points - found.points, axis=1), np.sqrt(found.squared), atol=4e-15)


@pytest.mark.parametrize("exponent", range(-17, 0, 2))
def test_slivers_of_any_height_agree_with_rational_numbers(exponent: int) -> None:
    rng = np.random.default_rng(-exponent)
    for _ in range(20):
        a, b = rng.uniform(-1, 1, (2, 3))
        apex = a + rng.uniform(-0.2, 1.2) * (b - a) + 10.0**exponent * rng.normal(size=3)
        vertices, faces = rng.permutation([a, b, apex]), np.array([[0, 1, 2]])
        points = mixed_queries(rng, Mesh(vertices, faces), 15)
        found = TriangleTree(vertices, faces).closest(points)
        expected = exact_distances(vertices, faces, points)
        np.testing.assert_allclose(np.sqrt(found.squared), expected, rtol=1e-14, atol=4e-15)
        off = [math.sqrt(exact_squared(point, vertices)) for point in found.points]
        assert max(off) <= 1e-14 * np.abs(points).max()


@pytest.mark.parametrize("faces", [1, 2, 3, 4, 5, 17, 300, 2000])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_nearer_in_random_soups(seed: int, faces: int) -> None:
    rng = np.random.default_rng([seed, faces])
    mesh = random_soup(rng, faces)
    points = mixed_queries(rng, mesh, 400)
    assert_nearest(mesh, points, TriangleTree(mesh.vertices, mesh.faces).closest(points))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_least_of_all_single_triangles_to_the_bit_and_the_first_of_equals(seed: int, faces: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = random_soup(rng, faces)
    points = mixed_queries(rng, mesh, 50)
    each = np.stack([TriangleTree(mesh.vertices, face[None]).squared_distance(points) for face in mesh.faces])
    found = TriangleTree(mesh.vertices, mesh.faces).closest(points)
    np.testing.assert_array_equal(found.squared, each.min(axis=0))
    np.testing.assert_array_equal(found.faces, each.argmin(axis=0))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2), st.floats(1e-6, 10))
def test_no_box_hides_a_triangle_that_is_nearer_by_rounding(seed: int, axis: int, gap: float) -> None:
    vertices = np.random.default_rng(seed).uniform(-1, 1, (3, 3))
    # One triangle in all orders of its corners, and a tip of it from where its box is exactly as far as it is.
    faces = np.array(list(itertools.permutations(range(3))) * 3)
    points = vertices[[vertices[:, axis].argmax()]] + np.linspace(gap, 2 * gap, 50)[:, None] * np.eye(3)[axis]
    each = np.stack([TriangleTree(vertices, face[None]).squared_distance(points) for face in faces])
    found = TriangleTree(vertices, faces).closest(points)
    np.testing.assert_array_equal(found.squared, each.min(axis=0))
    np.testing.assert_array_equal(found.faces, each.argmin(axis=0))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200))
def test_an_answer_depends_on_its_position_only(seed: int, faces: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = random_soup(rng, faces)
    points = mixed_queries(rng, mesh, 200)
    tree = TriangleTree(mesh.vertices, mesh.faces)
    whole = tree.closest(points)
    shuffle = rng.permutation(200)
    for order in (shuffle, np.sort(shuffle[:37]), shuffle[:1], shuffle[:0]):
        for values, part in zip(whole, tree.closest(points[order]), strict=True):
            np.testing.assert_array_equal(part, values[order])
    turned = TriangleTree(mesh.vertices, mesh.faces[::-1].copy())
    np.testing.assert_array_equal(turned.squared_distance(points), whole.squared)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 2))
def test_a_bound_cuts_distances_off_and_changes_no_other(seed: int, bound: float) -> None:
    rng = np.random.default_rng(seed)
    mesh = random_soup(rng, 40)
    points = mixed_queries(rng, mesh, 100)
    tree = TriangleTree(mesh.vertices, mesh.faces)
    expected = np.minimum(tree.squared_distance(points), bound)
    np.testing.assert_array_equal(tree.squared_distance(points, bound), expected)


def test_a_search_finds_what_is_nearer_than_its_bound_from_wherever_it_starts() -> None:
    rng = np.random.default_rng(5)
    mesh = random_soup(rng, 100)
    points = mixed_queries(rng, mesh, 50)
    tree = TriangleTree(mesh.vertices, mesh.faces)
    stack = new_stack(tree.arrays)
    for point, squared, face in zip(points, *tree.closest(points)[:2], strict=True):
        assert nearest(tree.arrays, stack, *point, squared / 2, -1) == (squared / 2, -1) or squared == 0
        best, row = nearest(tree.arrays, stack, *point, math.inf, -1)
        assert (best, tree.arrays.faces[row]) == (squared, face)
        assert nearest(tree.arrays, stack, *point, squared, row) == (squared, row)


# A triangle without a right angle, and one position over each of its features; edge k starts at corner k.
TRIANGLE = np.array([[0.0, 0, 0], [4, 0, 0], [1, 3, 0]])
OVER = [
    (INTERIOR, (1.5, 1, 0.5), (1.5, 1, 0)),
    (EDGE, (2.5, -1, 0.5), (2.5, 0, 0)),
    (EDGE + 1, (3.5, 2.5, -0.5), (2.5, 1.5, 0)),
    (EDGE + 2, (-2.5, 2.5, 0.1), (0.5, 1.5, 0)),
    (CORNER, (-1, -0.5, 1), (0, 0, 0)),
    (CORNER + 1, (6, 0.5, 1), (4, 0, 0)),
    (CORNER + 2, (1.25, 5, 1), (1, 3, 0)),
]


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("feature", "position", "expected"), OVER)
def test_the_feature_under_a_position_is_named_by_the_corners_of_the_face(
    feature: int, position: tuple[float, ...], expected: tuple[float, ...], turn: int, mirrored: bool
) -> None:
    corners = np.roll(np.arange(3), turn)[:: -1 if mirrored else 1]
    tree = TriangleTree(TRIANGLE, corners[None]).arrays
    x, y, z, found = foot(tree, 0, *position)
    np.testing.assert_allclose((x, y, z), expected, atol=1e-15)
    if feature == INTERIOR:
        assert found == INTERIOR
    elif feature >= CORNER:
        assert corners[found - CORNER] == feature - CORNER
    else:
        ends = {int(corners[found - EDGE]), int(corners[(found - EDGE + 1) % 3])}
        assert ends == {feature - EDGE, (feature - EDGE + 1) % 3}


def test_a_chain_that_shrinks_by_halves_makes_a_deep_tree_and_true_distances() -> None:
    size = 2.0 ** -np.arange(120.0)
    corners = size[:, None, None] * np.array([[1.0, 0, 0], [1.5, 0, 0], [1, 0.5, 0]])
    mesh = Mesh(corners.reshape(-1, 3), np.arange(360).reshape(-1, 3))
    tree = TriangleTree(mesh.vertices, mesh.faces)
    assert tree.arrays.depth > 15
    points = corners.mean(axis=1) + np.array([0, 0, 1e-3])
    assert (tree.closest(points[:9]).faces == np.arange(9)).all()
    assert_nearest(mesh, points, tree.closest(points))


def test_many_faces_at_one_place_are_split_all_the_same() -> None:
    faces = np.tile(np.arange(3), (1000, 1))
    tree = TriangleTree(TRIANGLE, faces)
    assert tree.arrays.depth < 15
    assert tree.closest([[1.5, 1, 2]]).faces == [0]
    assert tree.squared_distance([[1.5, 1, 2]]) == [4]


@pytest.mark.parametrize("offset", [0, 1e3, 6.65e5])
def test_far_origins_cost_the_digits_of_the_coordinates_only(offset: float) -> None:
    rng = np.random.default_rng(6)
    mesh = random_soup(rng, 200)
    points = mixed_queries(rng, mesh, 100)
    vertices, shifted = mesh.vertices + offset, points + offset
    squared = TriangleTree(vertices, mesh.faces).squared_distance(shifted)
    expected = TriangleTree(vertices - offset, mesh.faces).squared_distance(shifted - offset)
    np.testing.assert_allclose(np.sqrt(squared), np.sqrt(expected), rtol=1e-13, atol=1e-14)


def normalised_files(folder: Path) -> list[tuple[str, Mesh]]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".obj", ".off", ".ply", ".stl", ".glb"}:
            try:
                mesh, _ = clean(read_mesh(path)[0])
            except InputRefused:  # lines and clouds without a face
                continue
            found.append((path.name, Mesh(box_frame(mesh.vertices).apply(mesh.vertices), mesh.faces)))
    return found


@pytest.mark.slow
def test_all_real_meshes_agree_with_brute_force_and_another_library(shared_data: Path) -> None:
    meshes = normalised_files(shared_data / "mesh")
    assert len(meshes) > 20
    for name, mesh in meshes:
        points = mixed_queries(np.random.default_rng(len(mesh.faces)), mesh, 3000)
        found = TriangleTree(mesh.vertices, mesh.faces).closest(points)
        other = igl.AABB()
        other.init(mesh.vertices, mesh.faces)
        squared, _, _ = other.squared_distance(mesh.vertices, mesh.faces, points)
        # The other library is the less exact one on slivers; the fractions below say so.
        np.testing.assert_allclose(np.sqrt(found.squared), np.sqrt(squared), rtol=1e-13, atol=1e-9, err_msg=name)
        few = np.s_[:: 20 + len(mesh.faces) // 60]
        assert_nearest(mesh, points[few], Closest(*(values[few] for values in found)))


DIGEST = """
import hashlib, numpy as np, trimesh
from shapestore.preprocess.geometry.bvh import TriangleTree
ball = trimesh.creation.icosphere(subdivisions=3)
points = np.random.default_rng(1).normal(size=(5000, 3))
found = TriangleTree(np.array(ball.vertices), np.array(ball.faces, np.int64)).closest(points)
print(hashlib.sha256(b"".join(values.tobytes() for values in found)).hexdigest())
"""


@pytest.mark.slow
def test_other_processes_give_the_same_bytes() -> None:
    digests = {
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    ball = trimesh.creation.icosphere(subdivisions=3)
    points = np.random.default_rng(1).normal(size=(5000, 3))
    found = TriangleTree(np.array(ball.vertices), np.array(ball.faces, np.int64)).closest(points)
    assert digests == {hashlib.sha256(b"".join(values.tobytes() for values in found)).hexdigest() + "\n"}


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_the_curve_visits_each_position_once_and_neighbours_soon(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-1, 1, (count, 3))
    order = morton_order(positions)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    if count > 100:
        steps = np.linalg.norm(np.diff(positions[order], axis=0), axis=1).mean()
        assert steps < 0.7 * np.linalg.norm(np.diff(positions, axis=0), axis=1).mean()
    np.testing.assert_array_equal(morton_order(np.ones((count, 3))), np.arange(count))


def test_what_cannot_be_measured_is_refused() -> None:
    fine, faces = TRIANGLE, np.array([[0, 1, 2]])
    spare = np.concatenate([TRIANGLE, [[np.nan, 1e300, np.inf]]])
    assert TriangleTree(spare, faces).squared_distance([[1.5, 1, 2]]) == [4]
    for vertices, indices, reason in [
        (fine, faces[:0], Reason.NO_FACES),
        (fine, faces + 1, Reason.INDEX_RANGE),
        (fine * np.nan, faces, Reason.NOT_FINITE),
        (fine * 1e51, faces, Reason.NOT_FINITE),
    ]:
        with pytest.raises(InputRefused) as refused:
            TriangleTree(vertices, indices)
        assert refused.value.reason is reason
    tree = TriangleTree(fine, faces)
    for position in (np.nan, np.inf, -1e51):
        for ask in (tree.closest, tree.squared_distance):
            with pytest.raises(InputRefused, match="without a distance"):
                ask([[0, position, 0]])
