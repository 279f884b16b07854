"""Rows: whether shards are the committed ones, rows match their checksums, and their values keep the schema's rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import StoreDamaged
from shapestore.quality.finding import Finding
from shapestore.store.reader import Store, open_store
from shapestore.store.rowcodec import checksum_holds

BATCH_BYTES = 64 * 2**20
"""Values that are in memory at once."""


def check_group(path: Path, group: int, rows: Sequence[int], deep: bool) -> list[Finding]:
    """Check the shards of one row group.

    Parameters
    ----------
    path, group
        The store, and the number of the row group.
    rows
        Rows of the group whose values are checked against the rules.
    deep
        Also compare every row of the group with its checksum, empty ones included.
    """
    store = _store(path)
    findings = list(_shards(store, group, deep))
    if not findings:
        findings += _rules(store, rows)
    return findings


def _shards(store: Store, group: int, deep: bool) -> Iterator[Finding]:
    first = group * store.root.rows_per_shard
    remedy = "Bring the file back from a copy, or ingest into a new path."
    for spec in store.root.content.data_arrays:
        try:
            shard = store.shard(spec.name, group)
        except StoreDamaged as error:
            yield Finding(severity="error", check="integrity", place=spec.name, message=str(error), remedy=remedy)
            continue
        for slot in range(store.root.group_rows(group) if deep else 0):
            if not checksum_holds(shard.chunk(slot)):
                place, message = (
                    f"{spec.name}, row {first + slot}",
                    f"{shard.path}: the row does not match its checksum",
                )
                yield Finding(severity="error", check="checksum", place=place, message=message, remedy=remedy)


def _rules(store: Store, rows: Sequence[int]) -> Iterator[Finding]:
    """Broken rules of the schema, by the code that the writer checks records with."""
    schema = store.root.content
    row_bytes = max(1, sum(spec.row_bytes for spec in schema.arrays))
    size = max(1, BATCH_BYTES // row_bytes)
    for start in range(0, len(rows), size):
        batch = np.asarray(rows[start : start + size], np.int64)
        try:
            values: dict[str, NDArray[Any]] = store.read(batch, list(schema.by_name))
        except StoreDamaged as error:
            yield Finding(
                severity="error", check="checksum", place=f"rows {batch[0]} to {batch[-1]}", message=str(error)
            )
            continue
        places = [f"{store.index('shape_id')[row]} (row {row})" for row in batch.tolist()]
        for rule in schema.rules:
            for problem in rule.problems(values, places):
                message = f"expected {problem.expected}, got {problem.got}"
                yield Finding(
                    severity="error", check=rule.name, place=problem.place, message=message, remedy=problem.remedy
                )


@lru_cache(maxsize=1)
def _store(path: Path) -> Store:
    return open_store(path, checksums="always")
