from __future__ import annotations

import struct
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.ply import parse_ply
from shapestore.preprocess.formats.ply_header import parse_header
from shapestore.preprocess.formats.ply_tables import ListColumn
from shapestore.preprocess.formats.ply_text import _by_line, _plain
from shapestore.preprocess.formats.text import text_bytes

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
SCALARS = {"uchar": "B", "int16": "h", "uint": "I", "float": "f", "double": "d"}


def write(
    kind: str, vertices: np.ndarray, polygons: list[list[int]], length: str, index: str, extra: str, end: str
) -> bytes:
    """A PLY file, written row by row with `struct`, with a further property on either side of the geometry."""
    header = [
        "ply",
        f"format {kind} 1.0",
        "comment element face 7",
        f"element vertex {len(vertices)}",
        f"property {extra} quality",
        *(f"property double {axis}" for axis in "xyz"),
        f"element face {len(polygons)}",
        f"property list {length} {index} vertex_indices",
        f"property list uchar {extra} texcoord",
        f"property {extra} red",
        "element edge 1",
        "property int vertex1",
        "end_header",
        "",
    ]
    rows = [[(extra, 1), *(("double", value) for value in vertex)] for vertex in vertices.tolist()]
    for polygon in polygons:
        corners = [(length, len(polygon)), *((index, corner) for corner in polygon)]
        rows.append([*corners, ("uchar", len(polygon) % 3), *[(extra, 2)] * (len(polygon) % 3), (extra, 3)])
    rows.append([("int", 5)])
    if kind == "ascii":
        body = "".join(" ".join(repr(value) for _, value in row) + end for row in rows).encode()
    else:
        codes = SCALARS | {"int": "i"}
        body = b"".join(struct.pack(FORMATS[kind] + codes[name], value) for row in rows for name, value in row)
    return end.join(header).encode() + body


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.lists(st.integers(0, 5), min_size=0, max_size=7), max_size=6),
    st.sampled_from(["uchar", "int16", "uint"]),
    st.sampled_from(["uchar", "int16", "uint"]),
    st.sampled_from(["uchar", "float", "double"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 2**32),
)
def test_polygons_come_back_from_every_layout(
    kind: str, polygons: list[list[int]], length: str, index: str, extra: str, end: str, seed: int
) -> None:
    vertices = np.random.default_rng(seed).normal(size=(6, 3))
    soup = parse_ply(write(kind, vertices, polygons, length, index, extra, end))
    kept = [polygon for polygon in polygons if len(polygon) >= 3]
    np.testing.assert_array_equal(soup.vertices, vertices)
    np.testing.assert_array_equal(soup.sizes, [len(polygon) for polygon in kept])
    np.testing.assert_array_equal(soup.corners, list(chain.from_iterable(kept)))
    flat = len(polygons) - len(kept)
    assert len(soup.notes) == (flat > 0)
    if flat:
        assert soup.notes[0].startswith(f"{flat} face")


@settings(deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_every_truncation_is_noticed(kind: str, data: st.DataObject) -> None:
    polygons = data.draw(st.sampled_from([[[0, 1, 2]] * 4, [[0, 1, 2], [0, 1, 2, 3], [3, 2, 1, 0, 1]]]))
    whole = write(kind, np.ones((6, 3)), polygons, "uchar", "uint", "uchar", "\n")
    cut = whole[: data.draw(st.integers(0, len(whole) - 3))]
    with pytest.raises(InputRefused) as refused:
        parse_ply(cut)
    assert refused.value.reason in {Reason.TRUNCATED, Reason.MALFORMED}


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=0, max_size=7), min_size=1, max_size=6),
    st.sampled_from(["uchar", "int16", "uint"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b"0123 -.xe\n")), max_size=3),
)
def test_the_quick_way_answers_as_the_long_way_or_not_at_all(
    polygons: list[list[int]], length: str, edits: list[tuple[int, int]]
) -> None:
    whole = write("ascii", np.random.default_rng(0).normal(size=(6, 3)), polygons, length, "uint", "float", "\n")
    # Only vertices and faces that have one list are plain.
    dropped = (b"property list uchar float texcoord", b"element edge", b"property int vertex1")
    lines = [line for line in whole.splitlines() if not line.startswith(dropped)]
    declared = parse_header(b"\n".join(lines))
    rows = [line.split() for line in lines[declared.lines : -1]]
    body = [" ".join(token.decode() for token in row) for row in rows[:6]]
    body += [" ".join(map(str, [len(polygon), *polygon, 3.0])) for polygon in polygons]
    content = bytearray("\n".join([*body, ""]).encode())
    for place, byte in edits:
        content[place % len(content)] = byte
    text = text_bytes(bytes(content))
    quick = _plain(text, declared)
    assert quick is not None or edits
    if quick is not None:
        (tables, rest), (expected, expected_rest) = quick, _by_line(text, declared)
        assert rest == expected_rest
        for axis in "xyz":
            np.testing.assert_array_equal(tables["vertex"][axis], expected["vertex"][axis])
        one, other = tables["face"]["vertex_indices"], expected["face"]["vertex_indices"]
        assert isinstance(one, ListColumn)
        assert isinstance(other, ListColumn)
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.lengths, other.lengths)


def test_further_bytes_are_told() -> None:
    whole = write("binary_big_endian", np.ones((6, 3)), [[0, 1, 2]], "uchar", "uint", "uchar", "\n")
    assert parse_ply(whole + b"123").notes == ("3 bytes after the last element ignored",)


def header(*lines: str, kind: str = "binary_little_endian") -> bytes:
    return "\n".join(["ply", f"format {kind} 1.0", *lines, "end_header", ""]).encode()


XYZ = [f"property float {axis}" for axis in "xyz"]
LIST = "property list uint int vertex_indices"


@pytest.mark.parametrize(
    ("content", "reason", "told"),
    [
        (b"plywood", Reason.MALFORMED, "keyword ply"),
        (b"ply\nformat ascii 1.0\n", Reason.TRUNCATED, "end_header"),
        (b"ply\nend_header\n", Reason.MALFORMED, "formats ascii"),
        (header("element vertex -1", *XYZ), Reason.MALFORMED, "line 3"),
        (header("property float x"), Reason.MALFORMED, "line 3"),
        (header("element vertex 1", "property half x"), Reason.MALFORMED, "line 4"),
        (header("element vertex 1", "property list float int x"), Reason.MALFORMED, "line 4"),
        (header("element vertex 1", "element vertex 1"), Reason.MALFORMED, "twice"),
        (header("element vertex 0", *XYZ[:2]), Reason.MALFORMED, "x, y and z"),
        (
            header("element vertex 0", *XYZ, "element face 0", "property int a"),
            Reason.MALFORMED,
            "vertex_indices",
        ),
        (header("element vertex 0", *XYZ, "element tristrips 1", LIST), Reason.UNSUPPORTED, "strips"),
        (header("element vertex 99999999999999", *XYZ), Reason.TRUNCATED, "99999999999999 rows"),
        (
            header("element vertex 99999999999999", *XYZ, kind="ascii"),
            Reason.TRUNCATED,
            "99999999999999 rows",
        ),
        (
            header("element vertex 0", *XYZ, "element face 9999999999", LIST),
            Reason.TRUNCATED,
            "9999999999 rows",
        ),
        (
            header("element vertex 0", *XYZ, "element face 1", LIST) + b"\xff\xff\xff\xff1234",
            Reason.TRUNCATED,
            "face",
        ),
        (
            header("element vertex 0", *XYZ, "element face 1", "property list char int vertex_index") + b"\xff1234",
            Reason.MALFORMED,
            "a list of -1",
        ),
        (header("element vertex 1", *XYZ, kind="ascii") + b"1 2\n", Reason.MALFORMED, "line 8: 2 numbers"),
        (header("element vertex 1", *XYZ, kind="ascii") + b"1 2 z\n", Reason.MALFORMED, "line 8: 'z'"),
        (
            header("element vertex 0", *XYZ, "element face 1", LIST, kind="ascii") + b"3 0 1\n",
            Reason.MALFORMED,
            "line 10: 3 numbers",
        ),
        (
            header("element vertex 1", *XYZ, "property uchar red", kind="ascii") + b"1 2 3\n",
            Reason.MALFORMED,
            "line 9: 3 numbers",
        ),
        (
            header("element vertex 1", *XYZ, "element face 1", LIST, "property uchar red", kind="ascii")
            + b"1 2 3\n3 0 0 0\n",
            Reason.MALFORMED,
            "line 12: 4 numbers",
        ),
    ],
)
def test_refusals(content: bytes, reason: Reason, told: str) -> None:
    with pytest.raises(InputRefused) as refused:
        parse_ply(content)
    assert refused.value.reason is reason
    assert told in refused.value.detail
