"""Numbers and bounds as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS: Final = "\N{MINUS SIGN}"
TIMES: Final = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"


def number(value: float, digits: int = 4) -> str:
    """A number to some significant digits: `0.4982`, `12,345`, 1.204 times a power of 10."""
    size = abs(value)
    if not math.isfinite(value):
        text = f"{value:g}".replace("inf", "∞")
    elif float(value).is_integer() and size < 10**6:
        text = f"{value:,.0f}"
    elif 1e-3 <= size < 10**6:
        decimals = max(0, digits - 1 - math.floor(math.log10(size)))
        text = f"{value:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if decimals else text
    else:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        text = f"{mantissa}{TIMES}10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return text.replace("-", MINUS)


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """A number with what it counts or measures."""
    return f"{number(value, digits)} {unit}".rstrip()


def six_digits(value: float) -> str:
    """A number to the six digits in which bounds are said."""
    return number(value, 6)


def plain(value: float) -> str:
    """A number to six significant digits as programs write it, for a terminal: `0.4982`, `12345`, `1.2e-07`."""
    return f"{value:.6g}"


def bounds(
    low: float | None,
    high: float | None,
    unit: str = "",
    write: Callable[[float], str] = six_digits,
) -> str:
    """What is sound, in few words: `0.3 to 0.7`, `at most 0.25 voxels`; None is no bound, `write` writes a number."""
    if low is None:
        text = f"at most {write(high)}" if high is not None else "any number"
    elif high is None:
        text = f"at least {write(low)}"
    else:
        text = write(low) if low == high else f"{write(low)} to {write(high)}"
    return f"{text} {unit}".rstrip()


def count(many: int, noun: str, plural: str = "") -> str:
    """A count with its noun: `1 row`, `2,000 rows`."""
    return f"{many:,} {noun if many == 1 else plural or noun + 's'}"


def data_size(size: float) -> str:
    """A number of bytes with a unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
