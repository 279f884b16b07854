"""Rows of a store as plain values, for people and programs to look through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.store.reader import Store


def conditions(texts: Iterable[str]) -> dict[str, list[str]]:
    """`name=value` texts as conditions for `Store.rows`; a name given twice takes either value.

    Raises
    ------
    UsageError
        A text is not of that form.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"expected name=value such as split=train, got {text!r}.")
        found.setdefault(name, []).append(value)
    return found


def listing(store: Store, rows: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
    """Every index array's value of some rows; names in the place of codes."""
    rows = np.asarray(rows, np.int64)
    columns = {column.path: _named(store, column.path, rows) for column in store.root.row_columns}
    return [
        {"row": int(row), **{name: values[position] for name, values in columns.items()}}
        for position, row in enumerate(rows.tolist())
    ]


def _named(store: Store, name: str, rows: NDArray[np.int64]) -> list[Any]:
    values: list[Any] = store.index(name)[rows].tolist()
    if name not in store.root.codes:
        return values
    names = (*store.root.codes[name], "")
    return [names[code] for code in values]
