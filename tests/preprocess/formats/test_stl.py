from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.stl import _quick_corners, _vertex_rows, parse_stl

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])


def binary(corners: np.ndarray, title: bytes = b"", declared: int | None = None) -> bytes:
    facets = np.zeros(len(corners), FACET)
    facets["corners"] = corners
    count = len(corners) if declared is None else declared
    return title.ljust(80) + count.to_bytes(4, "little") + facets.tobytes()


def text(solids: list[np.ndarray], name: str, end: str = "\n") -> bytes:
    lines = []
    for corners in solids:
        lines.append(f"solid {name}")
        for facet in corners.tolist():
            lines += ["  facet normal 0 0 0", "    outer loop"]
            lines += ["      VERTEX " + " ".join(map(repr, corner)) for corner in facet]
            lines += ["    endloop", "", "  endfacet"]
        lines.append(f"endsolid {name}")
    return end.join(lines).encode()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 8), st.sampled_from([b"", b"solid", b"facet normal"]))
def test_binary_files_come_back_exactly(seed: int, count: int, title: bytes) -> None:
    corners = np.random.default_rng(seed).normal(size=(count, 3, 3)).astype(np.float32)
    soup = parse_stl(binary(corners, title))
    np.testing.assert_array_equal(soup.vertices[soup.corners].reshape(-1, 3, 3), corners)
    assert soup.sizes.tolist() == [3] * count


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.sampled_from(["", "a solid vertex", "endsolid normal", "facet 1 2 3"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_all_solids_of_a_text_come_back_exactly(seed: int, counts: list[int], name: str, end: str) -> None:
    rng = np.random.default_rng(seed)
    solids = [rng.normal(size=(count, 3, 3)) for count in counts]
    soup = parse_stl(text(solids, name, end))
    np.testing.assert_array_equal(soup.vertices[soup.corners].reshape(-1, 3, 3), np.concatenate(solids))


@settings(deadline=None)
@given(st.integers(1, 3), st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b"0123 -.xevV\n")), max_size=3))
def test_the_quick_way_answers_as_the_long_way_or_not_at_all(count: int, edits: list[tuple[int, int]]) -> None:
    content = bytearray(text([np.random.default_rng(count).normal(size=(count, 3, 3))] * 2, "solid a") + b"\n")
    for place, byte in edits:
        content[place % len(content)] = byte
    quick = _quick_corners(bytes(content))
    assert quick is not None or edits
    if quick is not None:
        rows = [[float(token) for token in row] for _, row in _vertex_rows(bytes(content))]
        np.testing.assert_array_equal(quick, np.array(rows).reshape(-1, 3))


def test_both_forms_of_one_mesh_are_one_mesh() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    one, other = (
        parse_stl(ball.export(file_type="stl")),
        parse_stl(ball.export(file_type="stl_ascii").encode()),
    )
    np.testing.assert_allclose(one.vertices[one.corners], other.vertices[other.corners], atol=1e-6)
    np.testing.assert_allclose(one.vertices[one.corners], ball.vertices[ball.faces].reshape(-1, 3), atol=1e-6)


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_corners_at_equal_positions_are_one_vertex(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(-1, 2, (count, 3, 3)) * rng.choice([-1.0, 1.0], (count, 3, 3))  # with zeros of both signs
    soup = parse_stl(binary(corners))
    np.testing.assert_array_equal(soup.vertices[soup.corners].reshape(-1, 3, 3), corners)
    assert len(soup.vertices) == len(np.unique(corners.reshape(-1, 3), axis=0))


@given(st.integers(1, 433))
@example(1)
def test_every_truncation_of_a_binary_file_is_noticed(missing: int) -> None:
    whole = binary(np.ones((7, 3, 3), np.float32), b"solid")
    with pytest.raises(InputRefused) as refused:
        parse_stl(whole[:-missing])
    assert refused.value.reason is Reason.TRUNCATED


def test_further_bytes_are_told() -> None:
    soup = parse_stl(binary(np.ones((2, 3, 3), np.float32)) + b"1234")
    assert len(soup.sizes) == 2
    assert soup.notes == ("4 bytes after the last facet ignored",)


def test_nothing_is_logged_about_bad_normals(caplog: pytest.LogCaptureFixture) -> None:
    content = text([np.eye(3)[None]], "a").replace(b"normal 0 0 0", b"normal x y z")
    assert len(parse_stl(content).sizes) == 1
    assert caplog.records == []


CORNER = b"vertex 0 0 0\n"


@pytest.mark.parametrize(
    ("content", "reason", "told"),
    [
        (binary(np.ones((1, 3, 3)), declared=2**32 - 1), Reason.TRUNCATED, "4294967295 facets"),
        (b"short", Reason.TRUNCATED, "header"),
        (b"solid\nfacet\nouter\n" + CORNER * 3, Reason.TRUNCATED, "endsolid"),
        (b"solid\nfacet\nouter\n" + CORNER * 2 + b"endloop\n", Reason.MALFORMED, "line 6: b'endloop'"),
        (b"solid\nfacet\nouter\nvertex 0 0\n", Reason.MALFORMED, "line 4"),
        (b"solid\nfacet\nouter\n" + CORNER * 4, Reason.MALFORMED, "line 7"),
        (
            b"solid\nfacet\nouter\n" + CORNER * 2 + b"vertex 0 x 0\nendloop\nendfacet\nendsolid",
            Reason.MALFORMED,
            "line 6: 'x' where a number is due",
        ),
    ],
)
def test_refusals(content: bytes, reason: Reason, told: str) -> None:
    with pytest.raises(InputRefused) as refused:
        parse_stl(content)
    assert refused.value.reason is reason
    assert told in refused.value.detail
