"""What every step of a repair shares: the store, its source, the workers, and what was found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

from shapestore.errors import UsageError
from shapestore.preprocess.compute import Gate
from shapestore.preprocess.job import remove_unfinished
from shapestore.preprocess.origin import Origin, find_origin, job_of
from shapestore.preprocess.plan import PLAN, Plan
from shapestore.preprocess.repair_rows import carry_out, spans
from shapestore.preprocess.workers import Workers
from shapestore.schemas.base import Strict
from shapestore.store.layout import work_folder
from shapestore.store.reader import Store
from shapestore.store.root import Root, read_root

Done = Literal["rewritten", "restored", "reset", "salvaged", "recomputed", "quarantined", "dropped", "refused"]
"""`rewritten`: metadata, from the root. `restored`: an index array, from what else there is. `reset`: history, which is
lost. `salvaged`: a shard, from what is left of it. `recomputed`: rows, from their source. `quarantined`: rows that are
lost. `dropped`: a plan, with what was not committed yet. `refused`: still damaged."""


class Mended(Strict):
    """One damaged file, or some of its rows, and what was done about it."""

    file: str
    """Relative to the store."""
    rows: tuple[tuple[int, int], ...] = ()
    """Rows, or other values, that it concerns: first and last of each run of them."""
    problem: str
    done: Done
    note: str = ""
    """Why, or what to do."""


class RepairRun:
    """One repair on its way; the writer's lock is held, but in a dry run."""

    def __init__(
        self,
        path: Path,
        raw: Path | None,
        workers: Workers,
        interrupted: Callable[[], bool],
        report: Callable[[int, int], None],
        gate: Callable[[Root], Gate],
        dry: bool,
        accept_loss: bool,
    ) -> None:
        self.path, self.workers, self.interrupted, self.report, self.dry = path, workers, interrupted, report, dry
        self._raw, self._gate, self._accept_loss = raw, gate, accept_loss
        self.root, self._data = read_root(path)
        self.found: list[Mended] = []
        """What has been done so far."""
        self.ingest_unfinished = False
        """Whether a plan of an ingest waits in the work folder, where a repair of rows needs the place."""
        self.committed = False
        """Whether rows were committed, and the run was logged with them."""

    def say(self, file: str, rows: Iterable[int], problem: str, done: Done, note: str = "") -> None:
        """Keep what was done about a file, or about some of its rows."""
        self.found.append(Mended(file=file, rows=spans(rows), problem=problem, done=done, note=note))

    def store(self) -> Store:
        """The store as it is now; its arrays' own metadata need not be there."""
        return Store(self.path, self.root, self._data, "off")

    @cached_property
    def origin(self) -> Origin | str:
        """Where rows are computed from, or why there is no such place."""
        store, gate = self.store(), self._gate(self.root)
        try:
            return find_origin(store, self._raw, gate)
        except UsageError as error:
            if self._accept_loss and self._raw is not None:
                return Origin(job_of(store, self._raw, gate), {})
            return f"{error}: name the folder that holds the raw files now with --raw"

    def drop_plan(self, problem: str) -> None:
        """Drop the unfinished plan with all that was done for it and not yet committed."""
        work = work_folder(self.path)
        if not self.dry:
            remove_unfinished(work)
        note = "what was not committed yet is computed once more when the command that was interrupted is run again"
        self.say(f"../{work.name}/{PLAN}", (), problem, "dropped", note)

    def carry_out(self, plan: Plan, origin: Origin) -> None:
        """Compute and commit the rows of a plan."""
        carry_out(self.path, plan, origin.job, self.workers, self.interrupted, self.report)
        self.root, self._data = read_root(self.path)
        self.committed = True
