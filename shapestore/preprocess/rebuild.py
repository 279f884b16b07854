"""Rebuild: compute rows once more from their source, say whether the store holds the same, and replace what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shapestore.errors import Reason, UsageError
from shapestore.preprocess import ingest
from shapestore.preprocess.compute import Gate, Job, compute_row
from shapestore.preprocess.history import recorded_root
from shapestore.preprocess.interrupts import interrupts
from shapestore.preprocess.plan import Plan, PlannedItem
from shapestore.preprocess.rebuilt import ArrayChange, Outcome, RebuiltRow, array_changes, judge
from shapestore.preprocess.source import Discovery, load_source
from shapestore.preprocess.workers import Workers, run_all
from shapestore.store.entries import Failure, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.reader import Store, open_store
from shapestore.store.recovered import open_recovered

REPLACED: tuple[Outcome, ...] = ("different", "mended")
"""Outcomes after which a row is replaced; a `failed` one keeps the data that it has."""


def rebuild(
    path: Path,
    shape_ids: Sequence[str] | None,
    raw: Path | None,
    write: bool,
    workers: Callable[[], Workers],
    report: Callable[[int, int], None],
    gate: Callable[[Store], Gate],
) -> list[RebuiltRow]:
    """Compute rows from their source with the stored recipe, and compare them byte by byte with what is stored.

    `split` and split sets are not compared: a row keeps the parts that it was given.

    Parameters
    ----------
    path
        The store.
    shape_ids
        Shapes to compute, quarantined ones too; None: all rows that hold data.
    raw
        Root of the raw files; None: the recorded one.
    write
        Whether rows that differ are replaced, in a commit as of a retried ingest.
    workers
        Makes the workers to run on.
    report
        Called with the number of finished rows and of all.
    gate
        Makes the gate that a record must pass in this store.

    Returns
    -------
    list[RebuiltRow]
        By ascending row.

    Raises
    ------
    UsageError
        A shape is unknown, there is no raw folder, or `write` meets an unfinished ingest.
    StoreDamaged
        A shard of the store is lost or is not the committed one.
    StoreChanged
        A writer is at work, or was killed; with `write` what that one began is finished first.
    StoppedEarly
        Interrupted.
    """
    store = open_recovered(path) if write else open_store(path)
    root = raw_root(store, raw)
    rows = store.rows().tolist() if shape_ids is None else sorted({store.row_of(each) for each in shape_ids})
    unfinished = _unfinished(path, rows) if write else None
    discovery = load_source(store.root.source_kind).discover(root, store.root.recipe)
    job = _job(store, root, gate(store))
    planned, rebuilt = _planned(store, discovery, rows)
    with interrupts() as interrupted, workers() as running:
        for entry, changes in _computed(store, job, planned, running, interrupted):
            rebuilt[entry.row] = judge(store, entry, changes)
            report(len(rebuilt), len(rows))
    differing = {row for row in rebuilt if rebuilt[row].outcome in REPLACED}
    if write:  # also where nothing differs: the lock's folder of a run that was killed at its end goes with the lock
        retried = tuple(each for each in planned if each.row in differing - _rows_of(unfinished))
        work = ingest.Work(store.root.recipe, discovery, store.root.sha256, len(rows), unfinished, retried, ())
        request = ingest.Request(store.root.source_kind, root, path, rebuild=True)
        ingest.run(request, work, workers, lambda progress: report(progress.done, progress.total), job.gate)
        rebuilt |= {row: rebuilt[row].model_copy(update={"written": True}) for row in differing}
    return [rebuilt[row] for row in sorted(rebuilt)]


def raw_root(store: Store, raw: Path | None) -> Path:
    """The root of a store's raw files: the given one, else the recorded one.

    Raises
    ------
    UsageError
        There is none, or it is not there.
    """
    root = raw or recorded_root(store)
    if root is None:
        raise UsageError(f"{store.path} does not say where its raw files lay. Name their folder with --raw.")
    if not root.exists():
        said = f"{root} does not exist" if raw else f"{store.path} was made from {root}, which does not exist here"
        raise UsageError(f"{said}. Name the folder that holds the raw files now with --raw.")
    return root.absolute()


def compare_rows(job: Job, store: Store, planned: Sequence[PlannedItem]) -> list[tuple[RowEntry, list[ArrayChange]]]:
    """What a worker does: compute some rows, and compare the arrays of those that hold data."""
    compared = []
    for each in planned:
        entry, record = compute_row(job, each)
        changes = []
        if record is not None and store.index("valid")[each.row]:
            changes = list(array_changes(store, each.row, record))
        compared.append((entry, changes))
    return compared


def _unfinished(path: Path, rows: Sequence[int]) -> Plan | None:
    """The plan of an interrupted `rebuild --write` of some of these rows, which is gone on with."""
    plan = Plan.load(work_folder(path))
    if plan is not None and (plan.mode != "rebuild" or not _rows_of(plan) <= set(rows)):
        raise UsageError(f"{path} has an unfinished ingest. Finish it first: run the same ingest command again.")
    return plan


def _rows_of(plan: Plan | None) -> set[int]:
    return {each.row for each in plan.items} if plan else set()


def _job(store: Store, root: Path, gate: Gate) -> Job:
    return Job(
        store=store.path.absolute(),
        work=work_folder(store.path).absolute(),
        raw=root,
        source_kind=store.root.source_kind,
        recipe=store.root.recipe,
        schema=store.root.content,
        rows_per_shard=store.root.rows_per_shard,
        gate=gate,
    )


def _planned(
    store: Store, discovery: Discovery, rows: Sequence[int]
) -> tuple[tuple[PlannedItem, ...], dict[int, RebuiltRow]]:
    """The rows that have a source, and what is to be said of those that have none."""
    shape_ids, sources = store.index("shape_id"), store.index("source")
    items = {item.shape_id: item for item in discovery.items}
    lost = {
        row: RebuiltRow(
            row=row,
            shape_id=shape_ids[row],
            outcome="failed",
            source_changed=True,
            failure=Failure(reason=Reason.MISSING, message=f"{sources[row]} is no longer found in the raw folder"),
        )
        for row in rows
        if shape_ids[row] not in items
    }
    return tuple(PlannedItem(row, items[shape_ids[row]]) for row in rows if row not in lost), lost


def _computed(
    store: Store, job: Job, planned: tuple[PlannedItem, ...], workers: Workers, interrupted: Callable[[], bool]
) -> Iterator[tuple[RowEntry, list[ArrayChange]]]:
    """Every row with what differs in its arrays, as they come."""
    pieces = Plan("rebuild", store.root.recipe_digest, job.rows_per_shard, planned).parts()
    tasks = (((number,), compare_rows, (job, store, piece)) for number, (_, piece) in enumerate(pieces))
    for _, compared in run_all(workers, tasks, interrupted):
        yield from compared
