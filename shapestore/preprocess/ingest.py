"""Ingest: from a folder of raw files to a plan against what the store holds, and the job that carries it out."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapestore.errors import (
    InputRefused,
    NotAStore,
    Problem,
    StoreChanged,
    StoreDamaged,
    UsageError,
    WorkMismatch,
)
from shapestore.preprocess.compute import Gate, Job, compute_row, no_gate
from shapestore.preprocess.fingerprint import Fingerprint, fingerprint, source_sha256
from shapestore.preprocess.interrupts import interrupts
from shapestore.preprocess.job import Coordinator, Progress
from shapestore.preprocess.plan import Plan, PlannedItem, rows_from, sorted_items
from shapestore.preprocess.source import Discovery, Source, SourceItem, load_source, raw_path
from shapestore.preprocess.workers import Workers
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import BUILT_IN, load_recipe, recipe_difference
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.reader import Store
from shapestore.store.recovered import open_recovered
from shapestore.store.root import read_root
from shapestore.store.transaction import recover
from shapestore.store.writer import StoreWriter

PROBES = 3
"""Items that a dry run computes, to say how long the rest will take."""

WORKER_BASE_BYTES = 450 * 2**20
"""Resident memory of a worker that has loaded all libraries, measured."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    source_kind: str
    raw: Path
    store: Path
    recipe: str | None = None
    """Built-in recipe or YAML file; None: the stored recipe, or the source's own for a new store."""
    settings: tuple[str, ...] = ()
    """`key=value` changes to the recipe."""
    retry: bool = False
    """Compute quarantined rows once more."""
    rebuild: bool = False
    """Compute rows once more whose raw file has changed."""
    verify_sources: bool = False
    """Hash every source, also those of unchanged size and time."""
    most_failures: str | None = None
    """Count, or share such as `5%`, of failing items after which the job stops."""


@dataclass(frozen=True)
class Work:
    """What there is to do, in the order in which it is done."""

    recipe: Recipe
    discovery: Discovery
    commit: str | None
    """Commit of the store that this was worked out for; None for a new store."""
    known: int
    """Items that the store has already."""
    unfinished: Plan | None
    """The plan of an interrupted run, which comes first."""
    retried: tuple[PlannedItem, ...]
    """Rows to compute once more: quarantined ones, and those of changed files."""
    added: tuple[SourceItem, ...]
    """New items, sorted."""

    @property
    def rows(self) -> int:
        """Rows to compute."""
        return len(self.unfinished.items if self.unfinished else ()) + len(self.retried) + len(self.added)


@dataclass(frozen=True)
class Estimate:
    """What the work will cost."""

    disk_bytes: int
    """Bytes of the new rows, uncompressed."""
    free_bytes: int
    """Free space where the store lies."""
    worker_bytes: int
    """Resident memory of one worker."""
    seconds_per_row: float | None
    """Measured on a few items; None where none could be computed."""
    remarks: tuple[str, ...]
    """What the trial found, such as an item that would be quarantined."""


def prepare(request: Request, source: Source | None = None) -> Work:
    """Compare the raw folder with the store, and say what is to be done.

    Raises
    ------
    UsageError
        The raw folder, the recipe or the source kind does not fit.
    WorkMismatch
        The store was made with another recipe, or from files that have changed since; says what differs.
    """
    source = source or load_source(request.source_kind)
    _limit(request.most_failures, 0)  # a nonsensical one is refused before anything begins
    if not request.raw.exists():
        raise UsageError(f"{request.raw} does not exist. Name the folder that holds the raw files.")
    stored = _stored(request.store)
    recipe = _recipe(request, source, stored)
    discovery = source.discover(request.raw, recipe)
    items = sorted_items(discovery)
    unfinished = Plan.load(work_folder(request.store))
    if unfinished is not None and unfinished.recipe_digest != recipe.digest:
        raise WorkMismatch(
            f"{work_folder(request.store)} holds an unfinished ingest with another recipe. Finish it with the command "
            "that began it, or delete that folder."
        )
    rows = {} if stored is None else {i: row for row, i in enumerate(stored.index("shape_id").tolist())}
    found = {item.shape_id for item in items}
    if unfinished is not None and not (unfinished.fits(list(rows)) and found & unfinished.shape_ids):
        raise StoreDamaged(
            f"{work_folder(request.store)} holds the plan of another store. Drop it with: shapestore repair "
            f"{request.store}"
        )
    planned = unfinished.shape_ids if unfinished else frozenset()
    present = [item for item in items if item.shape_id in rows]
    again: list[SourceItem] = []
    if stored is not None and unfinished is None:
        changed = _changed_sources(request, stored, present, rows)
        if changed and not request.rebuild:
            _refuse_changed(request, stored, changed)
        again = [item for item, _ in changed]
        if request.retry:
            empty = ~stored.index("valid")
            again += [item for item in present if empty[rows[item.shape_id]]]
    retried = tuple(sorted((PlannedItem(rows[item.shape_id], item) for item in again), key=lambda each: each.row))
    added = tuple(item for item in items if item.shape_id not in rows and item.shape_id not in planned)
    commit = None if stored is None else stored.root.sha256
    return Work(recipe, discovery, commit, len(present), unfinished, retried, added)


def estimate(request: Request, work: Work, gate: Gate = no_gate) -> Estimate:
    """Compute a few of the items without keeping them, and work out what all of them cost."""
    schema = schema_of(work.recipe)
    row_bytes = sum(spec.row_bytes for spec in schema.arrays)
    folder = next(parent for parent in (request.store, *request.store.absolute().parents) if parent.exists())
    items = work.unfinished.items if work.unfinished else (*work.retried, *rows_from(0, work.added))
    chosen = sorted({0, len(items) // 2, len(items) - 1})[:PROBES] if items else []
    job = _job(request, work.recipe, schema, schema.rows_per_shard(), gate)
    seconds, remarks = [], []
    for position in chosen:
        started = time.perf_counter()
        entry, _ = compute_row(job, items[position])
        if entry.failure is None:
            seconds.append(time.perf_counter() - started)
        else:
            failure = entry.failure
            remarks.append(f"{entry.shape_id} would be quarantined: {failure.reason}: {failure.message}")
    return Estimate(
        disk_bytes=row_bytes * work.rows,
        free_bytes=shutil.disk_usage(folder).free,
        worker_bytes=WORKER_BASE_BYTES + 3 * row_bytes,
        seconds_per_row=float(np.median(seconds)) if seconds else None,
        remarks=tuple(remarks),
    )


def run(
    request: Request,
    work: Work,
    workers: Callable[[], Workers],
    report: Callable[[Progress], None],
    gate: Gate = no_gate,
) -> Progress | None:
    """Carry out the work; returns what was done, or None where there was nothing to do.

    A record that `gate` finds fault with is quarantined.

    Raises
    ------
    StoreLocked
        Another process writes to the store.
    StoppedEarly
        Interrupted, or too many failures.
    """
    with WriterLock(request.store), interrupts() as interrupted, ExitStack() as stack:
        if work.commit != _commit(request.store):
            raise StoreChanged(f"{request.store} was changed by another writer just now. Run the command again.")
        writer = _writer(request, work.recipe)
        job = _job(request, work.recipe, writer.root.content, writer.root.rows_per_shard, gate)
        started: Workers | None = None
        done: list[Progress] = []
        for plan in _plans(request, writer, work):
            started = started or stack.enter_context(workers())
            most = _limit(request.most_failures, len(plan.items))
            done.append(Coordinator(writer, job, plan, started, most, interrupted, report).run())
    return Progress.sum(done) if done else None


def _plans(request: Request, writer: StoreWriter, work: Work) -> Iterator[Plan]:
    """The plans to carry out, each saved before its work begins: what was begun, what failed, what is new."""
    rows_per_shard, digest, folder = writer.root.rows_per_shard, work.recipe.digest, work_folder(request.store)
    if work.unfinished is not None:
        yield work.unfinished
    if work.retried:
        plan = Plan("rebuild" if request.rebuild else "retry", digest, rows_per_shard, work.retried)
        plan.save(folder)
        yield plan
    if work.added:
        plan = Plan("append", digest, rows_per_shard, rows_from(writer.root.rows, work.added))
        plan.save(folder)
        yield plan


def _commit(store: Path) -> str | None:
    try:
        return read_root(store)[0].sha256
    except NotAStore:
        return None


def _stored(path: Path) -> Store | None:
    try:
        return open_recovered(path)
    except NotAStore:
        if path.exists() and not work_folder(path).exists() and (not path.is_dir() or any(path.iterdir())):
            raise
        return None


def _recipe(request: Request, source: Source, stored: Store | None) -> Recipe:
    """The recipe to work with: it must be the stored one, and fit what the source yields."""
    if stored is not None and request.recipe is None and not request.settings:
        recipe = stored.root.recipe
    else:
        recipe = source.complete(request.raw, load_recipe(request.recipe or source.recipe, request.settings))
    inputs = source.inputs(request.raw)
    if not inputs <= set(recipe.input):
        raise UsageError(
            f"recipe {recipe.name} works on {' or '.join(recipe.input)} inputs, and {request.raw} holds "
            f"{' and '.join(sorted(inputs))} inputs. Choose another with --recipe; made for these are: "
            f"{', '.join(name for name in BUILT_IN if inputs <= set(load_recipe(name).input))}."
        )
    if stored is None:
        return recipe
    root = stored.root
    if root.source_kind != request.source_kind:
        raise WorkMismatch(f"{request.store} was made from source {root.source_kind}, not {request.source_kind}.")
    if root.recipe_digest != recipe.digest:
        raise WorkMismatch(
            "\n".join(
                [
                    f"{request.store} was made with another recipe. What differs:",
                    *(f"  - {problem}" for problem in recipe_difference(root.recipe, recipe)),
                    "Leave out --recipe and --set to go on with the stored one, or ingest into a new path.",
                ]
            )
        )
    return recipe


def _changed_sources(
    request: Request, stored: Store, present: Sequence[SourceItem], rows: Mapping[str, int]
) -> list[tuple[SourceItem, str]]:
    """Items that hold data and whose raw file is not the one that was read, with the file's hash now."""
    sizes, times = stored.index("provenance/source_size"), stored.index("provenance/source_mtime_ns")
    hashes, valid = stored.index("source_sha256"), stored.index("valid")
    looked: dict[str, Fingerprint] = {}
    changed = []
    for item in present:
        row = rows[item.shape_id]
        if not valid[row]:
            continue
        try:
            path = raw_path(request.raw, item)
            found = looked.get(item.path) or looked.setdefault(item.path, fingerprint(path))
            if (sizes[row], times[row]) == found and not request.verify_sources:
                continue
            sha256 = source_sha256(path, found)
        except InputRefused:
            continue  # gone in between: the row keeps what was read
        if sha256 != hashes[row]:
            changed.append((item, sha256))
    return changed


def _refuse_changed(request: Request, stored: Store, changed: Sequence[tuple[SourceItem, str]]) -> None:
    hashes = stored.index("source_sha256")
    problems = [
        Problem(
            item.path, f"sha256 {hashes[stored.row_of(item.shape_id)][:12]}..., as it was read", f"{sha256[:12]}..."
        )
        for item, sha256 in changed[:5]
    ]
    raise WorkMismatch(
        "\n".join(
            [
                f"{len(changed)} raw files have changed since {request.store} was made:",
                *(f"  - {problem}" for problem in problems),
                "Compute their rows again with --rebuild, or bring the files back.",
            ]
        )
    )


def _writer(request: Request, recipe: Recipe) -> StoreWriter:
    recover(request.store)
    try:
        return StoreWriter.open(request.store)
    except NotAStore:
        return StoreWriter.create(request.store, recipe, request.source_kind)


def _job(request: Request, recipe: Recipe, schema: StoreSchema, rows_per_shard: int, gate: Gate) -> Job:
    return Job(
        store=request.store.absolute(),
        work=work_folder(request.store).absolute(),
        raw=request.raw.absolute(),
        source_kind=request.source_kind,
        recipe=recipe,
        schema=schema,
        rows_per_shard=rows_per_shard,
        gate=gate,
    )


def _limit(text: str | None, rows: int) -> float:
    """Largest number of failures to go on with.

    Raises
    ------
    UsageError
        Neither a count nor a share.
    """
    if text is None:
        return math.inf
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100 * rows
        value = float(text)
    except ValueError:
        raise UsageError(f"--max-failures takes a count such as 10 or a share such as 5%, not {text!r}.") from None
    return value * rows if 0 < value < 1 else value
