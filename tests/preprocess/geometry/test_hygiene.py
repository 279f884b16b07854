from __future__ import annotations

import csv
import re
from pathlib import Path

import networkx
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.clustered import refuse_clustered
from shapestore.preprocess.geometry.hygiene import MeshReport, clean, refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh

UTM = np.array([665_000.0, 5_650_000.0, 120.0])
REAL = [
    "GHDHeart/LV.obj",
    "kaolin/rocket.obj",
    "pytorch3d/cow.obj",
    "assimp/spider.obj",
    "trimesh/cycloidal.ply",
]


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(solid.vertices, np.float64), np.array(solid.faces, np.int64))


def load(path: Path) -> Mesh:
    return mesh_of(trimesh.load(path, force="mesh", process=False))


def area(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def soup(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))


BALL = mesh_of(trimesh.creation.icosphere(subdivisions=2, radius=3.0))
TRIANGLE = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
ONE = np.array([[0, 1, 2]])


@pytest.mark.parametrize(
    ("vertices", "faces", "reason"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3), np.int64), Reason.NO_FACES),
        (TRIANGLE, np.zeros((0, 3), np.int64), Reason.NO_FACES),
        (TRIANGLE, np.array([[0, 1, 3]]), Reason.INDEX_RANGE),
        (TRIANGLE, np.array([[0, 1, -1]]), Reason.INDEX_RANGE),
        (np.array([[np.nan, 0, 0], [1, 0, 0], [0, 1, 0]]), ONE, Reason.NOT_FINITE),
        (np.array([[np.inf, 0, 0], [1, 0, 0], [0, 1, 0]]), ONE, Reason.NOT_FINITE),
        (TRIANGLE * 1e300, ONE, Reason.NOT_FINITE),
        (np.ones((3, 3)), ONE, Reason.ZERO_AREA),
        (TRIANGLE, np.array([[0, 1, 1]]), Reason.ZERO_AREA),
        (np.outer([0.0, 0.1, 0.7], [1.0, 2.0, 3.0]), ONE, Reason.ZERO_AREA),
        (np.outer([0.0, 0.1, 0.7], [1.0, 2.0, 3.0]) + UTM, ONE, Reason.ZERO_AREA),
    ],
)
def test_what_is_no_surface_is_refused_with_its_reason(vertices: np.ndarray, faces: np.ndarray, reason: Reason) -> None:
    with pytest.raises(InputRefused) as refused:
        clean(Mesh(vertices, faces))
    assert refused.value.reason is reason


@pytest.mark.parametrize("scale", [1e-40, 1e-6, 1e6, 1e40])
def test_small_and_large_are_not_degenerate(scale: float) -> None:
    thin = TRIANGLE * [scale, scale * 1e-6, scale]
    assert clean(Mesh(thin, ONE))[1].faces == 1


def test_a_surface_that_is_a_speck_in_its_extent_is_refused() -> None:
    speck = TRIANGLE * 1e-8
    vertices = np.concatenate([speck, speck + 1])
    with pytest.raises(InputRefused, match="times the squared radius"):
        clean(Mesh(vertices, np.arange(6).reshape(2, 3)))


def test_broken_vertices_that_no_face_uses_are_dropped() -> None:
    vertices = np.concatenate([[[np.nan] * 3], TRIANGLE, [[np.inf] * 3]])
    mesh = Mesh(vertices, ONE + 1)
    refuse_unsafe(mesh)
    cleaned, _ = clean(mesh)
    np.testing.assert_array_equal(cleaned.vertices, TRIANGLE)
    np.testing.assert_array_equal(cleaned.faces, ONE)


def test_cleaning_neither_welds_nor_drops_repeated_faces() -> None:
    mesh = soup(Mesh(BALL.vertices, np.concatenate([BALL.faces, BALL.faces[:, ::-1]])))
    cleaned, report = clean(mesh)
    np.testing.assert_array_equal(cleaned.vertices, mesh.vertices)
    np.testing.assert_array_equal(cleaned.faces, mesh.faces)
    assert (report.vertices, report.faces, report.duplicate_faces) == (162, 320, 320)


def test_the_report_of_a_ball() -> None:
    volume = trimesh.Trimesh(BALL.vertices, BALL.faces).volume
    _, report = clean(BALL)
    assert report == MeshReport(162, 320, 0, 0, 1, True, True, pytest.approx(volume, rel=1e-12))


@pytest.mark.parametrize("offset", [np.zeros(3), UTM])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_report_does_not_depend_on_where_the_mesh_lies_or_on_welding(offset: np.ndarray, scale: float) -> None:
    _, expected = clean(BALL)
    moved = soup(Mesh(BALL.vertices * scale + offset, BALL.faces))
    _, report = clean(moved)
    assert report.volume == pytest.approx(expected.volume * scale**3, rel=1e-5)
    assert (report.watertight, report.winding_consistent) == (True, True)
    assert (report.vertices, report.faces, report.components) == (162, 320, 1)


def test_vertices_apart_by_rounding_are_welded_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    for distance, watertight in [(1e-10, True), (1e-7, False)]:
        torn = soup(BALL)
        noise = rng.normal(size=torn.vertices.shape)
        noise *= 3 * distance / np.linalg.norm(noise, axis=1, keepdims=True)
        assert clean(Mesh(torn.vertices + noise, torn.faces))[1].watertight is watertight


def test_winding_and_holes_are_seen() -> None:
    one_flipped = BALL.faces.copy()
    one_flipped[7] = one_flipped[7, ::-1]
    assert clean(Mesh(BALL.vertices, BALL.faces[:, ::-1]))[1].volume < 0
    flipped = clean(Mesh(BALL.vertices, one_flipped))[1]
    assert (flipped.watertight, flipped.winding_consistent) == (True, False)
    open_ball = clean(Mesh(BALL.vertices, BALL.faces[1:]))[1]
    assert (open_ball.watertight, open_ball.winding_consistent) == (False, True)


def test_solids_that_touch_along_an_edge_are_consistent_but_not_watertight() -> None:
    box = mesh_of(trimesh.creation.box())
    both = Mesh(
        np.concatenate([box.vertices, box.vertices + np.array([1, 1, 0])]),
        np.concatenate([box.faces, box.faces + 8]),
    )
    report = clean(both)[1]
    assert (report.watertight, report.winding_consistent, report.components) == (False, True, 1)
    assert report.volume == pytest.approx(2)


def test_components_are_counted() -> None:
    pair = trimesh.util.concatenate([trimesh.creation.box(), trimesh.creation.box().apply_translation([5, 0, 0])])
    assert clean(mesh_of(pair))[1].components == 2


@st.composite
def soups(draw: st.DrawFn) -> Mesh:
    count = draw(st.integers(3, 8))
    # Few different coordinates, so that equal vertices, collinear corners and repeated faces are common.
    lattice = draw(arrays(np.int64, (count, 3), elements=st.integers(-2, 2)))
    faces = draw(arrays(np.int64, (draw(st.integers(1, 12)), 3), elements=st.integers(0, count - 1)))
    scale = draw(st.sampled_from([1e-6, 0.1, 1.0, 1e4]))
    return Mesh(lattice * scale + draw(st.sampled_from([0.0, 1.0])) * UTM * scale, faces)


def refusal(mesh: Mesh) -> Reason | None:
    try:
        clean(mesh)
    except InputRefused as refused:
        return refused.reason
    return None


@settings(deadline=None, max_examples=200)
@given(soups())
def test_laws_of_cleaning(mesh: Mesh) -> None:
    if (reason := refusal(mesh)) is not None:
        assert reason is Reason.ZERO_AREA
        extent = np.ptp(mesh.vertices, axis=0).max()
        assert area(Mesh(mesh.vertices - mesh.vertices[0], mesh.faces)) <= 1e-7 * extent**2
        return
    cleaned, report = clean(mesh)
    assert report.faces + report.duplicate_faces + report.dropped_faces == len(mesh.faces)
    assert area(cleaned) == pytest.approx(area(mesh), rel=1e-9)
    np.testing.assert_array_equal(np.unique(cleaned.faces), np.arange(len(cleaned.vertices)))
    again, same = clean(cleaned)
    np.testing.assert_array_equal(again.vertices, cleaned.vertices)
    np.testing.assert_array_equal(again.faces, cleaned.faces)
    assert (same.faces, same.duplicate_faces, same.dropped_faces) == (report.faces, report.duplicate_faces, 0)
    order = np.random.default_rng(len(mesh.faces)).permutation(len(mesh.vertices))
    renamed = clean(Mesh(mesh.vertices[order], np.argsort(order)[mesh.faces]))[1]
    assert renamed.components == report.components
    assert (renamed.vertices, renamed.faces, renamed.watertight) == (
        report.vertices,
        report.faces,
        report.watertight,
    )


def plain_report(mesh: Mesh) -> tuple[int, int, int, int, bool, bool]:
    """Vertices, faces, duplicates, components, watertight and consistent of a mesh that `clean` left, pair by pair."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    centred = mesh.vertices - (low + high) / 2
    centred /= np.linalg.norm(centred, axis=1).max()
    gaps = np.linalg.norm(centred[:, None] - centred, axis=2)
    vertex_of = {}
    for group in networkx.connected_components(networkx.Graph(np.argwhere(gaps <= 1e-9).tolist())):
        vertex_of |= dict.fromkeys(group, min(group))
    corners = [tuple(vertex_of[corner] for corner in face) for face in mesh.faces.tolist()]
    whole = [face for face in corners if len(set(face)) == 3]
    single = list({frozenset(face): face for face in reversed(whole)}.values())
    uses: dict[frozenset[int], list[bool]] = {}
    for face in single:
        for start, end in zip(face, (*face[1:], face[0]), strict=True):
            uses.setdefault(frozenset((start, end)), []).append(start < end)
    return (
        len({vertex for face in single for vertex in face}),
        len(single),
        len(whole) - len(single),
        networkx.number_connected_components(networkx.Graph([tuple(edge) for edge in uses])),
        len(uses) > 0 and all(len(ways) == 2 for ways in uses.values()),
        all(abs(2 * sum(ways) - len(ways)) == len(ways) % 2 for ways in uses.values()),
    )


@settings(deadline=None, max_examples=200)
@given(soups(), st.booleans(), st.integers(0, 2**32))
def test_the_report_is_that_of_a_plain_implementation(mesh: Mesh, torn: bool, seed: int) -> None:
    if torn:  # some corners are apart by less than the welding distance, some by more
        mesh = soup(mesh)
        rng = np.random.default_rng(seed)
        extent = np.ptp(mesh.vertices, axis=0).max()
        apart = rng.normal(size=mesh.vertices.shape) * rng.choice([0, 1e-11, 1e-7], (len(mesh.vertices), 1)) * extent
        mesh = Mesh(mesh.vertices + apart, mesh.faces)
    try:
        cleaned, report = clean(mesh)
    except InputRefused:
        return
    stated = (
        report.vertices,
        report.faces,
        report.duplicate_faces,
        report.components,
        report.watertight,
        report.winding_consistent,
    )
    assert stated == plain_report(cleaned)


def test_close_vertices_are_found_wherever_they_lie() -> None:
    # Pairs half the welding distance apart: so many that some lie on either side of a wall of any grid of cells.
    rng = np.random.default_rng(0)
    near = np.column_stack([(np.arange(20_000) + rng.uniform(0, 0.9, 20_000)) / 20_000 - 0.5, np.zeros((20_000, 2))])
    base = np.array([[-0.6, -0.8, 0], [0.6, -0.8, 0], [0.6, 0.8, 0], [-0.6, 0.8, 0]])
    vertices = np.concatenate([base, near, near + np.array([0.5e-9, 0, 0])])
    apex = np.arange(4, len(vertices))
    fan = np.column_stack([np.zeros_like(apex), np.ones_like(apex), apex])
    report = clean(Mesh(vertices, np.concatenate([fan, [[0, 1, 2], [0, 2, 3]]])))[1]
    assert (report.vertices, report.faces, report.duplicate_faces) == (20_004, 20_002, 20_000)


def test_a_needle_is_no_surface() -> None:
    """Every face is welded to a line, though the faces have area."""
    needle = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 5e-10, 0]]), np.array([[0, 1, 2]]))
    with pytest.raises(InputRefused) as refused:
        clean(needle)
    assert refused.value.reason is Reason.ZERO_AREA


@pytest.mark.parametrize(("size", "fits"), [(1400, True), (1500, False)])
def test_a_dense_cluster_is_refused_before_its_pairs_are_found(size: int, fits: bool) -> None:
    rng = np.random.default_rng(0)
    # In the middle of a cube of diagonal 1e-3, whose 2^20 pairs are those of 1449 positions.
    middle = np.full(3, 0.5e-3 / np.sqrt(3))
    vertices = np.concatenate([middle + rng.uniform(-1e-6, 1e-6, (size, 3)), rng.uniform(-1, 1, (10_000, 3))])
    if fits:
        refuse_clustered(vertices, 1e-3)
        return
    with pytest.raises(InputRefused) as refused:
        refuse_clustered(vertices, 1e-3)
    assert refused.value.reason is Reason.ZERO_AREA
    assert f"{size} vertices" in refused.value.detail


def test_no_corner_of_a_sliver_is_special() -> None:
    rng = np.random.default_rng(1)
    ends = np.array([[-1.0, 0, 0], [1.0, 0, 0]])
    kept = []
    for height in np.spacing(1.0) * np.linspace(1, 30, 60):
        tip = [rng.uniform(-0.1, 0.1), height, 0]
        sliver = np.concatenate([[tip], ends])
        for turn in range(3):
            vertices = np.concatenate([np.roll(sliver, turn, axis=0), TRIANGLE])
            kept.append(clean(Mesh(vertices, np.arange(6).reshape(2, 3)))[0].faces.shape[0])
    verdicts = np.reshape(kept, (60, 3))
    np.testing.assert_array_equal(verdicts, verdicts[:, :1].repeat(3, axis=1))
    assert set(verdicts[:, 0]) == {1, 2}


@pytest.mark.parametrize("name", REAL)
def test_real_meshes_agree_with_their_description(shared_data: Path, name: str) -> None:
    with (shared_data / "SOURCES.tsv").open() as table:
        text = next(" ".join(row) for row in csv.reader(table, delimiter="\t") if row and row[0] == f"mesh/{name}")
    _, report = clean(load(shared_data / "mesh" / name))
    merged = re.search(r"merged v(\d+)", text)
    assert merged is not None
    assert report.vertices == pytest.approx(int(merged[1]), abs=2)
    assert report.watertight is ("WATERTIGHT" in text)
    volume = re.search(r"WATERTIGHT vol=([\d.]+)", text)
    if volume is not None:
        assert report.volume == pytest.approx(float(volume[1]), rel=1e-3)
    if "winding-inconsistent" in text:
        assert not report.winding_consistent


def test_the_gearbox_has_its_bodies(shared_data: Path) -> None:
    mesh = load(shared_data / "mesh" / "trimesh" / "cycloidal.ply")
    report = clean(mesh)[1]
    assert report.components == trimesh.Trimesh(mesh.vertices, mesh.faces).body_count
    assert report.winding_consistent
