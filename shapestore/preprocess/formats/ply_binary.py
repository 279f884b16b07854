"""The tables of a binary PLY file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import refuse_short
from shapestore.preprocess.formats.ply_header import Element, Header
from shapestore.preprocess.formats.ply_tables import Column, Tables, column_of, name_of


def read_binary(data: bytes, header: Header) -> tuple[Tables, int]:
    """The tables of a binary file, and the number of bytes after them; refuses as `parse_ply`."""
    tables: Tables = {}
    position = header.size
    for element in header.elements:
        # A list takes at least its length: the least that the rows can need, known before any is read.
        least = element.rows * sum(np.dtype(p.length_dtype or p.dtype).itemsize for p in element.properties)
        refuse_short(name_of(element), least, len(data) - position)
        tables[element.name], position = _binary_table(data, position, element)
    return tables, len(data) - position


def _binary_table(data: bytes, position: int, element: Element) -> tuple[dict[str, Column], int]:
    """One table, and where it ends."""
    if element.rows == 0 or not element.properties:
        columns = {p.name: column_of(np.empty(0, p.dtype), [] if p.length_dtype else None) for p in element.properties}
        return columns, position
    lengths = _lengths_of_row(data, position, element)
    dtype, needed = _row_dtype(element, lengths)
    if needed * element.rows <= len(data) - position:
        rows = np.frombuffer(data, dtype, element.rows, position)
        uniform = all((rows[f"{index} length"] == length).all() for index, length in lengths.items())
        if uniform:
            return _split_rows(rows, element, lengths), position + needed * element.rows
    return _walk(data, position, element)


def _lengths_of_row(data: bytes, position: int, element: Element) -> dict[int, int]:
    """Lengths of the lists in the row at `position`, by number of the property."""
    lengths = {}
    for index, prop in enumerate(element.properties):
        if prop.length_dtype is not None:
            lengths[index] = _length_at(data, position, prop.length_dtype, element)
            position += np.dtype(prop.length_dtype).itemsize + lengths[index] * np.dtype(prop.dtype).itemsize
        else:
            position += np.dtype(prop.dtype).itemsize
        refuse_short(name_of(element), position, len(data))
    return lengths


def _length_at(data: bytes, position: int, dtype: str, element: Element) -> int:
    """The length of a list."""
    refuse_short(name_of(element), position + np.dtype(dtype).itemsize, len(data))
    length = int(np.frombuffer(data, dtype, 1, position)[0])
    if length < 0:
        raise InputRefused(Reason.MALFORMED, f"{name_of(element)}: a list of {length} numbers")
    return length


def _row_dtype(element: Element, lengths: dict[int, int]) -> tuple[np.dtype[np.void], int]:
    """Type and size of a row whose lists have these lengths."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
    for index, prop in enumerate(element.properties):
        if prop.length_dtype is None:
            fields.append((f"{index}", prop.dtype))
        else:
            fields.append((f"{index} length", prop.length_dtype))
            fields.append((f"{index}", prop.dtype, (lengths[index],)))
    dtype = np.dtype(fields)
    return dtype, dtype.itemsize


def _split_rows(rows: NDArray[np.void], element: Element, lengths: dict[int, int]) -> dict[str, Column]:
    """Columns of rows whose lists all have the same lengths."""
    columns: dict[str, Column] = {}
    for index, prop in enumerate(element.properties):
        repeated = np.full(len(rows), lengths[index]) if index in lengths else None
        columns[prop.name] = column_of(rows[f"{index}"].reshape(-1), repeated)
    return columns


def _walk(data: bytes, position: int, element: Element) -> tuple[dict[str, Column], int]:
    """One table row by row, since its lists differ in length, and where it ends."""
    layout = [(np.dtype(p.length_dtype) if p.length_dtype else None, np.dtype(p.dtype)) for p in element.properties]
    pieces: list[list[bytes]] = [[] for _ in layout]
    lengths: list[list[int]] = [[] for _ in layout]
    for _ in range(element.rows):
        for index, (length_dtype, dtype) in enumerate(layout):
            count = 1
            if length_dtype is not None:
                count = _length_at(data, position, length_dtype.str, element)
                position += length_dtype.itemsize
                lengths[index].append(count)
            end = position + count * dtype.itemsize
            refuse_short(name_of(element), end, len(data))
            pieces[index].append(data[position:end])
            position = end
    columns: dict[str, Column] = {}
    for index, prop in enumerate(element.properties):
        items = np.frombuffer(b"".join(pieces[index]), prop.dtype)
        columns[prop.name] = column_of(items, lengths[index] if prop.length_dtype else None)
    return columns, position
