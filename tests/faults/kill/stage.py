"""Stages: for each scenario the store to start from, and the one that it must end at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tests.faults.kill.armed.sitecustomize import STEPS
from tests.faults.kill.run import DONE, QUARANTINED, Run
from tests.faults.kill.scenario import Case, write_raw

STORE = "s.zarr"

_staging = Lock()


class Stage(NamedTuple):
    """What the rounds of one case share."""

    raw: Path
    start: Path
    """Store to start from; it does not exist where the operation makes it."""
    after: Path
    """What it must end at: the store of a run that was left alone."""
    code: int
    """Exit code of that run."""
    steps: Mapping[str, int]
    """How often each step is reached."""
    seconds: float
    """Time from taking the lock to the end."""


def stage(case: Case, folder: Path) -> Stage:
    """Raw files, the store at the start and the one at the end, made in `folder` once a process."""
    with _staging:
        return _stage(case, folder)


@cache
def _stage(case: Case, folder: Path) -> Stage:
    home = folder / f"{case.operation}-{case.recipe}"
    raw, start = write_raw(home / "raw", case.raw), home / "start" / STORE
    first = Case("ingest", case.recipe)
    if case.operation == "append":
        before = write_raw(home / "raw-before", case.raw_before)
        start.parent.mkdir()
        making = Run(first.arguments(before, start, workers=0), home / "making", home / "tmp", case.orders)
        if making.finish() != QUARANTINED:
            raise AssertionError(making.printed)
    elif case.operation == "repair":
        spoil(copy_store(_stage(first, folder).after, start.parent))
    elif case != first:
        start = _stage(first, folder).after
    after = copy_store(start, home / "after")
    run = Run(case.arguments(raw, after, workers=0), home / "run", home / "tmp", case.orders)
    code = run.finish()
    if code not in (DONE, QUARANTINED):
        raise AssertionError(run.printed)
    seconds = time.time() - (run.home / STEPS / "locked").stat().st_ctime
    return Stage(raw, start, after, code, run.steps, seconds)


def copy_store(store: Path, to: Path) -> Path:
    """A copy of a store in the folder `to`, where there is one."""
    to.mkdir(parents=True)
    if store.exists():
        shutil.copytree(store, to / STORE)
    return to / STORE


def spoil(store: Path) -> None:
    """Damage a store: a shard is lost; one byte is wrong in a shard of another row group, and in an index array."""
    one, *_ = sorted(path for path in store.glob("*/c/1/**/*") if path.is_file())
    one.unlink()
    *_, other = sorted(path for path in store.glob("*/c/2/**/*") if path.is_file())
    for path, place in ((other, 8), (store / "shift" / "c" / "0" / "0", 0)):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
