from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from judges import damage
from judges.solids import Body, box, cylinder, joined
from shapestore.preprocess.geometry.hole_caps import LONGEST, caps
from shapestore.preprocess.geometry.hole_rims import rims
from shapestore.preprocess.geometry.holes import Filled, fill_holes
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.orientation import orient, signed_volumes
from shapestore.preprocess.geometry.patches import Patches, areas, patches

PLATE = box((1.2, 0.8, 0.06))
COUNTER = box((2, 2, 2), (0, 0, 2.5))


def turned(mesh: Mesh, seed: int) -> Mesh:
    turn = Rotation.random(random_state=seed).as_matrix()
    return Mesh(mesh.vertices @ turn.T, mesh.faces)


def kept(mesh: Mesh, chosen: np.ndarray) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[chosen])


def facing(body: Body) -> np.ndarray:
    """(F, 3) unit normals."""
    a, b, c = np.moveaxis(body.mesh.vertices[body.mesh.faces], 1, 0)
    cross = np.cross(b - a, c - a)
    return cross / np.linalg.norm(cross, axis=1, keepdims=True)


def volume(filled: Filled) -> np.ndarray:
    assert filled.closed.all()
    return np.sort(np.abs(signed_volumes(filled.patches)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31 - 1), st.integers(8, 30), st.integers(1, 6))
def test_what_a_convex_body_has_lost_between_its_corners_comes_back(seed: int, corners: int, lost: int) -> None:
    """The hull of the corners is the tightest surface on them."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(corners, 3))
    hull = ConvexHull(points / np.linalg.norm(points, axis=1, keepdims=True))
    vertices, faces = hull.points, hull.simplices.astype(np.int64)
    inward = (np.linalg.det(vertices[faces]) < 0)[:, None]
    whole = Mesh(vertices, np.where(inward, faces[:, ::-1], faces))
    first = int(rng.integers(len(faces)))
    gone = [first, *hull.neighbors[first][: min(lost, 3)]]
    opened = kept(whole, ~np.isin(np.arange(len(faces)), gone))
    if len(np.unique(opened.faces)) < corners:
        return
    found = rims(patches(opened))
    assert found is not None
    base = patches(opened).mesh
    cap = caps(np.concatenate([base.vertices, np.zeros((found.count, 3))]), found, len(base.vertices))
    closed = Mesh(base.vertices, np.concatenate([base.faces, cap.faces]))
    tetrahedra = np.linalg.det(closed.vertices[closed.faces])
    np.testing.assert_allclose(abs(tetrahedra.sum() / 6), hull.volume, rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sided", ["single", "double"])
def test_a_dent_in_a_plate_is_filled_exactly(seed: int, sided: str) -> None:
    normal = facing(PLATE)
    opened = turned(kept(PLATE.mesh, (normal[:, 0] < 0.9) & (normal[:, 1] < 0.9)), seed)
    scene = joined([opened, COUNTER.mesh])
    filled = fill_holes(patches(damage.double_sided(scene) if sided == "double" else scene))
    np.testing.assert_allclose(volume(filled), [1.2 * 0.8 * 0.06, 8], rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sided", ["single", "double"])
def test_the_two_faces_of_a_plate_get_their_sides_back(seed: int, sided: str) -> None:
    opened = kept(PLATE.mesh, np.abs(facing(PLATE)[:, 2]) > 0.9)
    scene = turned(joined([opened, box((1, 1, 2), (0, 0, 1.6)).mesh]), seed)
    found = patches(damage.double_sided(scene) if sided == "double" else scene)
    filled = fill_holes(found)
    np.testing.assert_allclose(volume(filled), [1.2 * 0.8 * 0.06, 2], rtol=1e-6)
    assert filled.patches.count == 2
    assert found.count == 3
    sides = areas(filled.patches.mesh)[len(found.patch) :].sum()
    np.testing.assert_allclose(filled.filling, sides / areas(found.mesh).sum(), rtol=1e-9)


def test_sheets_that_are_far_apart_or_askew_are_no_plate() -> None:
    sheet = kept(PLATE.mesh, facing(PLATE)[:, 2] > 0.9)
    big = box((4, 4, 4), (0, 0, 6)).mesh
    for offset, angle in ((0.8, 0), (0.1, 60)):
        turn = Rotation.from_euler("x", angle, degrees=True).as_matrix()
        other = Mesh(sheet.vertices @ turn.T + [0, 0, offset], sheet.faces)
        filled = fill_holes(patches(joined([sheet, other, big])))
        assert filled.closed.sum() == 1
        assert filled.filling == 0


def test_the_open_end_of_a_bar_that_is_no_longer_than_wide_stays_open() -> None:
    for sides in (4, 16, LONGEST + 4):
        bar = cylinder(0.3, 0.6, sides)
        filled = fill_holes(patches(joined([kept(bar.mesh, facing(bar)[:, 2] < 0.9), COUNTER.mesh])))
        assert filled.closed.sum() == 1
        assert len(filled.openings) > 0


@pytest.mark.parametrize("sides", [LONGEST, LONGEST + 1])
def test_the_cap_of_a_flat_rim_has_its_area_whether_the_rim_is_long_or_not(sides: int) -> None:
    bar = cylinder(1, 0.5, sides)
    base = patches(kept(bar.mesh, facing(bar)[:, 2] < 0.9)).mesh
    found = rims(patches(base))
    assert found is not None
    cap = caps(np.concatenate([base.vertices, [[0, 0, 0.25]]]), found, len(base.vertices))
    np.testing.assert_allclose(cap.area, sides * np.sin(2 * np.pi / sides) / 2, rtol=1e-6)
    np.testing.assert_allclose(cap.continuity, 0, atol=1e-6)
    np.testing.assert_allclose(cap.flatness, 1)


def test_two_boxes_that_lost_a_face_each_where_they_touch_are_two_bodies_though_no_winding_tells() -> None:
    """At the edge that they share, one face of each is left: they look like one surface, half of it inside out."""
    two = joined([box((1, 1, 1)).mesh, box((1, 1, 1), (1, 1, 0)).mesh])
    on_edge = np.flatnonzero((np.abs(two.vertices[two.faces][..., :2] - 0.5).max(axis=2) < 1e-9).sum(axis=1) == 2)
    first, second = on_edge[on_edge < 12], on_edge[on_edge >= 12]
    for one in first:
        for other in second:
            mesh = damage.double_sided(kept(two, ~np.isin(np.arange(24), [one, other])))
            surface = orient(Mesh(mesh.vertices / 3, mesh.faces), np.random.default_rng(0))
            a, b, c = np.moveaxis(surface.mesh.vertices[surface.mesh.faces], 1, 0)
            np.testing.assert_allclose((a * np.cross(b, c)).sum() / 6, 2 / 27, rtol=1e-6)


@given(st.lists(st.tuples(st.permutations(range(5)), st.integers(0, 1)), min_size=1, max_size=24))
def test_the_rims_of_any_faces_are_closed_walks_along_what_no_face_of_the_patch_meets(
    drawn: list[tuple[list[int], int]],
) -> None:
    """Also where many faces of one patch share an edge."""
    mesh = Mesh(np.random.default_rng(0).normal(size=(5, 3)), np.array([corners[:3] for corners, _ in drawn]))
    patch = np.array([number for _, number in drawn])
    left = Counter[tuple[int, int, int]]()
    for (a, b, c), owner in zip(mesh.faces.tolist(), patch.tolist(), strict=True):
        left.update((start, end, owner) for start, end in ((a, b), (b, c), (c, a)))
    left = Counter({(s, e, o): n - left[e, s, o] for (s, e, o), n in left.items() if n > left[e, s, o]})
    found = rims(Patches(mesh, patch, np.ones(len(patch), np.int8), 2, np.ones(2, np.bool_)))
    if found is None:
        assert not left
        return
    assert Counter(zip(found.start.tolist(), found.end.tolist(), patch[found.face].tolist(), strict=True)) == left
    for first, last in pairwise(found.first):
        assert found.end[first:last].tolist() == np.roll(found.start[first:last], -1).tolist()
