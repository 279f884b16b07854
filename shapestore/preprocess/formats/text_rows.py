"""Tables of numbers in a text file, one row a line: most of most files.

Each function answers None for a table that is not plain; the caller then goes line by line, which gives the same
numbers, or a message that names the line.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.formats.text import parse_float
from shapestore.preprocess.formats.text_scan import (
    is_line_end,
    is_space,
    line_end,
    next_row,
    scan_float,
    scan_int,
    token_end,
    token_start,
)

_Bytes = NDArray[np.uint8]


def float_columns(
    data: bytes, start: int, rows: int, columns: tuple[int, ...], width: int, comments: bool = False
) -> tuple[NDArray[np.float64], int] | None:
    """Read numbers from lines that are not blank; what else they hold is read over.

    Parameters
    ----------
    data
        The file; its last byte ends a line.
    start
        Where the first line begins.
    rows
        Number of lines to read.
    columns
        The tokens of each line to read, from 0.
    width
        The least number of tokens of a line, above all of `columns`.
    comments
        Whether a # that starts a token hides the rest of its line.

    Returns
    -------
    values
        (rows, k) float64.
    end
        Where the line after the last one that was read begins.
    """
    if rows > len(data):
        return None
    buffer = np.frombuffer(data, np.uint8)
    wanted = np.full(width, -1)
    wanted[list(columns)] = range(len(columns))
    values, end, odd, plain = _float_columns(buffer, start, rows, wanted, len(columns), comments)
    return (values, end) if plain and fill_odd(data, values, odd) else None


def list_rows(
    data: bytes, start: int, rows: int, before: int, after: int, comments: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], int] | None:
    """Read lists of whole numbers, each led by its length, from lines that are not blank.

    Parameters
    ----------
    data, start, rows, comments
        As in `float_columns`.
    before, after
        Number of tokens before the length, which are read over, and the least number of them after the list.

    Returns
    -------
    items
        (N,) int64: the numbers of all lists.
    lengths
        (rows,) int64, >= 0, N in sum.
    end
        Where the line after the last one that was read begins.
    """
    if rows > len(data):
        return None
    items, lengths, end, plain = _list_rows(np.frombuffer(data, np.uint8), start, rows, before, after, comments)
    return (items, lengths, end) if plain else None


def rows_left(data: bytes, start: int, comments: bool = False) -> int:
    """Number of lines from `start` on that hold any token."""
    return int(_rows_left(np.frombuffer(data, np.uint8), start, comments))


def fill_odd(data: bytes, values: NDArray[np.float64], odd: NDArray[np.int64]) -> bool:
    """Fill in the numbers that `scan_float` leaves; False if one of them is none.

    Parameters
    ----------
    data
        The file.
    values
        The array to fill.
    odd
        (k, 3) int64: flat index in `values`, start and end of the token.
    """
    try:
        for index, start, stop in odd.tolist():
            values.flat[index] = parse_float(data[start:stop])
    except ValueError:
        return False
    return True


@kernel
def noted(odd: NDArray[np.int64], count: int, index: int, start: int, stop: int) -> NDArray[np.int64]:
    """`odd` with the row `count` set, twice as long if it was full."""
    if count == len(odd):
        odd = np.concatenate((odd, np.empty_like(odd)))
    odd[count, 0], odd[count, 1], odd[count, 2] = index, start, stop
    return odd


@kernel
def _float_columns(
    data: _Bytes, at: int, rows: int, wanted: NDArray[np.int64], count: int, comments: bool
) -> tuple[NDArray[np.float64], int, NDArray[np.int64], bool]:
    """As `float_columns`, with the odd numbers left, and last whether the table is plain.

    `wanted` says of every token which of the `count` columns it is, -1 for none.
    """
    values = np.empty((rows, count))
    odd = np.empty((8, 3), np.int64)
    odds = 0
    for row in range(rows):
        at = next_row(data, at, comments)
        for token in range(len(wanted)):
            at = token_start(data, at, comments) if at < len(data) else at
            if at == len(data) or is_line_end(data[at]):
                return values, at, odd[:odds], False
            if wanted[token] < 0:
                at = token_end(data, at)
            else:
                number, stop, exact = scan_float(data, at)
                values[row, wanted[token]] = number
                if not exact:
                    odd = noted(odd, odds, row * count + wanted[token], at, stop)
                    odds += 1
                at = stop
        at = line_end(data, at) + 1
    return values, at, odd[:odds], True


@kernel
def _list_rows(
    data: _Bytes, at: int, rows: int, before: int, after: int, comments: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, bool]:
    """As `list_rows`, and last whether the table is plain."""
    items = np.empty(4 * rows, np.int64)
    lengths = np.zeros(rows, np.int64)
    count = 0
    for row in range(rows):
        at = next_row(data, at, comments)
        length, token = 0, 0
        while token < before + 1 + length + after:
            at = token_start(data, at, comments) if at < len(data) else at
            if at == len(data) or is_line_end(data[at]):
                return items, lengths, at, False
            if token < before or token > before + length:
                at = token_end(data, at)
            else:
                number, at, plain = scan_int(data, at)
                if not plain or not is_space(data[at]) or (token == before and number < 0):
                    return items, lengths, at, False
                if token == before:
                    length = number
                    lengths[row] = number
                else:
                    if count == len(items):
                        items = np.concatenate((items, np.empty_like(items)))
                    items[count] = number
                    count += 1
            token += 1
        at = line_end(data, at) + 1
    return items[:count].copy(), lengths, at, True


@kernel
def _rows_left(data: _Bytes, at: int, comments: bool) -> int:
    """As `rows_left`."""
    rows = 0
    at = next_row(data, at, comments)
    while at < len(data):
        rows += 1
        at = next_row(data, line_end(data, at), comments)
    return rows
