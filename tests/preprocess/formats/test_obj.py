from __future__ import annotations

import codecs
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.obj import parse_obj

COORDINATES = st.floats(allow_nan=False, allow_infinity=False, width=64)
BLANKS = st.sampled_from([" ", "  ", "\t", " \\\n ", " \\\r\n"])
CHATTER = st.sampled_from(
    [
        "",
        "# f 1 2 \\",
        "g a # b",
        "o x",
        "usemtl m",
        "mtllib absent \\ one.mtl",
        "s off",
        "vt 0 1",
        "vn 0 0 1",
        "   ",
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
ENCODINGS = st.sampled_from(
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ]
)

TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@st.composite
def nasty_files(draw: st.DrawFn) -> tuple[bytes, list[list[float]], list[list[int]]]:
    """An OBJ file in odd spellings, its vertices and its polygons."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1 if vertices else 3, 5))):
            vertices.append(draw(st.lists(COORDINATES, min_size=3, max_size=3)))
            colour = draw(st.sampled_from(["", " 1", " 0.1 0.2 0.3", " nan nan nan", " # 7"]))
            blank = draw(BLANKS)
            lines.append(blank.join(["v", *map(repr, vertices[-1])]) + colour)
            lines.append(draw(CHATTER))
        for _ in range(draw(st.integers(1, 3))):
            polygon = draw(st.lists(st.integers(0, len(vertices) - 1), min_size=3, max_size=7))
            polygons.append(polygon)
            form = draw(st.sampled_from(["{}", "{}/1", "{}//1", "{}/1/1", "{}//", "{}/"]))
            shift = [len(vertices) if draw(st.booleans()) else -1 for _ in polygon]
            corners = [form.format(corner - back) for corner, back in zip(polygon, shift, strict=True)]
            lines.append(draw(BLANKS).join(["f", *corners]) + draw(st.sampled_from(["", " ", " # 1 2"])))
            lines.append(draw(CHATTER))
    mark, encoding = draw(ENCODINGS)
    return mark + draw(ENDS).join(lines).encode(encoding), vertices, polygons


@settings(deadline=None)
@given(nasty_files())
def test_any_spelling_gives_the_polygons_back(case: tuple[bytes, list[list[float]], list[list[int]]]) -> None:
    data, vertices, polygons = case
    soup = parse_obj(data)
    np.testing.assert_array_equal(soup.vertices, vertices)
    np.testing.assert_array_equal(soup.sizes, [len(polygon) for polygon in polygons])
    np.testing.assert_array_equal(soup.corners, list(chain.from_iterable(polygons)))
    assert soup.notes == ()


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(3, 6),
    st.sampled_from(["{0}", "{0}/{1}", "{0}/{1}/{2}", "{0}//{2}"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b"0123 /-.#x\n\\")), max_size=3),
)
def test_the_quick_way_and_the_long_way_agree(seed: int, size: int, form: str, edits: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(seed)
    lines = [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in rng.normal(size=(9, 3))]
    lines += ["f " + " ".join(form.format(*corner) for corner in rng.integers(1, 10, (size, 3))) for _ in range(5)]
    data = bytearray("\n".join(lines).encode())
    for place, byte in edits:
        data[place % len(data)] = byte
    # A line element is read over with a note, but no plain file has any.
    results = []
    for content in (bytes(data), bytes(data) + b"\n\nl 1 1\n"):  # a last backslash takes the blank line
        try:
            soup = parse_obj(content)
            results.append((soup.vertices.tolist(), soup.corners.tolist(), soup.sizes.tolist()))
        except InputRefused as refused:
            results.append((refused.reason, refused.detail.partition(";")[0]))
    np.testing.assert_equal(results[0], results[1])


def test_what_has_no_area_is_read_over_with_a_note() -> None:
    soup = parse_obj(TRIANGLE + b"f 1 2 3\nl 1 2\nl 2 3\np 1\nvcolor 1\n")
    assert soup.notes == ("2 line elements ignored", "1 point element ignored", "1 unknown record ignored")
    assert soup.sizes.tolist() == [3]


def test_any_record_may_go_on_in_the_next_line() -> None:
    assert len(parse_obj(TRIANGLE + b"g one \\\nv 9 9 9\nf 1 2 3\n").vertices) == 3
    soup = parse_obj(TRIANGLE + b"g one \\\nv 9 9 9\n# not a comment \\\nf 1 2 3\nf 1 \\\n2 \\\n3 \\")
    assert len(soup.vertices) == 3
    assert soup.corners.tolist() == [0, 1, 2, 0, 1, 2]


def test_special_numbers_in_every_spelling() -> None:
    soup = parse_obj(b"v nan -nan NaN\nv inf -inf Infinity\nv 1.#IND -1.#QNAN 1.#INF00\nv -1.#INF 1e400 -0\n")
    expected = [[np.nan] * 3, [np.inf, -np.inf, np.inf], [np.nan, np.nan, np.inf], [-np.inf, np.inf, -0.0]]
    np.testing.assert_array_equal(soup.vertices, expected)


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        (b"f 1 2", Reason.MALFORMED, "line 4: a face of 2 corners"),
        (b"f", Reason.MALFORMED, "line 4: a face of 0 corners"),
        (b"f 1 2 x", Reason.MALFORMED, "line 4: 'x' where a whole number is due"),
        (b"f 1 2 3.0", Reason.MALFORMED, "line 4: '3.0'"),
        (b"f 1 2 /3", Reason.MALFORMED, "line 4: ''"),
        (b"f 1 2 3\nv 1 2", Reason.MALFORMED, "line 5: a vertex of 2 numbers"),
        (b"f 1 2 3\nv 1 2 1_0", Reason.MALFORMED, "line 5: '1_0' where a number is due"),
        (b"f 1 2 \\\n 0", Reason.INDEX_RANGE, "line 4: a face uses vertex 0"),
        (b"f 1 2 4", Reason.INDEX_RANGE, "vertex 4; the file has 3 positions"),
        (b"\nf -4 2 1", Reason.INDEX_RANGE, "line 5: a face uses vertex -4"),
        (b"f 1 2 99999999999999999999999", Reason.INDEX_RANGE, "line 4"),
        (b"f 1 2 3\nsurf 0 1 0 1 1 2", Reason.UNSUPPORTED, "line 5: a spline surface"),
    ],
)
def test_refusals_name_the_line(text: bytes, reason: Reason, told: str) -> None:
    with pytest.raises(InputRefused) as refused:
        parse_obj(TRIANGLE + text)
    assert refused.value.reason is reason
    assert told in refused.value.detail


@pytest.mark.parametrize("data", [codecs.BOM_UTF16_LE + b"v", codecs.BOM_UTF8 + b"\xff", TRIANGLE + b"\0"])
def test_broken_text_is_refused(data: bytes) -> None:
    with pytest.raises(InputRefused) as refused:
        parse_obj(data)
    assert refused.value.reason is Reason.MALFORMED
