"""The shards of a store: put back, computed once more, or their lost rows quarantined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.origin import Origin
from shapestore.preprocess.plan import LARGEST_PART, Plan, PlannedItem
from shapestore.preprocess.repair_rows import DamagedShard, examine, plan_of, planned_rows, prove
from shapestore.preprocess.repair_run import RepairRun
from shapestore.preprocess.workers import run_all
from shapestore.store.inspect import readable
from shapestore.store.layout import INTEGRITY, work_folder
from shapestore.store.restore import clear_way

MOST_DOUBTFUL = LARGEST_PART
"""Rows of a shard that are computed in one task to prove the others; where there are more, all are computed."""

INDEX_FIRST = "index arrays that are damaged come first"

SHARD_DIGESTS = f"{INTEGRITY}/sha256"


def mend_shards(run: RepairRun, whole: bool) -> None:
    """Put back what can be proven, have lost rows computed, and look once more at what was done."""
    if not readable(run.store(), ["valid", *(column.path for column in run.root.integrity_columns)]):
        run.say("", range(run.root.rows), "the shards were not looked at", "refused", INDEX_FIRST)
        return
    shards = _examine(run, range(run.root.row_groups), mend=not run.dry)
    for shard in shards:
        if not shard.lost:
            run.say(shard.file, shard.rows, shard.problem, "salvaged")
    lost = [shard for shard in shards if shard.lost]
    if not lost:
        return
    reason = run.origin if isinstance(run.origin, str) else ""
    if not whole:
        reason = INDEX_FIRST
    if reason:
        for shard in lost:
            run.say(shard.file, shard.lost, shard.problem, "refused", reason)
        return
    assert isinstance(run.origin, Origin), "a text is a reason"  # noqa: S101
    lost = _prove(run, lost, run.origin)
    if not lost:
        return
    store = run.store()
    if run.dry and not readable(store, run.root.column_lengths):
        for shard in lost:
            run.say(shard.file, shard.lost, shard.problem, "recomputed", "where the source is unchanged")
        return
    plan = plan_of(store, run.origin, lost)
    if run.dry:
        _foretell(run, lost, plan)
        return
    if run.ingest_unfinished:
        run.drop_plan("the ingest could not go on over damaged rows")
    before = store.index(SHARD_DIGESTS)
    for shard in lost:
        clear_way(run.path, shard.file)
    if plan.items:
        plan.save(work_folder(run.path))
        run.carry_out(plan, run.origin)
    _judge(run, lost, plan, before)


def _prove(run: RepairRun, shards: Sequence[DamagedShard], origin: Origin) -> list[DamagedShard]:
    """Where a few rows stop a shard from being proven, compute those; returns what is lost all the same."""
    few = [] if run.dry else [shard for shard in shards if 0 < len(shard.doubtful) <= MOST_DOUBTFUL]
    store = run.store()
    rows = {shard.file: planned_rows(store, origin, dict.fromkeys(shard.doubtful, shard.file)) for shard in few}
    tasks = (((shard.file,), prove, (run.path.absolute(), origin.job, shard, rows[shard.file])) for shard in few)
    proven = {file: shard for (file,), shard in run_all(run.workers, tasks, run.interrupted)}
    for shard in few:
        if not proven[shard.file].lost:
            run.say(shard.file, shard.doubtful, shard.problem, "recomputed")
    return [shard for shard in (proven.get(each.file, each) for each in shards) if shard.lost]


def _examine(run: RepairRun, groups: Iterable[int], mend: bool) -> list[DamagedShard]:
    groups = list(groups)
    tasks = (((group,), examine, (run.path.absolute(), run.root.sha256, group, mend)) for group in groups)
    found = {}
    for (group,), shards in run_all(run.workers, tasks, run.interrupted):
        found[group] = shards
        run.report(len(found), len(groups))
    return [shard for group in sorted(found) for shard in found[group]]


def _foretell(run: RepairRun, lost: Sequence[DamagedShard], plan: Plan) -> None:
    gone = {each.row for each in plan.items if not _is_unchanged(run, each)}
    for shard in lost:
        _say_rows(run, shard, gone & set(shard.lost), "")


def _is_unchanged(run: RepairRun, planned: PlannedItem) -> bool:
    assert planned.damaged is not None and isinstance(run.origin, Origin)  # noqa: PT018, S101
    return planned.damaged.found and planned.damaged.is_unchanged(run.origin.job.raw, planned.item)


def _judge(run: RepairRun, lost: Sequence[DamagedShard], plan: Plan, before: NDArray[np.uint8]) -> None:
    """Say what has become of damaged shards, by looking at them once more."""
    store = run.store()
    still = {shard.file: shard for shard in _examine(run, sorted({shard.group for shard in lost}), mend=False)}
    empty = set(store.index("quarantine/row").tolist())
    for shard in lost:
        if shard.file in still:
            run.say(shard.file, still[shard.file].lost, shard.problem, "refused", "it could not be written anew")
            continue
        quarantined = {each.row for each in plan.items if each.row in empty}
        changed = (before[shard.group] != store.index(SHARD_DIGESTS)[shard.group]).any(axis=1)
        arrays = zip(run.root.content.data_arrays, changed, strict=True)
        otherwise = ", ".join(spec.name for spec, differs in arrays if differs)
        note = ""
        if otherwise and not quarantined & set(shard.group_rows):
            note = f"computed otherwise than before ({otherwise}), so whole rows were replaced"
        _say_rows(run, shard, quarantined & set(shard.lost), note)


def _say_rows(run: RepairRun, shard: DamagedShard, quarantined: set[int], note: str) -> None:
    if computed := [row for row in shard.lost if row not in quarantined]:
        run.say(shard.file, computed, shard.problem, "recomputed", note)
    if quarantined:
        remedy = "bring their sources back, and ingest with --retry"
        run.say(shard.file, sorted(quarantined), shard.problem, "quarantined", remedy)
