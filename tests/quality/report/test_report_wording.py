from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapestore.quality.report.wording import (
    MINUS,
    SUPERSCRIPTS,
    TIMES,
    bounds,
    count,
    data_size,
    number,
    plain,
    quantity,
)

ASCII = {ord(sign): plain for plain, sign in ((chr(key), chr(value)) for key, value in SUPERSCRIPTS.items())}


def read(text: str) -> float:
    """The number that a text says, as a person reads it."""
    plain = text.replace(MINUS, "-").replace(",", "")
    plain = re.sub(f"{TIMES}10(.*)", lambda found: "e" + found[1].translate(ASCII), plain)
    return float(plain)


@given(st.floats(-1e30, 1e30, allow_subnormal=False), st.integers(3, 9))
def test_a_number_reads_as_itself_to_its_digits(value: float, digits: int) -> None:
    assert math.isclose(read(number(value, digits)), value, rel_tol=0.51 * 10 ** (1 - digits), abs_tol=1e-300)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12345.0, "12,345"),
        (3802.1, "3,802"),
        (0.49824, "0.4982"),
        (-2.5, f"{MINUS}2.5"),
        (1.2e-7, f"1.2{TIMES}10⁻⁷"),
        (4e9, f"4{TIMES}10⁹"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_what_is_not_finite_has_a_sign_of_its_own() -> None:
    assert (number(math.inf), number(-math.inf)) == ("∞", f"{MINUS}∞")


def test_bounds_are_said_in_words() -> None:
    assert bounds(0.3, 0.7) == "0.3 to 0.7"
    assert bounds(None, 0.25, "voxels") == "at most 0.25 voxels"
    assert bounds(75, None, "points") == "at least 75 points"
    assert bounds(1, 1) == "1"
    assert bounds(None, None) == "any number"
    assert bounds(None, 12000) == "at most 12,000"


@given(st.none() | st.floats(-1e9, 1e9), st.none() | st.floats(-1e9, 1e9))
def test_bounds_have_no_blank_side_and_are_written_as_asked(low: float | None, high: float | None) -> None:
    said = bounds(low, high, write=plain)
    assert {word for word in said.split() if word[-1].isdigit()} == {plain(x) for x in (low, high) if x is not None}
    assert (low is None) == (not said.startswith(("at least", *"-0123456789")))
    assert said.isascii()


def test_counts_and_sizes_have_their_nouns() -> None:
    assert (count(1, "row"), count(2000, "row"), count(2, "class", "classes")) == ("1 row", "2,000 rows", "2 classes")
    assert (data_size(12), data_size(3 * 2**20), data_size(2.0**41)) == ("12 B", "3.0 MiB", "2.0 TiB")
    assert quantity(0.5, "") == "0.5"
