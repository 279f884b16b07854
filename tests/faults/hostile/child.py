"""One raw folder at a time through a source and the building of its records, in a process that may be killed."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from shapestore.errors import Reason, ShapestoreError
from shapestore.preprocess.compute import Job, compute_row, no_gate
from shapestore.preprocess.plan import rows_from, sorted_items
from shapestore.preprocess.source import load_source
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from tests.faults.hostile.corpus import Folder, cases

MEMORY: Final = 1024
"""MiB of writable memory that a child may have, of which its libraries take half."""

SECONDS: Final = 60.0
"""After which an input counts as one that hangs; long, as other processes may have the cores."""

_WARM_UP: Final = 900.0
"""Seconds for a child to import, and to compile kernels that are in no cache."""

_MOST_ROWS: Final = 3

VALID, UNLISTED = "valid", "refused when it was listed"
ERROR, CRASH, HANG, OVER_MEMORY = FAULTS = ("error", "crash", "hang", "over memory")
"""Outcomes that no input may have."""

_FAULTY: Final = {Reason.ERROR: ERROR, Reason.MEMORY_LIMIT: OVER_MEMORY}


@dataclass(frozen=True)
class Outcome:
    """What became of a folder."""

    results: tuple[str, ...]
    """For each row of the target, or for the listing: VALID, UNLISTED, one of FAULTS, or the reason of a quarantine."""
    detail: str
    """What was said of it; a traceback for a fault."""
    peak: float = 0.0
    """Most resident memory of the process meanwhile, MiB."""
    grown: float = 0.0
    """By how much that is more than before, MiB."""
    seconds: float = 0.0
    """Time of the processor."""


def compute(folder: Folder) -> Outcome:
    """List a raw folder, and compute the first rows of its target."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
    before, started = _resident("VmRSS"), time.process_time()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as work:
        warnings.simplefilter("error")
        outcome = _outcome(folder, Path(work))
    seconds, peak = time.process_time() - started, _resident("VmHWM")
    return replace(outcome, peak=peak, grown=peak - before, seconds=seconds)


def compute_files(folder: Folder, files: Mapping[str, bytes]) -> Outcome:
    """Write a raw folder, compute it, and take it away."""
    for path, content in files.items():
        (folder.raw / path).parent.mkdir(parents=True, exist_ok=True)
        (folder.raw / path).write_bytes(content)
    outcome = compute(folder)
    shutil.rmtree(folder.raw)
    return outcome


def _outcome(folder: Folder, work: Path) -> Outcome:
    source = load_source(folder.source)
    try:
        settings = [f"{key}={value}" for key, value in folder.settings.items()]
        recipe = source.complete(folder.raw, load_recipe(folder.recipe or source.recipe, settings))
        items = sorted_items(source.discover(folder.raw, recipe))
        schema = schema_of(recipe)
    except ShapestoreError as refusal:
        return Outcome((UNLISTED,), str(refusal))
    except MemoryError:
        return Outcome((OVER_MEMORY,), traceback.format_exc())
    except Exception:  # whatever it is, it is a fault to be reported
        return Outcome((ERROR,), traceback.format_exc())
    job = Job(work / "s.zarr", work, folder.raw, folder.source, recipe, schema, 64, no_gate)
    chosen = [item for item in items if folder.target.startswith(item.path)] or items
    entries = [compute_row(job, planned)[0] for planned in rows_from(0, chosen[:_MOST_ROWS])]
    failures = [entry.failure for entry in entries]
    results = (VALID if each is None else _FAULTY.get(Reason(each.reason), each.reason) for each in failures)
    return Outcome(tuple(results), "\n".join(each.traceback or each.message for each in failures if each))


def _resident(what: str) -> float:
    """A line of the process's status, MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) / 1024


class Child:
    """A process that runs one function after another, with limits of memory and time.

    Undamaged files go through it first, so that no input is charged for imports and kernels.

    Parameters
    ----------
    memory, seconds
        The limits.
    sources
        Whose files these are; None: all.
    """

    def __init__(self, memory: int = MEMORY, seconds: float = SECONDS, sources: frozenset[str] | None = None) -> None:
        self._memory, self._seconds, self._sources = memory, seconds, sources
        self._start()

    def _start(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="hostile-")
        self.scratch = Path(self._scratch.name)
        """Folder for raw files."""
        context = multiprocessing.get_context("spawn")
        self._channel, end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(end, self._memory, self.scratch, self._sources), daemon=True
        )
        self._process.start()
        end.close()
        if not self._channel.poll(_WARM_UP):
            raise TimeoutError("the child does not start")
        self.undamaged: list[Outcome] = self._channel.recv()
        """Of `corpus.cases`, as far as they are of these sources."""

    def run(self, function: Callable[..., Outcome], *arguments: Any) -> Outcome:
        """What a function returns; a fault where the process dies of it, or does not answer."""
        fault = CRASH
        try:
            self._channel.send((function, arguments))
            if self._channel.poll(self._seconds):
                outcome: Outcome = self._channel.recv()
                return outcome
            fault = HANG
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(5)
        code = self._process.exitcode
        self.close()
        self._start()
        return Outcome((fault,), f"exit code {code}", seconds=self._seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._channel.close()
        self._scratch.cleanup()


def _serve(channel: Connection, memory: int, scratch: Path, sources: frozenset[str] | None) -> None:
    """Answer (function, arguments) with what comes of it until the other end is closed."""
    undamaged = [case for case in cases() if sources is None or case.source in sources]
    channel.send([compute_files(case.folder(scratch / "undamaged"), case.files) for case in undamaged])
    resource.setrlimit(resource.RLIMIT_DATA, (memory << 20, memory << 20))
    while True:
        try:
            function, arguments = channel.recv()
        except EOFError:
            return
        channel.send(function(*arguments))
