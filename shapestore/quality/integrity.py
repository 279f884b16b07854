"""Integrity: whether every shard is the committed one, and every row matches its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shapestore.errors import StoreDamaged
from shapestore.quality.finding import Finding
from shapestore.quality.measuring import committed_store
from shapestore.store.reader import Store
from shapestore.store.rowcodec import checksum_holds

ABOUT = "Every shard is there, of the committed size and digest, and every row that is read matches its checksum."

REMEDY = "Bring the file back from a copy, or ingest into a new path."


@dataclass(frozen=True)
class Integrity:
    """What became of one row group."""

    findings: tuple[Finding, ...]
    damaged: frozenset[int]
    """Rows that cannot be read whole."""


def check_group(path: Path, commit: str, group: int, deep: bool) -> Integrity:
    """Compare the shards of one row group with what the commit says of them.

    Parameters
    ----------
    path, commit, group
        The store, the commit that is validated, and the number of the row group.
    deep
        Also compare every row with its checksum, empty ones included: reads every byte once. Otherwise only sizes,
        indices and digests over the rows' checksums are compared, which reads a few bytes a row.
    """
    store = committed_store(path, commit, "off")
    first, rows = group * store.root.rows_per_shard, store.root.group_rows(group)
    findings, damaged = [], set[int]()
    for finding, slots in _problems(store, group, rows, deep):
        findings.append(finding)
        damaged.update(range(first, first + rows) if slots is None else (first + slot for slot in slots))
    return Integrity(tuple(findings), frozenset(damaged))


def _problems(store: Store, group: int, rows: int, deep: bool) -> Iterator[tuple[Finding, list[int] | None]]:
    """Findings, each with the slots of the group that it concerns; None: all."""
    first = group * store.root.rows_per_shard
    shape_ids = store.index("shape_id")
    for spec in store.root.content.data_arrays:
        try:
            shard = store.shard(spec.name, group)
        except StoreDamaged as error:
            yield _finding(str(error), spec.name), None
            continue
        for slot in range(rows if deep else 0):
            if not checksum_holds(shard.chunk(slot)):
                row = first + slot
                message = f"{shard.path}: row {row} does not match its checksum"
                finding = _finding(message, spec.name)
                yield finding.model_copy(update={"row": row, "shape_id": str(shape_ids[row])}), [slot]


def _finding(message: str, array: str) -> Finding:
    return Finding(severity="error", check="integrity", message=message, place=array, remedy=REMEDY)
