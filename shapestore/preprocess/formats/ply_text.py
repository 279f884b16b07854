"""The tables of a PLY file in text form."""

from __future__ import annotations

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.ply_header import GEOMETRY, Element, Header
from shapestore.preprocess.formats.ply_tables import Column, ListColumn, Tables, column_of, name_of
from shapestore.preprocess.formats.text import no_number, parse_floats, parse_ints, text_bytes
from shapestore.preprocess.formats.text_rows import float_columns, list_rows, rows_left

_Lines = list[tuple[int, list[bytes]]]
"""1-based numbers and tokens of lines."""


def read_text(data: bytes, header: Header) -> tuple[Tables, int]:
    """The geometry of a text file, one row a line, and the number of lines after it; refuses as `parse_ply`.

    Only `GEOMETRY` is converted, so that a colour in an odd spelling costs nobody a shape. Numbers are read as they
    are written: a property declared as a 32-bit float is not rounded to one.
    """
    text = text_bytes(data[header.size :])
    return _plain(text, header) or _by_line(text, header)


def _plain(text: bytes, header: Header) -> tuple[Tables, int] | None:
    """As `read_text` for the usual file, of vertices without lists and faces with one list; None for any other."""
    tables: Tables = {}
    position = 0
    for element in header.elements:
        read = {"vertex": _plain_vertices, "face": _plain_faces}.get(element.name)
        table = read(text, position, element) if read and element.rows else None
        if table is None:
            return None
        tables[element.name], position = table
    return tables, rows_left(text, position)


def _plain_vertices(text: bytes, start: int, element: Element) -> tuple[dict[str, Column], int] | None:
    """The coordinates, and where the next line begins."""
    columns = {prop.name: number for number, prop in enumerate(element.properties) if prop.dtype[-2] == "f"}
    axes = GEOMETRY["vertex"]
    if any(prop.length_dtype for prop in element.properties) or not columns.keys() >= set(axes):
        return None
    wanted = tuple(columns[axis] for axis in axes)
    table = float_columns(text, start, element.rows, wanted, len(element.properties))
    return None if table is None else (dict(zip(axes, table[0].T, strict=True)), table[1])


def _plain_faces(text: bytes, start: int, element: Element) -> tuple[dict[str, Column], int] | None:
    """The corners, and where the next line begins."""
    lists = [number for number, prop in enumerate(element.properties) if prop.length_dtype]
    if len(lists) != 1:
        return None
    prop = element.properties[lists[0]]
    if prop.name not in GEOMETRY["face"] or prop.dtype[-2] == "f":
        return None
    table = list_rows(text, start, element.rows, lists[0], len(element.properties) - lists[0] - 1)
    return None if table is None else ({prop.name: ListColumn(table[0], table[1])}, table[2])


def _by_line(text: bytes, header: Header) -> tuple[Tables, int]:
    """As `read_text`, line by line."""
    numbered = enumerate(text.splitlines(), header.lines + 1)
    split = ((number, line.split()) for number, line in numbered)
    lines = [(number, tokens) for number, tokens in split if tokens]
    tables: Tables = {}
    position = 0
    for element in header.elements:
        present = len(lines) - position
        if element.rows > present:
            raise InputRefused(
                Reason.TRUNCATED,
                f"{name_of(element)}, one a line; the file holds {counted(present, 'more line')}",
            )
        tables[element.name] = _text_table(lines[position : position + element.rows], element)
        position += element.rows
    return tables, len(lines) - position


def _text_table(lines: _Lines, element: Element) -> dict[str, Column]:
    """The columns of one table that are geometry."""
    spans = _spans(lines, element)
    columns: dict[str, Column] = {}
    for prop, (starts, lengths) in zip(element.properties, spans, strict=True):
        if prop.name in GEOMETRY.get(element.name, ()):
            parse = parse_floats if prop.dtype[-2] == "f" else parse_ints
            tokens, owners = _tokens_of(lines, starts, lengths)
            columns[prop.name] = column_of(parse(tokens, owners.__getitem__), lengths if prop.length_dtype else None)
    return columns


def _spans(lines: _Lines, element: Element) -> list[tuple[list[int], list[int]]]:
    """For each property the positions in the lines where its numbers start, and how many they are."""
    spans: list[tuple[list[int], list[int]]] = [([], []) for _ in element.properties]
    for number, line in lines:
        position = 0
        for prop, (starts, lengths) in zip(element.properties, spans, strict=True):
            length = 1
            if prop.length_dtype is not None:
                length = _length_token(_token(line, number, position), number)
                position += 1
            starts.append(position)
            lengths.append(length)
            position += length
        if position > len(line):
            raise _short(line, number)
    return spans


def _length_token(token: bytes, number: int) -> int:
    """The length of a list."""
    if not token.isdigit():
        raise no_number(token, number, "the length of a list")
    return int(token[:20])


def _tokens_of(lines: _Lines, starts: list[int], lengths: list[int]) -> tuple[list[bytes], list[int]]:
    """The tokens of one property in all lines, and the line number of each."""
    tokens: list[bytes] = []
    owners: list[int] = []
    for (number, line), start, length in zip(lines, starts, lengths, strict=True):
        tokens += line[start : start + length]
        owners += [number] * length
    return tokens, owners


def _token(line: list[bytes], number: int, position: int) -> bytes:
    """One token of a line."""
    if position >= len(line):
        raise _short(line, number)
    return line[position]


def _short(line: list[bytes], number: int) -> InputRefused:
    return InputRefused(Reason.MALFORMED, f"line {number}: {counted(len(line), 'number')}, fewer than declared")
