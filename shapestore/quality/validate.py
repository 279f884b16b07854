"""Validate: everything that is wrong with a store, found row group by row group on the same workers as ingest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from shapestore.preprocess.workers import Workers, run_all
from shapestore.quality.finding import Finding
from shapestore.quality.rows import check_group
from shapestore.quality.structure import check_structure
from shapestore.schemas.base import Strict
from shapestore.store.reader import Store, open_store

Level = Literal["metadata", "sample", "full"]

SAMPLE_ROWS = 460
"""Rows of a sample: if one row in a hundred were bad, 99 samples in a hundred would show it (0.99^460 < 0.01)."""

SAMPLE_SEED = 0


class Validation(Strict):
    """What a validation found."""

    store: str
    level: Level
    commit: str
    """Identity of the commit that was validated."""
    rows: int
    """Valid rows of the store."""
    checked: int
    """Rows whose values were checked."""
    guarantee: str
    """What no finding means."""
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """No finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)


def validate(
    path: Path, level: Level, workers: Callable[[], Workers], report: Callable[[int, int], None]
) -> Validation:
    """Check a store.

    Parameters
    ----------
    path
        The store.
    level
        `metadata`: structure and index arrays. `sample`: also the identity of every shard, and the checksums and rules
        of some rows. `full`: those of all rows.
    workers
        Makes the workers to run on; not called for `metadata`.
    report
        Called with the number of finished row groups and of all.
    """
    store = open_store(path)
    findings = list(check_structure(store))
    chosen = _chosen(store, level)
    if level != "metadata" and not findings:
        with workers() as running:
            findings += _all_groups(store, level, chosen, running, report)
    return Validation(
        store=str(path),
        level=level,
        commit=store.root.sha256,
        rows=len(store),
        checked=len(chosen),
        guarantee=_guarantee(store, level, len(chosen)),
        findings=tuple(findings),
    )


def _chosen(store: Store, level: Level) -> set[int]:
    if level == "metadata" or not len(store):
        return set()
    rows = store.rows()
    if level == "full" or len(rows) <= SAMPLE_ROWS:
        return set(rows.tolist())
    return set(np.random.default_rng(SAMPLE_SEED).choice(rows, SAMPLE_ROWS, replace=False).tolist())


def _all_groups(
    store: Store, level: Level, chosen: set[int], workers: Workers, report: Callable[[int, int], None]
) -> list[Finding]:
    root = store.root

    def arguments(group: int) -> tuple[Path, int, list[int], bool]:
        first = group * root.rows_per_shard
        rows = [row for row in range(first, first + root.group_rows(group)) if row in chosen]
        return store.path.absolute(), group, rows, level == "full"

    tasks = (((group,), check_group, arguments(group)) for group in range(root.row_groups))
    found: dict[int, list[Finding]] = {}
    for (group,), findings in run_all(workers, tasks):
        found[group] = findings
        report(len(found), root.row_groups)
    return [finding for group in sorted(found) for finding in found[group]]


def _guarantee(store: Store, level: Level, checked: int) -> str:
    if level == "metadata":
        return "metadata and index arrays are whole; no shard was looked at"
    if checked == len(store):
        return "every shard is the committed one, and every row matches its checksums and keeps every rule"
    share = 1 - 0.01 ** (1 / checked)
    return f"every shard is the committed one; with 99 % confidence fewer than {share:.1%} of rows break a rule"
