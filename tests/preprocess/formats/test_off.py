from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.off import _by_line, _header, _plain, parse_off
from shapestore.preprocess.formats.text import text_bytes

COORDINATES = st.floats(allow_nan=False, allow_infinity=False)
EXTRA = {"": 0, "ST": 2, "C": 4, "N": 3, "STCN": 9, "CN": 7}


@st.composite
def nasty_files(draw: st.DrawFn) -> tuple[bytes, list[list[float]], list[list[int]]]:
    """An OFF file in odd spellings, its vertices and its polygons."""
    vertices = draw(st.lists(st.lists(COORDINATES, min_size=3, max_size=3), min_size=1, max_size=8))
    index = st.integers(0, len(vertices) - 1)
    polygons = draw(st.lists(st.lists(index, min_size=3, max_size=6), max_size=6))
    kind = draw(st.sampled_from(sorted(EXTRA)))
    counts = f"{len(vertices)} {len(polygons)}" + draw(st.sampled_from(["", " 0", " 17"]))
    lines = [f"{kind}OFF" + draw(st.sampled_from(["", " ", "\n", "\n# made by # hand\n\n"])) + counts]
    lines += [" ".join([*map(repr, vertex), *["0.5"] * EXTRA[kind]]) for vertex in vertices]
    colours = draw(st.sampled_from(["", " 255 0 0", " 0.1 0.2 0.3 0.75", " 7"]))
    for polygon in polygons:
        blank = draw(st.sampled_from([" ", "\t", "  "]))
        lines.append(blank.join(map(str, [len(polygon), *polygon])) + draw(st.sampled_from(["", colours])))
    between = [draw(st.sampled_from(["\n", "\r\n", " # 3 0 1 2\n", "\n#\n", "\n\n"])) for _ in lines]
    text = "".join(line + end for line, end in zip(lines, between, strict=True))
    return text.encode(), vertices, polygons


@settings(deadline=None)
@given(nasty_files())
def test_any_spelling_gives_the_polygons_back(case: tuple[bytes, list[list[float]], list[list[int]]]) -> None:
    data, vertices, polygons = case
    soup = parse_off(data)
    np.testing.assert_array_equal(soup.vertices, vertices)
    np.testing.assert_array_equal(soup.sizes, [len(polygon) for polygon in polygons])
    np.testing.assert_array_equal(soup.corners, list(chain.from_iterable(polygons)))
    assert soup.notes == ()


@settings(deadline=None)
@given(nasty_files(), st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b"0123 -.#xe\n")), max_size=3))
def test_the_quick_way_answers_as_the_long_way_or_not_at_all(
    case: tuple[bytes, list[list[float]], list[list[int]]], edits: list[tuple[int, int]]
) -> None:
    content = bytearray(case[0])
    for place, byte in edits:
        content[place % len(content)] = byte
    text = text_bytes(bytes(content))
    try:
        header = _header(text)
    except InputRefused:
        return
    quick = _plain(text, header)
    assert quick is not None or edits
    if quick is not None:
        for one, other in zip(quick, _by_line(text, header), strict=True):
            np.testing.assert_array_equal(one, other)


@given(nasty_files(), st.data())
def test_a_missing_line_is_noticed(case: tuple[bytes, list[list[float]], list[list[int]]], data: st.DataObject) -> None:
    content, vertices, polygons = case
    lines = [line for line in content.splitlines() if line.partition(b"#")[0].strip()]
    missing = data.draw(st.integers(1, len(vertices) + len(polygons)))
    with pytest.raises(InputRefused) as refused:
        parse_off(b"\n".join(lines[:-missing]))
    assert refused.value.reason is Reason.TRUNCATED


def test_a_colour_is_no_corner_even_where_lines_look_alike() -> None:
    soup = parse_off(b"OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 9\n4 0 1 2 3\n")
    assert soup.corners.tolist() == [0, 1, 2, 0, 1, 2, 3]


def test_counts_glued_to_the_keyword() -> None:
    soup = parse_off(b"OFF3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    assert soup.corners.tolist() == [0, 1, 2]


def test_edges_and_further_lines_are_told() -> None:
    soup = parse_off(b"OFF\n3 3 0\n0 0 0\n1 0 0\n0 1 0\n2 0 1\n3 0 1 2\n1 0 \nrest\n")
    assert soup.corners.tolist() == [0, 1, 2]
    assert soup.sizes.tolist() == [3]
    assert soup.notes == ("2 faces of fewer than three corners ignored", "1 line after the last face ignored")


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        (b"PLY\n1 1 0", Reason.MALFORMED, "line 1: the keyword OFF"),
        (b"# only\n", Reason.MALFORMED, "the keyword OFF"),
        (b"OFF\n", Reason.TRUNCATED, "ends after the keyword"),
        (b"OFF BINARY\n", Reason.UNSUPPORTED, "binary"),
        (b"4OFF\n1 0 0\n0 0 0 0", Reason.UNSUPPORTED, "dimensions"),
        (b"OFF\n1\n", Reason.MALFORMED, "line 2: the numbers of vertices"),
        (b"OFF\n1 1.5 0\n", Reason.MALFORMED, "line 2: '1.5'"),
        (b"OFF\n-1 1 0\n", Reason.MALFORMED, "negative"),
        (b"OFF\n3 99999999999999999 0\n0 0 0\n", Reason.TRUNCATED, "99999999999999999 faces"),
        (b"OFF\n1 0 0\n0 0\n", Reason.MALFORMED, "line 3: a vertex of 2 numbers"),
        (b"OFF\n2 0 0\n0 0 0\n0 zero 0\n", Reason.MALFORMED, "line 4: 'zero'"),
        (b"OFF\n1 1 0\n0 0 0\n3 0 0\n", Reason.MALFORMED, "line 4: a face of 3 corners, of which 2 follow"),
        (b"OFF\n1 1 0\n0 0 0\n-3 0 0 0\n", Reason.MALFORMED, "line 4: a face of -3"),
    ],
)
def test_refusals(text: bytes, reason: Reason, told: str) -> None:
    with pytest.raises(InputRefused) as refused:
        parse_off(text)
    assert refused.value.reason is reason
    assert told in refused.value.detail
