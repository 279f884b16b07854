"""The coordinator: hands parts to workers, seals finished row groups, commits them, and survives being killed anywhere.

Everything finished is a line in the ledger before it is relied on. A rerun replays the ledger and goes on with the
rest, so that no row is computed twice and the finished store is the same to the byte.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from shapestore.errors import Reason, StoppedEarly
from shapestore.preprocess.compute import Job, compute_part, deadly_entry, rehearse_row
from shapestore.preprocess.history import describe_run, describe_source
from shapestore.preprocess.limits import was_over_time
from shapestore.preprocess.plan import PLAN, Plan, PlannedItem
from shapestore.preprocess.workers import MOST_DEATHS, POLL_SECONDS, TASKS_PER_SLOT, TaskDied, Workers
from shapestore.store.entries import Failure, GroupCommit
from shapestore.store.ledger import Ledger, write_lines
from shapestore.store.part import Part, SealTask, seal, sealed_path
from shapestore.store.shard import ShardEntry
from shapestore.store.steps import reached
from shapestore.store.writer import StoreWriter

LEDGER = "ledger"

NOTES = "running-"
"""How the names of folders begin in which workers note what they are at."""

COMMIT_SECONDS = 10.0
"""Finished row groups become visible to readers after at most this time."""


@dataclass
class Progress:
    """How far a job is."""

    total: int
    """Rows of the plan."""
    done: int = 0
    """Rows that are computed, failed ones included."""
    quarantined: int = 0
    """Rows that failed."""
    resumed: int = 0
    """Rows that an earlier, interrupted run had done."""

    @classmethod
    def sum(cls, parts: Sequence[Progress]) -> Progress:
        """Several jobs as one."""
        return cls(
            total=sum(part.total for part in parts),
            done=sum(part.done for part in parts),
            quarantined=sum(part.quarantined for part in parts),
            resumed=sum(part.resumed for part in parts),
        )

    def summary(self, seconds: float) -> dict[str, Any]:
        """Counts and time so far, for the store's history."""
        return {"rows": self.done - self.resumed, "quarantined": self.quarantined, "seconds": round(seconds, 3)}


@dataclass
class _Group:
    """A row group between its plan and its commit."""

    planned: tuple[PlannedItem, ...]
    missing: int
    """Planned rows that no part has yet."""
    parts: list[Part] = field(default_factory=list)
    shards: Mapping[str, ShardEntry] | None = None
    """Set when it is sealed."""

    def take(self, part: Part) -> None:
        """Count a finished part in."""
        self.parts.append(part)
        self.missing -= len(part.entries)

    def drop_files(self, work: Path) -> None:
        """Delete the part files: their rows are in sealed shards now."""
        for part in self.parts:
            (work / part.file).unlink(missing_ok=True)


_Piece = tuple[int, tuple[PlannedItem, ...]]
"""A row group, and a few of its planned items: one task."""


class Coordinator:
    """Runs one plan to its end. The writer's lock is held by the caller."""

    def __init__(
        self,
        writer: StoreWriter,
        job: Job,
        plan: Plan,
        workers: Workers,
        most_failures: float,
        interrupted: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> None:
        self._writer, self._job, self._plan, self._workers = writer, job, plan, workers
        self._most_failures, self._interrupted, self._report = most_failures, interrupted, report
        self._groups = {group: _Group(items, len(items)) for group, items in plan.groups()}
        self._again: deque[_Piece] = deque()
        self._deaths: Counter[int | None] = Counter()  # by row; None: at no row, since a part was last finished
        self._progress = Progress(len(plan.items))
        self._running = 0
        self._last_commit = self._started = time.monotonic()
        self._run = describe_run(plan.mode, workers.slots) | describe_source(job.source_kind, job.raw)
        items = [each.item for each in plan.items]  # one that is computed again may be of another category by now
        self._root = writer.with_codes(
            {"split": [item.split for item in items], "category": [item.category for item in items]}
        )

    def run(self) -> Progress:
        """Compute, seal and commit everything that is not done yet.

        Raises
        ------
        StoppedEarly
            Interrupted, or more failures than allowed; all that was sealed is committed.
        """
        todo = self._todo(self._replay())
        _remove_notes(self._job.work)
        self._job = replace(self._job, run=self._writer.log_run(self._run_so_far()))
        if self._workers.isolated:
            notes = self._job.work / f"{NOTES}{os.getpid()}"  # a killed run's workers may still write to theirs
            notes.mkdir()
            self._job = replace(self._job, notes=notes)
        with Ledger(self._job.work / LEDGER) as ledger:
            self._report(self._progress)
            for number in list(self._groups):
                self._seal_if_complete(number)
            if (piece := next(todo, None)) is not None:
                self._again.append(piece)
                self._workers.rehearse(self._interrupted, rehearse_row, self._job, piece[1][0])
            try:
                while True:
                    self._submit(todo)
                    self._commit_ready(now=not self._running)
                    if not self._running:
                        break
                    self._take_next(ledger)
                    self._stop_if_asked()
            except (KeyboardInterrupt, StoppedEarly) as stop:
                self._commit_ready(now=True)
                raise stop if isinstance(stop, StoppedEarly) else StoppedEarly(_GO_ON) from None
        remove_unfinished(self._job.work)
        return self._progress

    def _replay(self) -> set[int]:
        """Take over what interrupted runs did, by their ledger; returns the rows that need no more work."""
        parts: dict[int, list[Part]] = defaultdict(list)
        sealed: dict[int, dict[str, ShardEntry]] = {}
        for line in self._ledger_of_plan():
            if "part" in line:
                self._writer.log_run(line["run"])  # one that was killed before its first commit is in no log yet
                part = Part.model_validate(line["part"])
                parts[part.entries[0].row // self._job.rows_per_shard].append(part)
            else:
                sealed[line["group"]] = {name: ShardEntry.model_validate(each) for name, each in line["shards"].items()}
        done: set[int] = set()
        for number, group in list(self._groups.items()):
            if self._is_committed(number, group, sealed.get(number)):
                done.update(each.row for each in group.planned)
                del self._groups[number]
                continue
            group.shards = sealed.get(number)
            for part in parts[number]:
                if group.shards or not part.sizes or (self._job.work / part.file).exists():
                    group.take(part)
                    done.update(entry.row for entry in part.entries)
        self._progress.done = self._progress.resumed = len(done)
        return done

    def _ledger_of_plan(self) -> list[Any]:
        """The ledger's lines; one of another plan, or without its first line, is begun anew."""
        path, head = self._job.work / LEDGER, {"plan": self._plan.sha256}
        found, *lines = Ledger(path).replay() or [None]
        if found == head:
            return lines
        write_lines(path, [head])
        return []

    def _is_committed(self, number: int, group: _Group, sealed: Mapping[str, ShardEntry] | None) -> bool:
        if self._plan.mode == "append":
            return group.planned[-1].row < self._writer.root.rows
        if sealed is None or sealed != self._writer.shards(number):
            return False
        # The same shards as before, such as those of a repair, are not in place before they have left here.
        return not any(sealed_path(self._job.work, number, name).exists() for name in sealed)

    def _todo(self, done: set[int]) -> Iterator[_Piece]:
        for group, items in self._plan.parts():
            remaining = tuple(each for each in items if each.row not in done)
            if remaining:
                yield group, remaining

    def _submit(self, todo: Iterator[_Piece]) -> None:
        """Keep the workers busy, and no more than that: results of many parts must not pile up."""
        while self._running < self._workers.slots * TASKS_PER_SLOT:
            piece = self._again.popleft() if self._again else next(todo, None)
            if piece is None:
                return
            self._workers.submit(("part", *piece), compute_part, self._job, piece[1])
            self._running += 1

    def _take_next(self, ledger: Ledger) -> None:
        """Wait for one task and keep what it did."""
        finished = self._workers.next_done(POLL_SECONDS)
        if finished is None:
            return
        (kind, number, *rest), result = finished
        self._running -= 1
        group = self._groups[number]
        try:
            outcome = result()
        except TaskDied as death:
            self._go_on_after(death, kind, number, rest, ledger)
            return
        if kind == "seal":
            ledger.append({"group": number, "shards": {name: e.model_dump() for name, e in outcome.items()}})
            group.shards = outcome
            group.drop_files(self._job.work)
            return
        self._keep_part(number, outcome, ledger)

    def _keep_part(self, number: int, part: Part, ledger: Ledger) -> None:
        self._deaths[None] = 0
        self._progress.done += len(part.entries)
        self._progress.quarantined += sum(entry.failure is not None for entry in part.entries)
        ledger.append({"part": part.model_dump(mode="json"), "run": self._run_so_far()})
        self._groups[number].take(part)
        self._report(self._progress)
        self._seal_if_complete(number)

    def _go_on_after(self, death: TaskDied, kind: str, number: int, rest: list[Any], ledger: Ledger) -> None:
        """A worker died with a task: give the task to another, without the item that is at fault."""
        deadly, note = None, b""
        if kind == "part":
            (items,) = rest
            deadly, note = self._deadly(items)
            if others := tuple(each for each in items if each is not deadly):
                self._again.append((number, others))
        self._deaths[deadly.row if deadly else None] += 1
        if deadly is None:
            if self._deaths[None] > MOST_DEATHS * self._workers.slots:
                raise death
            if kind == "seal":
                self._seal_if_complete(number)
        elif was_over_time(note):
            limit = f"took longer than limits.seconds={self._job.recipe.limits.seconds:g}"
            self._give_up(number, deadly, Reason.TIME_LIMIT, limit, note, ledger)
        elif self._deaths[deadly.row] < MOST_DEATHS:
            self._again.append((number, (deadly,)))
        else:
            self._give_up(number, deadly, Reason.WORKER_DIED, "it crashed, or ran out of memory", note, ledger)

    def _deadly(self, items: Sequence[PlannedItem]) -> tuple[PlannedItem | None, bytes]:
        """The item at which a worker died, and what it left to say; None where it was at none of them."""
        assert self._job.notes is not None, "only processes of their own die alone"  # noqa: S101
        for each in items:
            with suppress(FileNotFoundError):
                note = self._job.notes / str(each.row)
                said = note.read_bytes()
                note.unlink()
                return each, said
        return None, b""

    def _give_up(
        self, number: int, deadly: PlannedItem, reason: Reason, message: str, note: bytes, ledger: Ledger
    ) -> None:
        failure = Failure(reason=reason.value, message=message, traceback=note.decode(errors="replace"))
        entry = deadly_entry(self._job, deadly, failure)
        if deadly.damaged is not None:
            entry, _ = deadly.damaged.settle(entry, None)
        self._keep_part(number, Part(file="none", entries=(entry,), sizes={}), ledger)

    def _seal_if_complete(self, number: int) -> None:
        group = self._groups[number]
        if group.missing or group.shards is not None:
            return
        root = self._writer.root
        first = number * root.rows_per_shard
        committed = max(0, root.group_rows(number))
        task = SealTask(
            group=number,
            first_row=first,
            rows=max(committed, group.planned[-1].row - first + 1),
            parts=tuple(group.parts),
            committed=self._writer.shards(number) if committed else {},
            rows_committed=committed,
            empty=self._writer.empty_rows(number) if committed else (),
        )
        job = self._job
        self._workers.submit(("seal", number), seal, job.store, job.work, job.schema, job.rows_per_shard, task)
        self._running += 1

    def _commit_ready(self, now: bool) -> None:
        """Commit sealed row groups: for new rows, only those before which nothing is missing."""
        if not now and time.monotonic() - self._last_commit < COMMIT_SECONDS:
            return
        candidates = self._groups.items()
        if self._plan.mode == "append":
            ready = dict(takewhile(lambda each: each[1].shards is not None, candidates))
        else:
            ready = {number: group for number, group in candidates if group.shards is not None}
        if not ready:
            return
        self._writer.log_run(self._run_so_far())
        self._root = self._writer.commit(self._root, [self._commit_of(*each) for each in ready.items()])
        for number in ready:
            del self._groups[number]
        self._last_commit = time.monotonic()

    def _run_so_far(self) -> dict[str, Any]:
        """What is to be known of this run, for the store's history."""
        return self._run | self._progress.summary(time.monotonic() - self._started)

    def _commit_of(self, number: int, group: _Group) -> GroupCommit:
        shards = group.shards or {}
        staged = {}
        if number < self._writer.root.row_groups:
            staged = {name: sealed_path(self._job.work, number, name) for name in shards}
        entries = {entry.row: entry for part in group.parts for entry in part.entries}
        return GroupCommit(number, dict(sorted(entries.items())), shards, staged)

    def _stop_if_asked(self) -> None:
        if self._interrupted():
            raise StoppedEarly(_GO_ON)
        if self._progress.quarantined > self._most_failures:
            count = self._progress.quarantined
            raise StoppedEarly(
                f"{count} items failed, more than --max-failures allows. See why with: "
                f"shapestore quarantine {self._job.store}; run the same command again to go on."
            )


_GO_ON = "interrupted: all finished work is kept. Run the same command again to go on."


def _remove_notes(work: Path) -> None:
    for folder in work.glob(f"{NOTES}*"):
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(work: Path) -> None:
    """Drop what only an unfinished job needs; the lock stays until its holder leaves."""
    _remove_notes(work)
    for folder in ("sealing", "sealed"):
        shutil.rmtree(work / folder, ignore_errors=True)
    for file in work.glob("part-*"):
        file.unlink()
    for name in (LEDGER, PLAN):  # the plan last: as long as it is there, a rerun comes here again
        (work / name).unlink(missing_ok=True)
        reached(f"{name} removed")
