from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from judges import damage, furniture
from judges.solids import box, cylinder, joined, lathe_sheet, sphere, union
from shapestore.preprocess.geometry.holes import fill_holes
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.orientation import orient, signed_volumes
from shapestore.preprocess.geometry.patches import WELD_DISTANCE, areas, patches

BALL = union("ball", [sphere(1, 8)]).mesh


def without(mesh: Mesh, *faces: int) -> Mesh:
    return Mesh(mesh.vertices, np.delete(mesh.faces, faces, axis=0))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_any_winding_of_any_soup_gives_the_same_patches(seed: int, share: float) -> None:
    whole = furniture.chair().mesh
    spoilt = damage.unwelded(damage.flip(damage.duplicate(whole, 0.3, seed), share, seed))
    found = patches(spoilt)
    assert found.count == len(trimesh.Trimesh(whole.vertices, whole.faces).split())
    assert len(found.mesh.faces) == len(whole.faces)
    assert found.orientable.all()
    expected = [abs(part.volume) for part in trimesh.Trimesh(whole.vertices, whole.faces).split()]
    np.testing.assert_allclose(np.sort(np.abs(signed_volumes(found))), np.sort(expected), rtol=1e-6)


def test_agreement_tells_the_raw_winding() -> None:
    assert (patches(damage.double_sided(BALL)).agreement == 0).all()
    for mesh in (BALL, damage.invert(BALL)):
        found = patches(mesh)
        assert np.sign(signed_volumes(found)[0]) * found.agreement[0] == (1 if mesh is BALL else -1)
        assert len(np.unique(found.agreement)) == 1


@pytest.mark.parametrize(("gap", "count"), [(0.5 * WELD_DISTANCE, 1), (3 * WELD_DISTANCE, 2)])
def test_vertices_are_welded_up_to_the_distance(gap: float, count: int) -> None:
    left = furniture.panel((0, 0, 0), (0.5, 0, 0), (0, 0.5, 0))
    right = furniture.panel((0.5 + gap, 0, 0), (0.5, 0, 0), (0, 0.5, 0))
    assert patches(joined([left, right])).count == count


def test_a_moebius_strip_is_not_orientable_unless_its_winding_shows_a_seam() -> None:
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    across = np.stack([np.cos(turn / 2) * np.cos(turn), np.cos(turn / 2) * np.sin(turn), np.sin(turn / 2)], axis=1)
    middle = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    vertices = np.concatenate([middle - 0.3 * across, middle + 0.3 * across])
    faces = []
    for k in range(20):
        after = (k + 1) % 20
        a, b, c, d = (k, after, k + 20, after + 20) if after else (k, 20, k + 20, 0)
        faces += [[a, b, d], [a, d, c]]
    strip = Mesh(vertices, np.array(faces))
    seamless = patches(damage.double_sided(strip))
    assert seamless.count == 1
    assert not seamless.orientable.any()
    cut = patches(strip)
    assert cut.count == 1
    assert cut.orientable.all()
    assert abs(cut.agreement.sum()) == len(faces)


def test_bodies_that_a_missing_face_has_joined_are_told_apart_by_their_winding() -> None:
    """Two boxes share an edge of four faces; without one face of each, it looks like an edge of one surface."""
    two = joined([box((1, 1, 1)).mesh, box((1, 1, 1), (1, 1, 0)).mesh])
    on_edge = np.flatnonzero((np.abs(two.vertices[two.faces][..., :2] - 0.5).max(axis=2) < 1e-9).sum(axis=1) == 2)
    assert len(on_edge) == 4
    first, second = on_edge[on_edge < 12], on_edge[on_edge >= 12]
    for one in first:
        for other in second:
            found = patches(without(two, int(one), int(other)))
            for patch in range(found.count):
                assert len(np.unique(found.agreement[found.patch == patch])) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, len(BALL.faces) - 1), st.integers(0, len(BALL.faces) - 1))
def test_missing_triangles_are_put_back(one: int, other: int) -> None:
    filled = fill_holes(patches(without(BALL, one, other)))
    assert filled.closed.all()
    assert len(filled.openings) == 0
    volume = abs(signed_volumes(filled.patches)[0])
    np.testing.assert_allclose(volume, trimesh.Trimesh(BALL.vertices, BALL.faces).volume, rtol=2e-3)


def test_a_missing_triangle_of_a_flat_side_is_put_back_exactly() -> None:
    mesh = trimesh.creation.box((1, 1, 1)).subdivide()
    whole = Mesh(np.array(mesh.vertices), np.array(mesh.faces, np.int64))
    for face in range(len(whole.faces)):
        filled = fill_holes(patches(without(whole, face)))
        assert filled.closed.all()
        np.testing.assert_allclose(abs(signed_volumes(filled.patches)[0]), 1)
        np.testing.assert_allclose(filled.filling, 1 / (len(whole.faces) - 1))


def test_the_mouth_of_a_tube_and_the_outline_of_a_panel_are_no_holes() -> None:
    tube = fill_holes(patches(lathe_sheet([(0.5, -0.5), (0.5, 0.5)], 16)))
    assert not tube.closed.any()
    np.testing.assert_allclose(
        areas(Mesh(tube.patches.mesh.vertices, tube.openings)).sum(), 2 * 4 * np.sin(np.pi / 8) / 2
    )
    panel = fill_holes(patches(furniture.panel((0, 0, 0), (1, 0, 0), (0, 1, 0))))
    assert not panel.closed.any()
    assert len(panel.openings) == 0


def test_bodies_that_touch_along_an_edge_are_closed_one_by_one() -> None:
    two = joined([box((1, 1, 1)).mesh, box((1, 1, 1), (1, 1, 0)).mesh])
    filled = fill_holes(patches(two))
    assert filled.closed.all()
    np.testing.assert_allclose(np.abs(signed_volumes(filled.patches)), [1, 1])


def test_closed_parts_point_out_and_need_neither_rays_nor_chance() -> None:
    mesh = damage.flip(union("two", [cylinder(0.3, 1), box((0.4, 0.4, 0.4), (1, 0, 0))]).mesh, 0.5, 0)
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    surface = orient(mesh, rng)
    assert surface.scene is None
    assert rng.bit_generator.state == state
    assert (signed_volumes(patches(surface.mesh)) * patches(surface.mesh).agreement[[0, -1]] > 0).all()
