"""The header of a PLY file: which elements follow, in what layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shapestore.errors import InputRefused, Reason

_TYPES: Final = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
"""Both sets of type names in use, as numpy codes without byte order."""

GEOMETRY: Final = {"vertex": ("x", "y", "z"), "face": ("vertex_indices", "vertex_index")}
"""The properties, by element, that say where the surface is."""

_BYTE_ORDERS: Final = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}

_END: Final = b"end_header"

_MOST_DIGITS: Final = 4000
"""Of a count; Python converts no number of many more (`sys.set_int_max_str_digits`)."""


@dataclass(frozen=True)
class Property:
    """One column of an element: a scalar, or a list with its own length in every row."""

    name: str
    dtype: str
    """numpy type of the scalar or of the list's items, with byte order."""
    length_dtype: str | None
    """numpy type of the list's length; None for a scalar."""


@dataclass(frozen=True)
class Element:
    """One table of the file."""

    name: str
    rows: int
    properties: tuple[Property, ...]


@dataclass(frozen=True)
class Header:
    """What a PLY file declares."""

    elements: tuple[Element, ...]
    """In the order of the data."""
    binary: bool
    size: int
    """Bytes before the data."""
    lines: int
    """Lines before the data."""


def parse_header(data: bytes) -> Header:
    """Read the header at the start of a PLY file.

    Raises
    ------
    InputRefused
        MALFORMED if it is none, TRUNCATED if it does not end; counts are not yet compared to the size of the file.
    """
    if data[:3] != b"ply" or data[3:4] not in (b"\n", b"\r"):
        raise InputRefused(Reason.MALFORMED, "line 1: the keyword ply is due")
    # Binary data may begin with the byte of a line end, so the first line says what ends a line.
    line_end = b"\r\n" if data[3:5] == b"\r\n" else data[3:4]
    end = data.find(line_end + _END)
    if end < 0:
        raise InputRefused(Reason.TRUNCATED, f"the header has no {_END.decode()}")
    lines = data[:end].decode("latin-1").split(line_end.decode())
    after = data.find(line_end, end + len(line_end))
    size = len(data) if after < 0 else after + len(line_end)
    order = _byte_order(lines[1].split() if len(lines) > 1 else [])
    elements = _elements(lines, order or "=")
    return Header(elements, order is not None, size, len(lines) + 1)


def _byte_order(tokens: list[str]) -> str | None:
    """The byte order as numpy writes it, None for text."""
    if len(tokens) != 3 or tokens[0] != "format" or tokens[1] not in _BYTE_ORDERS:
        raise InputRefused(Reason.MALFORMED, f"line 2: one of the formats {', '.join(_BYTE_ORDERS)} is due")
    return _BYTE_ORDERS[tokens[1]]


def _elements(lines: list[str], order: str) -> tuple[Element, ...]:
    """The elements that the lines after the format declare."""
    tables: list[tuple[str, int, list[Property]]] = []
    for number, line in enumerate(lines[2:], 3):
        match line.split():
            case ["element", name, rows] if rows.isdecimal() and len(rows) <= _MOST_DIGITS:
                tables.append((name, int(rows), []))
            case ["property", "list", length, item, name] if _is_list(length, item) and tables:
                tables[-1][2].append(Property(name, order + _TYPES[item], order + _TYPES[length]))
            case ["property", kind, name] if kind in _TYPES and tables:
                tables[-1][2].append(Property(name, order + _TYPES[kind], None))
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise InputRefused(Reason.MALFORMED, f"line {number}: {line[:60]!r} is no part of a PLY header")
    return tuple(Element(name, rows, tuple(properties)) for name, rows, properties in tables)


def _is_list(length: str, item: str) -> bool:
    """Whether two type names can be those of a list; a length is an integer."""
    return item in _TYPES and length in _TYPES and _TYPES[length][0] != "f"
