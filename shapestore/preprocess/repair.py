"""Repair: everything of a store that is damaged is made what was committed, or exactly the rows that are lost go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from shapestore.errors import StoreDamaged, UsageError
from shapestore.preprocess.compute import Gate, Job, compute_row
from shapestore.preprocess.history import describe_run
from shapestore.preprocess.interrupts import interrupts
from shapestore.preprocess.job import remove_unfinished
from shapestore.preprocess.origin import Origin
from shapestore.preprocess.plan import Plan, PlannedItem
from shapestore.preprocess.repair_index import IndexSource, NotToBeHad
from shapestore.preprocess.repair_run import Done, Mended, RepairRun
from shapestore.preprocess.repair_shards import mend_shards
from shapestore.preprocess.workers import Workers, run_all
from shapestore.store.entries import RowEntry
from shapestore.store.inspect import DamagedChunk, damaged_chunks, damaged_nodes
from shapestore.store.layout import PROVENANCE, work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.restore import restore
from shapestore.store.root import Root, node_bytes, read_root
from shapestore.store.transaction import is_pending, recover
from shapestore.store.writer import StoreWriter


def repair(
    path: Path,
    raw: Path | None,
    workers: Callable[[], Workers],
    report: Callable[[int, int], None],
    gate: Callable[[Root], Gate],
    *,
    dry_run: bool = False,
    accept_loss: bool = False,
) -> list[Mended]:
    """Find everything that is damaged in a store, and mend it.

    What was committed is put back to the byte where it can be proven: metadata from the root, index arrays and shards
    from one another and from what is left of them, rows from their source if that is unchanged. A row that is not to be
    had any more is quarantined with `Reason.LOST`. Killed, the same call goes on.

    Parameters
    ----------
    path
        The store.
    raw
        Root of the raw files; None: the recorded one.
    workers
        Makes the workers to run on.
    report
        Called with the number of finished row groups or rows, and of all.
    gate
        Makes the gate that a record must pass in a store.
    dry_run
        Change nothing, and compute nothing from the source; only say what would be done.
    accept_loss
        Quarantine damaged rows even where there is no folder of raw files at all.

    Returns
    -------
    list[Mended]
        Every damaged file; none if the store is whole.

    Raises
    ------
    NotAStore, StoreDamaged
        There is no root, or it is damaged: nothing else says what was committed.
    StoreLocked
        Another process writes to the store.
    UsageError
        A commit is unfinished, in a dry run.
    StoppedEarly
        Interrupted.
    """
    read_root(path)  # a path that is no store must not get a lock folder beside it
    if dry_run and is_pending(path):
        raise UsageError(
            f"{path} has a commit that was not finished, and repair begins with that. Run without --dry-run."
        )
    with nullcontext() if dry_run else WriterLock(path), interrupts() as interrupted, workers() as running:
        if not dry_run:
            recover(path)
        run = RepairRun(path, raw, running, interrupted, report, gate, dry_run, accept_loss)
        unfinished = _unfinished_repair(run)
        _mend_metadata(run)
        whole = _mend_index(run)
        if unfinished is not None and not dry_run:
            _go_on(run, unfinished, whole)
        mend_shards(run, whole)
        if not dry_run:
            _log(run)
            recover(path)  # drops what was staged
        return run.found


def _unfinished_repair(run: RepairRun) -> Plan | None:
    """The plan of an interrupted repair; one that is damaged, or of another store, is dropped."""
    try:
        plan = Plan.load(work_folder(run.path))
    except StoreDamaged as error:
        run.drop_plan(str(error))
        return None
    if plan is None:
        return None
    try:
        fits = plan.fits(run.store().index("shape_id").tolist())
    except StoreDamaged:
        fits = True  # not to be told before it is mended
    if plan.recipe_digest != run.root.recipe_digest or not fits:
        run.drop_plan("it is the plan of another store")
        return None
    run.ingest_unfinished = plan.mode != "repair"
    return None if run.ingest_unfinished else plan


def _go_on(run: RepairRun, plan: Plan, whole: bool) -> None:
    if not whole or isinstance(run.origin, str):
        remove_unfinished(work_folder(run.path))  # what it was to mend is looked for once more
        return
    run.carry_out(plan, run.origin)


def _mend_metadata(run: RepairRun) -> None:
    members = run.root.members()
    for damage in list(damaged_nodes(run.path, run.root)):
        if not run.dry:
            restore(run.path, {damage.file: node_bytes(members[damage.path])})
        run.say(damage.file, (), damage.problem, "rewritten")


def _mend_index(run: RepairRun) -> bool:
    """Mend index arrays, one after another as they follow from each other; returns whether all are whole now."""
    left = list(damaged_chunks(run.path, run.root))
    reasons: dict[str, str] = {}
    while left:
        source = IndexSource(run.store(), lambda: run.origin, partial(_compute, run))
        mended = [damage for damage in left if _mend_chunk(run, source, damage, reasons)]
        left = [damage for damage in left if damage not in mended]
        if not mended or run.dry:
            break
    for damage in left:
        note = f"{reasons[damage.file]}. A copy of this one file is enough"
        run.say(damage.file, damage.values, damage.problem, "refused", note)
    return not left


def _mend_chunk(run: RepairRun, source: IndexSource, damage: DamagedChunk, reasons: dict[str, str]) -> bool:
    done: Done = "reset" if damage.column.path.startswith(PROVENANCE) else "restored"
    note = "its values are lost; they are no part of the data" if done == "reset" else ""
    try:
        values = source.values(damage)
    except NotToBeHad as reason:
        reasons[damage.file] = str(reason)
        return False
    except _ToBeComputed:
        note = "from its source, if that is unchanged"
    else:
        if not run.dry:
            restore(run.path, {damage.file: damage.column.encode(values)})
    run.say(damage.file, damage.values, damage.problem, done, note)
    return True


def _compute(run: RepairRun, planned: Sequence[PlannedItem]) -> list[RowEntry]:
    """Compute rows for what is kept of them beside their arrays."""
    if run.dry:
        raise _ToBeComputed
    assert isinstance(run.origin, Origin), "asked for rows without a source"  # noqa: S101
    job = run.origin.job
    tasks = (((each.row,), _entry_of_row, (job, each)) for each in planned)
    entries = []
    for _, entry in run_all(run.workers, tasks, run.interrupted):
        entries.append(entry)
        run.report(len(entries), len(planned))
    return entries


def _log(run: RepairRun) -> None:
    """Keep that there was a repair, where no commit of rows has done so."""
    if run.committed or all(each.done == "refused" for each in run.found):
        return
    writer = StoreWriter.open(run.path)
    writer.log_run(describe_run("repair", run.workers.slots) | {"rows": 0, "seconds": 0.0})
    writer.commit(writer.root, [])


class _ToBeComputed(Exception):
    """A dry run would have to compute rows."""


def _entry_of_row(job: Job, planned: PlannedItem) -> RowEntry:
    return compute_row(job, planned)[0]
