"""Structure: whether metadata, index arrays and counts agree with the commit, whatever the shards hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np

from shapestore.errors import StoreDamaged
from shapestore.quality.finding import Finding
from shapestore.store.layout import INTEGRITY
from shapestore.store.reader import Store

ABOUT = "Metadata, index arrays, counts and ids agree with the commit."

REMEDY = "Bring the file back from a copy, or ingest into a new path."


def check_structure(store: Store) -> Iterator[Finding]:
    """Everything that is wrong outside the shards."""
    yield from _metadata(store)
    damaged = list(_index_arrays(store))
    yield from damaged
    if not damaged:
        yield from _counts(store)
        yield from _ids(store)


def _metadata(store: Store) -> Iterator[Finding]:
    """Every node's own metadata is what the root says of it."""
    for path, expected in store.root.members().items():
        file = store.path / path / "zarr.json"
        try:
            found = json.loads(file.read_bytes())
        except FileNotFoundError:
            yield _error(str(file), "the metadata file is missing")
        except (OSError, ValueError) as error:
            yield _error(str(file), f"the metadata file cannot be read: {error}")
        else:
            if found != expected:
                yield _error(str(file), "the metadata differs from what the root says")


def _index_arrays(store: Store) -> Iterator[Finding]:
    """Every index array can be read and is the one that was committed."""
    for column, _ in store.root.lengths():
        try:
            store.index(column.path)
        except StoreDamaged as error:
            yield _error(column.path, str(error))


def _counts(store: Store) -> Iterator[Finding]:
    """The counts in the root are those of the rows."""
    root = store.root
    valid = store.index("valid")
    if int(valid.sum()) != root.valid:
        yield _error("valid", f"{int(valid.sum())} rows hold data, the root says {root.valid}")
    empty = np.flatnonzero(~valid)
    if not np.array_equal(empty, store.index("quarantine/row")):
        yield _error("quarantine/row", "the quarantined rows are not the empty ones")
    if root.rows != root.valid + root.quarantined:
        yield _error("zarr.json", f"{root.valid} valid and {root.quarantined} quarantined rows are not {root.rows}")
    for name, names in root.codes.items():
        codes = store.index(name)
        if len(codes) and (codes.min() < -1 or codes.max() >= len(names)):
            yield _error(name, f"codes {codes.min()} to {codes.max()}, of which {len(names)} are declared")
    for column in root.integrity_columns:
        if len(store.index(column.path)) != root.row_groups:
            yield _error(column.path, f"expected {root.row_groups} row groups")
    if root.row_groups and not root.integrity:
        yield _error(INTEGRITY, "the root has no digest of it")


def _ids(store: Store) -> Iterator[Finding]:
    """Every shape has an id of its own."""
    counts = Counter(store.index("shape_id").tolist())
    for shape_id, count in counts.items():
        if count > 1:
            yield _error(shape_id, f"{count} rows have this id")


def _error(place: str, message: str) -> Finding:
    return Finding(severity="error", check="structure", message=message, place=place, remedy=REMEDY)
