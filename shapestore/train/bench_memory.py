"""Memory of a machine, and of the processes that read: for `bench`."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from shapestore.schemas.base import Strict


class Resident(Strict):
    """Resident memory of this process and its workers; a page that several share counts once."""

    own_bytes: int
    """Memory that holds no file: batches, buffers, the program's objects."""
    mapped_bytes: int
    """Pages of files: of the store, which the system takes back when it needs them, and of libraries."""


def resident() -> Resident | None:
    """What is resident now: sums of proportional set sizes. None where the system does not tell (Linux does)."""
    if sys.platform != "linux":
        return None
    own = mapped = 0
    for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        found = dict(line.split(":") for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:])
        kilobytes = {name: int(value.split()[0]) for name, value in found.items()}
        mapped += kilobytes["Pss_File"] * 1024
        own += (kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"]) * 1024
    return Resident(own_bytes=own, mapped_bytes=mapped)


def physical_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
