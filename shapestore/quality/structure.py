"""Structure: whether metadata, index arrays and counts agree with the commit, whatever the shards hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from shapestore.errors import StoreDamaged
from shapestore.quality.finding import Finding
from shapestore.store.inspect import damaged_chunks, damaged_nodes
from shapestore.store.layout import INTEGRITY
from shapestore.store.reader import Store

ABOUT = "Metadata, index arrays, counts and ids agree with the commit."


def check_metadata(store: Store) -> Iterator[Finding]:
    """Every node's own metadata is what the root says of it."""
    for node in damaged_nodes(store.path, store.root):
        yield _error(store, str(store.path / node.file), node.problem)


def check_index(store: Store) -> Iterator[Finding]:
    """Everything that is wrong with index arrays and counts.

    Raises
    ------
    StoreChanged
        A writer committed meanwhile.
    """
    if damaged := list(damaged_chunks(store.path, store.root)):
        _require_same_commit(store)
        for chunk in damaged:
            file = f"{store.path / chunk.file} (values {chunk.values[0]} to {chunk.values[-1]})"
            yield _error(store, chunk.column.path, f"{file} is lost or damaged: {chunk.problem}")
        return
    yield from _counts(store)
    yield from _ids(store)


def _require_same_commit(store: Store) -> None:
    """Chunks that are not the committed ones may be those of a commit that has been made meanwhile.

    Raises
    ------
    StoreChanged
        They are.
    """
    with suppress(StoreDamaged):
        for column, _ in store.root.lengths():
            store.index(column.path)


def _counts(store: Store) -> Iterator[Finding]:
    """The counts in the root are those of the rows."""
    root = store.root
    valid = store.index("valid")
    if int(valid.sum()) != root.valid:
        yield _error(store, "valid", f"{int(valid.sum())} rows hold data, the root says {root.valid}")
    empty = np.flatnonzero(~valid)
    if not np.array_equal(empty, store.index("quarantine/row")):
        yield _error(store, "quarantine/row", "the quarantined rows are not the empty ones")
    if root.rows != root.valid + root.quarantined:
        yield _error(
            store, "zarr.json", f"{root.valid} valid and {root.quarantined} quarantined rows are not {root.rows}"
        )
    for name, names in root.codes.items():
        codes = store.index(name)
        if len(codes) and (codes.min() < -1 or codes.max() >= len(names)):
            yield _error(store, name, f"codes {codes.min()} to {codes.max()}, of which {len(names)} are declared")
    for column in root.integrity_columns:
        if len(store.index(column.path)) != root.row_groups:
            yield _error(store, column.path, f"expected {root.row_groups} row groups")
    if root.row_groups and not root.integrity:
        yield _error(store, INTEGRITY, "the root has no digest of it")


def _ids(store: Store) -> Iterator[Finding]:
    """Every shape has an id of its own."""
    counts = Counter(store.index("shape_id").tolist())
    for shape_id, count in counts.items():
        if count > 1:
            yield _error(store, shape_id, f"{count} rows have this id")


def _error(store: Store, place: str, message: str) -> Finding:
    remedy = f"Mend it with: shapestore repair {store.path}. Bring the file back from a copy where that cannot."
    return Finding(severity="error", check="structure", message=message, place=place, remedy=remedy)
