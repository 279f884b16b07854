"""Blocks of lines that all look alike, read by numpy at once: most of most files.

Each function answers None for a block that is not plain; the caller then goes line by line, which gives the same
numbers, or a message that names the line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_UNUSUAL: Final = re.compile(rb"[^\t\n -~]")
"""Characters that are blanks to numpy but not in these formats are among them."""

_DIGITS: Final = b"0123456789"


def float_columns(lines: Sequence[bytes], first: int) -> NDArray[np.float64] | None:
    """(n, 3) numbers: those in the three columns from `first` on, of n lines with any further columns."""
    if not lines or _UNUSUAL.search(b"".join(lines)):
        return None
    try:
        table = np.loadtxt(lines, usecols=range(first, first + 3), comments=None, ndmin=2)
    except ValueError:
        return None
    return table if len(table) == len(lines) else None  # it leaves blank lines out


def natural_rows(lines: Sequence[bytes]) -> tuple[NDArray[np.int64], bytes] | None:
    """Natural numbers in the same pattern on every line, with single blanks or slashes between them.

    Returns
    -------
    rows
        (n, k) int64; numbers beyond int64 become the largest one.
    separators
        The k - 1 characters between the numbers.
    """
    stripped = [line.strip() for line in lines]
    if not stripped:
        return None
    separators = stripped[0].translate(None, _DIGITS)
    if separators.strip(b" /") or any(line.translate(None, _DIGITS) != separators for line in stripped):
        return None
    values = np.fromstring(b" ".join(stripped).replace(b"/", b" "), np.int64, sep=" ")
    # A line has at most one number more than separators, so the sum tells that none has fewer.
    if len(values) != len(stripped) * (len(separators) + 1):
        return None
    return values.reshape(len(stripped), -1), separators
