"""Numbers out of the bytes of a text file, without an object for each of them.

Blanks and line ends are those of `bytes.split` and `bytes.splitlines`. What these kernels cannot read they leave to
callers, who go line by line: that gives the same numbers, or a message that names the line. The last byte of the data
must end a line, so that no kernel runs past it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel

_POWERS_OF_TEN: Final = 10.0 ** np.arange(23)
"""Those that float64 holds exactly."""

_EXACT: Final = 2**53
"""Whole numbers up to here are float64."""

_MOST_DIGITS: Final = 18
"""Of a whole number that certainly fits into int64."""

_SPLITTER: Final = 2.0**27 + 1

_Bytes = NDArray[np.uint8]


@kernel
def is_line_end(byte: int) -> bool:
    """Whether a byte ends a line."""
    return byte == 10 or byte == 13


@kernel
def is_space(byte: int) -> bool:
    """Whether a byte is a blank, of which there are four, or ends a line."""
    return byte == 32 or 9 <= byte <= 13


@kernel
def token_start(data: _Bytes, at: int, comments: bool) -> int:
    """Where the next token of the line starts, or the end of the line if there is none.

    With `comments`, a # that starts a token hides it and the rest of its line.
    """
    while is_space(data[at]) and not is_line_end(data[at]):
        at += 1
    if comments and data[at] == 35:
        at = line_end(data, at)
    return at


@kernel
def token_end(data: _Bytes, at: int) -> int:
    """The first position from `at` on that belongs to no token."""
    while not is_space(data[at]):
        at += 1
    return at


@kernel
def line_end(data: _Bytes, at: int) -> int:
    """The position of the next line end from `at` on."""
    while not is_line_end(data[at]):
        at += 1
    return at


@kernel
def next_row(data: _Bytes, at: int, comments: bool) -> int:
    """The first token at or after `at` in this line or any later one; the end of the data if there is none."""
    while at < len(data):
        at = token_start(data, at, comments)
        if not is_line_end(data[at]):
            return at
        at += 1
    return at


@kernel
def scan_int(data: _Bytes, at: int) -> tuple[int, int, bool]:
    """The whole number at `at`, where it ends, and whether it is one, in at most 18 digits."""
    negative = data[at] == 45
    if negative or data[at] == 43:
        at += 1
    start = at
    value = np.int64(0)
    while 48 <= data[at] <= 57:
        value = 10 * value + np.int64(data[at] - 48)
        at += 1
    return int(-value if negative else value), at, 0 < at - start <= _MOST_DIGITS


@kernel
def scan_float(data: _Bytes, at: int) -> tuple[float, int, bool]:
    """The number in the token at `at`, where that token ends, and whether the number is it, correctly rounded.

    It is not for what is no decimal number, and for the few whose rounding takes more than doubled precision to
    decide: those of more than 18 digits or far exponents.
    """
    negative = data[at] == 45
    if negative or data[at] == 43:
        at += 1
    start = at
    whole, power = np.int64(0), 0
    at = _past_zeros(data, at)
    significant = at
    while 48 <= data[at] <= 57:
        whole = 10 * whole + np.int64(data[at] - 48)
        at += 1
    digits = at - significant
    seen = at - start
    if data[at] == 46:
        at += 1
        fraction = at
        if digits == 0:
            at = _past_zeros(data, at)
        significant = at
        while 48 <= data[at] <= 57:
            whole = 10 * whole + np.int64(data[at] - 48)
            at += 1
        digits += at - significant
        power = fraction - at
        seen -= power
    plain = seen > 0 and digits <= _MOST_DIGITS
    if plain and (data[at] == 101 or data[at] == 69):
        exponent, at, plain = scan_int(data, at + 1)
        power += exponent
    if not plain or not is_space(data[at]):
        return 0.0, token_end(data, at), False
    value, exact = _scaled(whole, power)
    return (-value if negative else value), at, exact


@kernel
def _past_zeros(data: _Bytes, at: int) -> int:
    """The first position from `at` on that is no 0."""
    while data[at] == 48:
        at += 1
    return at


@kernel
def _scaled(whole: np.int64, power: int) -> tuple[float, bool]:
    """The number whole * 10^power, and whether it is correctly rounded.

    One operation on two exact operands is (Clinger, "How to read floating point numbers accurately", PLDI 1990).
    Longer numbers are divided in doubled precision (Dekker, "A floating-point technique for extending the available
    precision", Numerische Mathematik 1971), with an error far below 2^-100: where moving the quotient by that
    much makes no difference to the rounding, it is right.
    """
    if whole == 0:
        return 0.0, True
    if abs(power) > 22 or (power > 0 and whole > _EXACT):
        return 0.0, False
    if power >= 0:
        return float(whole) * _POWERS_OF_TEN[power], True
    ten = _POWERS_OF_TEN[-power]
    if whole <= _EXACT:
        return float(whole) / ten, True
    head = float(whole)
    tail = float(whole - np.int64(head))
    quotient = head / ten
    rest = (_remainder(head, quotient, ten) + tail) / ten
    slack = quotient * 2.0**-100
    below, above = quotient + (rest - slack), quotient + (rest + slack)
    return below, below == above


@kernel
def _remainder(number: float, quotient: float, divisor: float) -> float:
    """The value of number - quotient * divisor without any rounding."""
    product = quotient * divisor
    high = quotient * _SPLITTER
    high -= high - quotient
    low = quotient - high
    top = divisor * _SPLITTER
    top -= top - divisor
    bottom = divisor - top
    error = product - high * top - low * top - high * bottom - low * bottom
    return (number - product) + error
