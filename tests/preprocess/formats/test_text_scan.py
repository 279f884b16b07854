from __future__ import annotations

import struct
from decimal import Decimal

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shapestore.preprocess.formats.text_scan import scan_float, scan_int

DIGITS = st.text("0123456789", max_size=20)
DECIMALS = st.builds(
    lambda sign, whole, point, part, power: sign + whole + (f".{part}" if point else "") + power,
    st.sampled_from(["", "-", "+"]),
    DIGITS,
    st.booleans(),
    DIGITS,
    st.one_of(st.just(""), st.integers(-400, 400).map("e{}".format), st.integers(0, 30).map("E+{}".format)),
)


def read_float(token: str) -> tuple[float, bool]:
    value, end, exact = scan_float(np.frombuffer(token.encode() + b"\n", np.uint8), 0)
    assert end == len(token)
    return value, exact


def is_float(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


@settings(deadline=None)
@given(DECIMALS)
@example("9007199254740993")
@example("-0")
@example(".")
@example("1e23")
@example("9007199254740995.0")
def test_what_is_said_to_be_exact_is_what_python_reads(token: str) -> None:
    value, exact = read_float(token)
    if exact:
        assert struct.pack("d", value) == struct.pack("d", float(token))


@settings(deadline=None)
@given(st.floats(1e-4, 1e6), st.booleans(), st.sampled_from(["{!r}", "{:.6f}", "{:.8g}", "{:.17g}", "{:.9e}"]))
def test_numbers_as_programs_write_them_are_read_without_help(value: float, negative: bool, form: str) -> None:
    token = form.format(-value if negative else value)
    assert read_float(token) == (float(token), True)


@settings(deadline=None)
@given(st.floats(0.015625, 8192), st.integers(15, 18))
def test_halfway_between_two_floats_is_rounded_right_or_left_to_others(value: float, digits: int) -> None:
    middle = (Decimal(value) + Decimal(float(np.nextafter(value, np.inf)))) / 2
    for token in (f"{middle:.{digits}g}", format(middle, "f")):
        read, exact = read_float(token)
        assert not exact or read == float(token)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8))
def test_what_is_no_number_is_not_exact(token: str) -> None:
    _, exact = read_float(token)
    assert not exact or is_float(token)


@settings(deadline=None)
@given(st.text("0123456789+-.x", max_size=20))
def test_whole_numbers(token: str) -> None:
    value, end, plain = scan_int(np.frombuffer(token.encode() + b"\n", np.uint8), 0)
    digits = token.lstrip("+-")
    if plain and end == len(token):
        assert value == int(token)
    elif token and len(digits) >= len(token) - 1 and digits.isdigit():
        assert len(digits) > 18
