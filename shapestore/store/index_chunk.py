"""One chunk of an index array, read from disk and compared with what the commit says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shapestore.store.columns import Column
from shapestore.store.regular import read_regular


def read_chunk(file: Path, column: Column, rows: int, digest: str | None) -> NDArray[Any]:
    """The first `rows` values of a chunk.

    Parameters
    ----------
    file, column, rows
        Where the chunk lies, its array, and how many of its values are committed.
    digest
        `Column.digest` of the committed values; None: none was committed, as of provenance.

    Raises
    ------
    ValueError
        The file is lost, is no chunk of this array, or is not the committed one: says which.
    """
    try:
        values = column.decode(read_regular(file, column.most_bytes), rows)
    except OSError as error:
        raise ValueError(error.strerror) from None
    if digest is not None and column.digest(values) != digest:
        raise ValueError("it is not the one that was committed")
    return values


def salvage_chunk(file: Path, column: Column, rows: int, digest: str) -> NDArray[Any] | None:
    """The committed values of a damaged chunk, if what is damaged lies beside them; None if not.

    Most of a chunk is room for rows to come, and its checksum is over all of it; its digest is over the values alone.
    """
    try:
        data = read_regular(file, column.most_bytes)
        values = column.decode_prefix(data, rows)
    except (OSError, ValueError):
        return None
    return values if column.digest(values) == digest else None
