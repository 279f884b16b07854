from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats import polygons
from shapestore.preprocess.formats.polygons import MOST_CORNERS, MOST_FOLDED, triangulate
from shapestore.preprocess.formats.soup import PolygonSoup, to_mesh

SEEDS = st.integers(0, 2**32)


def cut(flat: np.ndarray) -> tuple[np.ndarray, int]:
    """Triangles of one (k, 2) polygon."""
    vertices = np.column_stack([flat, np.zeros(len(flat))])
    return triangulate(vertices, np.arange(len(flat)), np.array([len(flat)]))


def double_areas(flat: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = np.moveaxis(flat[faces], 1, 0)
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


def shoelace(flat: np.ndarray) -> float:
    x, y = flat.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def star_shaped(rng: np.random.Generator, size: int) -> np.ndarray:
    """A simple polygon, as a rule concave, seen whole from the origin but from few of its corners."""
    angles = np.sort((np.arange(size) + rng.uniform(0, 0.9, size)) / size * 2 * np.pi)
    return rng.uniform(0.1, 1, size)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def comb(teeth: int) -> np.ndarray:
    """A polygon of which no point sees all."""
    top = [(x, 10 if x % 2 else 1) for x in range(2 * teeth + 1)]
    return np.array([(0, 0), (2 * teeth, 0), *reversed(top)], float)


@settings(deadline=None)
@given(SEEDS, st.integers(4, 40), st.booleans())
def test_triangles_of_a_simple_polygon_cover_it_once(seed: int, size: int, turned: bool) -> None:
    flat = star_shaped(np.random.default_rng(seed), size)[:: -1 if turned else 1]
    faces, crossing = cut(flat)
    assert crossing == 0
    assert faces.shape == (size - 2, 3)
    areas = double_areas(flat, faces)
    np.testing.assert_allclose(areas.sum(), shoelace(flat), rtol=1e-9)
    np.testing.assert_allclose(np.abs(areas).sum(), abs(shoelace(flat)), rtol=1e-9)
    probes = np.random.default_rng(seed).uniform(-1, 1, (200, 2))
    inside = Outline(flat).contains_points(probes)
    covered = sum(Outline(flat[face]).contains_points(probes).astype(int) for face in faces)
    np.testing.assert_array_equal(covered, inside)


@pytest.mark.parametrize("teeth", [2, 5, 40])
def test_a_comb_needs_ears(teeth: int) -> None:
    flat = comb(teeth)
    faces, crossing = cut(flat)
    assert crossing == 0
    np.testing.assert_allclose(np.abs(double_areas(flat, faces)).sum(), abs(shoelace(flat)))


@settings(deadline=None)
@given(SEEDS, st.integers(3, 12), st.integers(3, 12))
def test_a_hole_bridged_to_the_outline_stays_a_hole(seed: int, outer: int, inner: int) -> None:
    rng = np.random.default_rng(seed)

    def ring(size: int, radius: float) -> np.ndarray:
        angles = (np.arange(size) + rng.uniform(0, 0.2)) / size * 2 * np.pi
        return radius * np.column_stack([np.cos(angles), np.sin(angles)])

    outline, hole = ring(outer, 1), ring(inner, 0.2)[::-1]
    flat = np.concatenate([outline, outline[:1], np.roll(hole, 1, axis=0), hole[-1:]])
    faces, crossing = cut(flat)
    assert crossing == 0
    np.testing.assert_allclose(double_areas(flat, faces).sum(), shoelace(flat))
    np.testing.assert_allclose(np.abs(double_areas(flat, faces)).sum(), shoelace(flat), rtol=1e-9)


@settings(deadline=None)
@given(SEEDS, st.integers(4, 12), st.floats(1e-150, 1e150))
def test_place_and_size_in_space_do_not_matter(seed: int, size: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    flat = star_shaped(rng, size)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    solid = np.column_stack([flat, np.zeros(size)]) @ rotation * scale
    faces, crossing = triangulate(solid, np.arange(size), np.array([size]))
    assert crossing == 0
    np.testing.assert_allclose(np.abs(double_areas(flat, faces)).sum(), abs(shoelace(flat)), rtol=1e-9)


def test_convex_polygons_are_fans_in_the_order_of_the_file() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 2, 0]], float)
    corners = np.array([0, 1, 2, 3, 4, 3, 2, 0, 1, 2, 4, 3])
    faces, crossing = triangulate(square, corners, np.array([4, 3, 5]))
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3], [4, 3, 2], [0, 1, 2], [0, 2, 4], [0, 4, 3]])
    assert crossing == 0


def test_a_fan_starts_at_the_first_corner_that_sees_all() -> None:
    dart = np.array([[0, 0, 0], [1, 1, 0], [2, 0, 0], [1, 3, 0]], float)
    faces, _ = triangulate(dart, np.arange(4), np.array([4]))
    np.testing.assert_array_equal(faces, [[1, 2, 3], [1, 3, 0]])


def test_crossing_edges_are_told() -> None:
    bow_tie = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 2, 0]], float)
    _, notes = to_mesh(PolygonSoup(bow_tie, np.arange(4), np.array([4])))
    assert "1 polygon with crossing edges" in notes[1]


def test_a_polygon_without_area_is_cut_all_the_same() -> None:
    line = np.column_stack([np.arange(6.0), np.zeros((6, 2))])
    faces, crossing = triangulate(line, np.arange(6), np.array([6]))
    assert faces.shape == (4, 3)
    assert crossing == 0


@settings(deadline=None)
@given(SEEDS, st.integers(1, 30))
def test_polygons_are_cut_alike_however_many_are_cut_together(seed: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 8, 12)
    corners = np.concatenate([rng.permutation(9)[:size] for size in sizes])
    vertices = rng.normal(size=(9, 3))
    whole, crossing = triangulate(vertices, corners, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons, "_STEP", step)
        faces, alike = triangulate(vertices, corners, sizes)
    np.testing.assert_array_equal(faces, whole)
    assert alike == crossing


def test_large_polygons_are_cut_only_where_that_is_quick() -> None:
    angles = np.linspace(0, 2 * np.pi, MOST_CORNERS, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    assert cut(circle)[1] == 0
    for flat in (comb(MOST_FOLDED // 2), np.concatenate([circle, circle[:1] * 1.1])):
        with pytest.raises(InputRefused) as refused:
            cut(flat)
        assert refused.value.reason is Reason.UNSUPPORTED
        assert f"of {len(flat)} corners" in refused.value.detail


@given(st.lists(st.integers(-2, 6), min_size=3, max_size=6), st.integers(-1, 4))
def test_soups_are_checked_before_they_are_cut(corners: list[int], broken: int) -> None:
    vertices = np.random.default_rng(0).normal(size=(5, 3))
    if broken >= 0:
        vertices[broken, broken % 3] = [np.nan, np.inf][broken % 2]
    soup = PolygonSoup(vertices, np.array(corners), np.array([len(corners)]))
    outside = min(corners) < 0 or max(corners) > 4
    if outside or broken in corners:
        with pytest.raises(InputRefused) as refused:
            to_mesh(soup)
        assert refused.value.reason is (Reason.INDEX_RANGE if outside else Reason.NOT_FINITE)
    else:
        assume(broken not in corners)
        assert len(to_mesh(soup)[0].faces) == len(corners) - 2
