"""Validate: everything that is wrong with a store, found on the same workers as ingest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import StoreChanged, UsageError
from shapestore.preprocess.interrupts import interrupts
from shapestore.preprocess.workers import TASKS_PER_SLOT, Workers, run_all
from shapestore.quality.check import Check, Settings, Table
from shapestore.quality.compare import compare_stores
from shapestore.quality.finding import INTEGRITY, Finding, damage, worst_first
from shapestore.quality.integrity import ABOUT as INTEGRITY_ABOUT
from shapestore.quality.integrity import check_group
from shapestore.quality.measuring import BATCH_BYTES, Job, Measured, index_of, measure_rows
from shapestore.quality.moved import moved
from shapestore.quality.registry import installed_checks, settings_of
from shapestore.quality.result import Compared, Level, Validation, outcome_of
from shapestore.quality.structure import ABOUT as STRUCTURE_ABOUT
from shapestore.quality.structure import check_index, check_metadata
from shapestore.quality.summary import row_findings, store_findings, summarise, summarise_built_in, table_of
from shapestore.quality.waivers import Waiver, waive
from shapestore.store.inspect import readable
from shapestore.store.layout import work_folder
from shapestore.store.lock import LOCK
from shapestore.store.reader import Store, open_as_is

SAMPLE_ROWS = 460
"""Rows of a sample: if one row in a hundred were bad, 99 samples in a hundred would show it (0.99^460 < 0.01)."""

SAMPLE_SEED = 0

GLANCES, PAUSE = 10, 0.5
"""How often, and after how many seconds, to look again at a store that a writer is just changing."""

BUILT_IN = ("structure", INTEGRITY)
"""What is looked at beside the installed checks."""

CONFIDENCE = 0.99

_T = TypeVar("_T")


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    level: Level = "sample"
    raw: Path | None = None
    """Root of the raw files, for the checks that read them."""
    budget: float | None = None
    """Seconds that a sample may take; None: `SAMPLE_ROWS` rows."""
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class Examined:
    """A validation, and the numbers that it is made from."""

    validation: Validation
    tables: Mapping[str, Table]
    """What each check measured, by its name."""


@dataclass
class _Found:
    """What has been found so far."""

    findings: list[Finding] = field(default_factory=list)
    groups: int = 0
    """Row groups whose shards were compared with the commit."""
    damaged: set[int] = field(default_factory=set)
    """Rows that cannot be read whole; checks of what is left of them go on."""
    done: Measured = field(default_factory=lambda: Measured(np.zeros(0, np.int64)))

    @property
    def checked(self) -> int:
        """Rows that were read and measured whole."""
        return len(set(self.done.rows.tolist()) - self.damaged)


def validate(
    path: Path, options: Options, workers: Callable[[], Workers], report: Callable[[int, int], None]
) -> Examined:
    """Check a store.

    Parameters
    ----------
    path
        The store.
    options
        The level, and more. `metadata`: structure and index arrays. `sample`: also the identity of every shard, and
        the checksums and checks of some rows. `full`: those of all rows.
    workers
        Makes the workers to run on; not called for `metadata`.
    report
        Called with the number of finished tasks and of all.

    Raises
    ------
    UsageError
        There is no raw folder at `options.raw`, or a budget for a level that takes none.
    RecipeInvalid
        The recipe has thresholds of a check that is not installed.
    StoreChanged
        A writer committed meanwhile.
    StoppedEarly
        Interrupted.
    """
    started = time.monotonic()
    if options.raw is not None and not options.raw.exists():
        raise UsageError(f"{options.raw} does not exist. Name the folder that the store was made from.")
    if options.budget is not None and options.level != "sample":
        raise UsageError(f"a budget is for level sample; level {options.level} takes the time that it takes.")
    store, metadata, index = _opened(path)
    settings = settings_of(store.root.recipe)
    _require_known(options.waivers)
    skipped = _skipped(store, options)
    found = _Found([*metadata, *index])
    promised = readable(store, [column.path for column in store.root.integrity_columns])
    if options.level != "metadata" and promised and store.root.rows:
        names = tuple(name for name, why in skipped.items() if not why)
        with interrupts() as interrupted, workers() as running:
            _check_shards(store, options, running, interrupted, report, found, started)
            if not index:
                _measure(store, options, names, running, interrupted, report, found, started)
    return _judged(store, options, settings, skipped, found, started)


def compare(
    validated: Examined,
    other: Path,
    options: Options,
    workers: Callable[[], Workers],
    report: Callable[[int, int], None],
) -> Validation:
    """The validation, with what changed against another store, which is validated in the same way.

    Waivers, and raw files, are those of the validated store alone.

    Parameters
    ----------
    validated
        What `validate` found.
    other, options, workers, report
        The store to compare with, and as for `validate`.

    Raises
    ------
    StoreDamaged
        The stores cannot be compared: shards are lost, or are not the committed ones.
    """
    mine = validated.validation
    theirs = validate(other, replace(options, raw=None, waivers=()), workers, report)
    compared = Compared(
        outcome=theirs.validation.outcome,
        stores=compare_stores(other, Path(mine.store)),
        moved=moved(validated.tables, theirs.tables),
    )
    return mine.model_copy(update={"compared": compared})


def _opened(path: Path) -> tuple[Store, list[Finding], list[Finding]]:
    """The store, and what is wrong with its metadata and its index; a commit that is being made is waited for."""
    for glance in range(GLANCES):
        if glance:
            time.sleep(PAUSE)
        store = open_as_is(path)
        with suppress(StoreChanged):
            metadata, index = list(check_metadata(store)), list(check_index(store))
            if not (metadata or index) or not (work_folder(path) / LOCK).exists():
                return store, metadata, index
    raise StoreChanged(
        f"{path} is being written to, or its writer was killed in a commit. Let the ingest end, or run the same "
        "command again to finish it; then validate."
    )


def _require_known(waivers: Sequence[Waiver]) -> None:
    known = [*BUILT_IN, *(check.name for check in installed_checks())]
    for waiver in waivers:
        if waiver.check not in known:
            close = get_close_matches(waiver.check, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(known)}."
            raise UsageError(f"a waiver is for the check {waiver.check!r}, which does not exist. {hint}")


def _skipped(store: Store, options: Options) -> dict[str, str]:
    """Every installed check, and why it is not run; empty where it is."""
    root = store.root
    reasons = {}
    for check in installed_checks():
        reason = check.applies(root.content, root.recipe) or ""
        if options.level == "metadata":
            reason = reason or "level metadata looks at no rows"
        if check.scope == "source" and options.raw is None:
            reason = reason or "it reads the raw files: name their folder with --raw"
        reasons[check.name] = reason
    return reasons


def _check_shards(
    store: Store,
    options: Options,
    workers: Workers,
    interrupted: Callable[[], bool],
    report: Callable[[int, int], None],
    found: _Found,
    started: float,
) -> None:
    """Compare shards with the commit: all of them, or as many as half of a budget allows, in any order."""
    groups, deep = np.arange(store.root.row_groups), options.level == "full"
    if options.budget is not None:
        groups = np.random.default_rng(SAMPLE_SEED).permutation(groups)
    half = None if options.budget is None else options.budget / 2
    tasks = (
        ((group,), check_group, (store.path.absolute(), store.root.sha256, group, deep, started))
        for group in groups.tolist()
    )
    results = {}
    for (group,), result in run_all(workers, _until(tasks, started, half, workers.slots), interrupted):
        results[group] = result
        report(len(results), len(groups))
    found.groups = len(results)
    known = readable(store, ["shape_id"])
    shape_ids = store.index("shape_id") if known else np.full(store.root.rows, "", object)
    for group in sorted(results):
        found.findings += [damage(error, shape_ids) for error in results[group]]
        found.damaged.update(row for error in results[group] for row in error.rows or ())


def _until(tasks: Iterable[_T], started: float, seconds: float | None, slots: int) -> Iterator[_T]:
    """Tasks until the time is up, but as many as the workers take at once."""
    for number, task in enumerate(tasks):
        late = seconds is not None and time.monotonic() - started > seconds
        if late and number >= TASKS_PER_SLOT * slots:
            return
        yield task


def _measure(
    store: Store,
    options: Options,
    names: tuple[str, ...],
    workers: Workers,
    interrupted: Callable[[], bool],
    report: Callable[[int, int], None],
    found: _Found,
    started: float,
) -> None:
    """Run the checks on the rows of the level, in pieces that the workers share."""
    pieces = _pieces(store, options, store.rows(), workers.slots)
    # At level full every checksum has been compared; otherwise, and next to damage, rows are compared as they are read.
    job = Job(
        store.path.absolute(),
        store.root.sha256,
        options.raw.absolute() if options.raw else None,
        "off" if options.level == "full" and not found.damaged else "first",
        names,
        started,
    )

    tasks = (((number,), measure_rows, (job, piece)) for number, piece in enumerate(pieces))
    parts = []
    for _, part in run_all(workers, _until(tasks, started, options.budget, workers.slots), interrupted):
        parts.append(part)
        report(len(parts), len(pieces))
    found.done = Measured.join(parts)
    found.findings = list(dict.fromkeys([*found.findings, *found.done.findings]))
    found.damaged |= found.done.unread


def _pieces(store: Store, options: Options, rows: NDArray[np.int64], slots: int) -> list[list[int]]:
    """The rows to measure, in pieces of neighbours; those of a sample are drawn, each piece a sample of its own."""
    row_bytes = max(1, sum(spec.row_bytes for spec in store.root.content.arrays))
    if options.level == "full":
        size = max(1, min(BATCH_BYTES // row_bytes, -(-len(rows) // (4 * slots))))
        ordered = rows
    else:
        drawn = np.random.default_rng(SAMPLE_SEED).permutation(rows)
        ordered = drawn if options.budget is not None else drawn[:SAMPLE_ROWS]
        size = max(1, min(BATCH_BYTES // row_bytes, -(-min(len(ordered), SAMPLE_ROWS) // (8 * slots))))
    return [sorted(ordered[start : start + size].tolist()) for start in range(0, len(ordered), size)]


def _judged(
    store: Store,
    options: Options,
    settings: dict[str, Settings],
    skipped: dict[str, str],
    found: _Found,
    started: float,
) -> Examined:
    """From numbers to findings, and to what is said of every check."""
    root, done = store.root, found.done
    unlooked = "level metadata looks at no shard" if options.level == "metadata" else ""
    if store.root.rows and not found.groups:
        unlooked = unlooked or "what the shards are to be is damaged"
    index = index_of(store, done.rows) if len(done.rows) else {}
    tables = {}
    findings = list(found.findings)
    for check in _run(skipped) if index else ():
        table = table_of(check, done, root.content, root.recipe, index, len(store))
        if not len(table.rows):
            skipped[check.name] = "of no row could it be measured"
            continue
        tables[check.name] = table
        findings += row_findings(check, table, str(store.path))
        findings += store_findings(check, settings[check.name], table, str(store.path))
    marked, unused = waive(findings, options.waivers)
    marked = tuple(sorted(marked, key=worst_first))
    passed, outcome = outcome_of(marked)
    built_in = (
        summarise_built_in("structure", STRUCTURE_ABOUT, marked, ""),
        summarise_built_in(INTEGRITY, INTEGRITY_ABOUT, marked, unlooked),
    )
    validation = Validation(
        passed=passed,
        outcome=outcome,
        store=str(store.path),
        level=options.level,
        commit=root.sha256,
        recipe=root.recipe_digest,
        rows=len(store),
        checked=found.checked,
        quarantined=root.quarantined,
        seconds=round(time.monotonic() - started, 3),
        guarantee=_guarantee(store, options.level, found),
        checks=built_in
        + tuple(
            summarise(check, settings[check.name], tables.get(check.name), marked, skipped[check.name])
            for check in installed_checks()
        ),
        findings=marked,
        unused_waivers=unused,
    )
    return Examined(validation, tables)


def _run(skipped: dict[str, str]) -> Sequence[Check]:
    return [check for check in installed_checks() if not skipped[check.name]]


def _guarantee(store: Store, level: Level, found: _Found) -> str:
    """What the absence of a finding means."""
    checked = found.checked
    if level == "metadata":
        return "metadata and index arrays are whole; no shard was looked at"
    if not len(store):
        return "there is no row with data"
    if not checked:
        return "no row could be checked"
    if found.damaged:
        return f"{checked:,} of {len(store):,} rows were checked whole; the others are damaged, or were not looked at"
    if level == "full":
        return "every shard is the committed one, every row matches its checksums, and every row was checked"
    groups = found.groups
    compared = f"{groups:,} of {store.root.row_groups:,} row groups are the committed ones"
    shards = "every shard is the committed one" if groups == store.root.row_groups else compared
    if checked == len(store):
        return f"{shards}, and every row was checked"
    share = 1 - (1 - CONFIDENCE) ** (1 / checked)
    return (
        f"{shards}; of a rule that no checked row breaks, with {CONFIDENCE:.0%} confidence fewer than {share:.2%} of "
        "rows break it"
    )
