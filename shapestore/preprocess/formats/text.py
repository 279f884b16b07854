"""Text files of numbers: bytes to lines, tokens to arrays."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason

_BYTE_ORDER_MARKS: Final = (
    # The mark of UTF-32-LE begins with that of UTF-16-LE, so it is tried first.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)

_MICROSOFT_FLOAT: Final = re.compile(rb"([+-]?)1\.#(IND|QNAN|SNAN|INF)0*", re.IGNORECASE)
"""How C runtimes of Windows before 2015 print NaN and infinity."""

_Number = TypeVar("_Number", np.float64, np.int64)

LineOf = Callable[[int], int]
"""Maps the position of a token to the 1-based number of its line, for messages."""


def text_bytes(data: bytes) -> bytes:
    """A text file as bytes in which every ASCII character is one byte, and the last one ends a line.

    Parameters
    ----------
    data
        The file: ASCII-compatible, or any UTF with a byte order mark. What is not ASCII is kept undecoded, since
        the numbers of a geometry file are ASCII and names and comments may be in any code page.

    Raises
    ------
    InputRefused
        MALFORMED if the text breaks its own encoding, or holds NUL bytes, which no text does.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                data = data[len(mark) :].decode(encoding).encode()
            except UnicodeError as error:
                raise InputRefused(Reason.MALFORMED, f"the text is not valid {encoding.upper()}") from error
            break
    if b"\0" in data:
        raise InputRefused(Reason.MALFORMED, "binary data where text is due")
    return data if data.endswith((b"\n", b"\r")) else data + b"\n"


def text_lines(data: bytes) -> list[bytes]:
    """The lines of a text file, whatever its line ends; takes and refuses the same as `text_bytes`."""
    return text_bytes(data).splitlines()


def tokens_of(line: bytes) -> list[bytes]:
    """The tokens of a line before its comment; a comment starts with a # that starts a token, unlike in 1.#INF."""
    tokens = line.split()
    if b"#" in line:
        starts = (position for position, token in enumerate(tokens) if token.startswith(b"#"))
        return tokens[: next(starts, None)]
    return tokens


def parse_floats(tokens: Sequence[bytes], line_of: LineOf) -> NDArray[np.float64]:
    """(n,) float64 values of n tokens; NaN and infinities in any common spelling are values.

    Raises
    ------
    InputRefused
        MALFORMED, with the line of the first token that is no number.
    """
    fast = _parse(tokens, np.float64)
    if fast is not None:
        return fast
    values = np.empty(len(tokens))
    for position, token in enumerate(tokens):
        try:
            values[position] = parse_float(token)
        except ValueError as error:
            raise no_number(token, line_of(position)) from error
    return values


def parse_ints(tokens: Sequence[bytes], line_of: LineOf) -> NDArray[np.int64]:
    """(n,) int64 values of n decimal tokens; those beyond 64 bits become the nearest int64.

    Raises
    ------
    InputRefused
        MALFORMED, with the line of the first token that is no whole number.
    """
    fast = _parse(tokens, np.int64)
    if fast is not None:
        return fast
    for position, token in enumerate(tokens):
        if re.fullmatch(rb"[+-]?[0-9]+", token) is None:
            raise no_number(token, line_of(position), "a whole number")
    raise AssertionError("every token is a number, yet numpy cannot read them")


def parse_float(token: bytes) -> float:
    """One token as a float, in any common spelling of NaN and the infinities too; ValueError if it is none."""
    special = _MICROSOFT_FLOAT.fullmatch(token)
    if special:
        magnitude = np.inf if special[2].upper() == b"INF" else np.nan
        return -magnitude if special[1] == b"-" else magnitude
    if b"_" in token:  # a digit separator to Python, but to no file format
        raise ValueError(token)
    return float(token)


def no_number(token: bytes, line: int, due: str = "a number") -> InputRefused:
    """The refusal of a token that should have been a number."""
    shown = token[:40].decode("ascii", "backslashreplace")
    return InputRefused(Reason.MALFORMED, f"line {line}: {shown!r} where {due} is due")


def _parse(tokens: Sequence[bytes], dtype: type[_Number]) -> NDArray[_Number] | None:
    """All tokens at once, or None if any of them is not a plain number."""
    try:
        # Text mode reads, with strtod and strtoll, the grammar that the callers want, and refuses all else.
        values = np.fromstring(b" ".join(tokens), dtype=dtype, sep=" ")
    except ValueError:
        return None
    return values if len(values) == len(tokens) else None
