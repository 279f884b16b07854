"""What one item may take of a worker: an item that takes more is stopped, and whatever kills its worker is found out.

A note in the work folder says which item a worker is at. Native code cannot be interrupted, so an item that is over its
time ends the worker's process, and leaves in the note where it was; so does a crash. What is left of the note when the
coordinator hears of the death tells which item it was, and why.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shapestore.schemas.recipe import Limits

_OVER_TIME = b"Timeout ("
"""How `faulthandler` begins what it writes when the time is over."""


@contextmanager
def watched(note: Path, limits: Limits) -> Iterator[None]:
    """Note which item is being worked on; end this process when the item takes too long.

    One item at a time may be watched in a process.
    """
    with note.open("wb", buffering=0) as file:
        faulthandler.enable(file)
        # A thread in C, which no lock of the interpreter can hold up.
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
    note.unlink(missing_ok=True)  # a job that ended meanwhile has removed it


@contextmanager
def within_memory(limits: Limits) -> Iterator[None]:
    """Let what is allocated beyond the limit fail with a MemoryError.

    Counted is writable memory of the process's own, touched or not (`RLIMIT_DATA`, Linux 4.7 and later), from what the
    process holds now.
    """
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    soft = _data_bytes() + int(limits.memory_gib * 2**30)
    if before[0] == resource.RLIM_INFINITY or soft < before[0]:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def was_over_time(note: bytes) -> bool:
    """Whether a note that a dead worker left says that the item took too long."""
    return _OVER_TIME in note


def _data_bytes() -> int:
    """Writable memory that this process has of its own (field `data` of Linux's `/proc/self/statm`)."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[5])
    return pages * os.sysconf("SC_PAGESIZE")
