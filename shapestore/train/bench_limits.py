"""What a machine can do at best, for `bench` to compare with: copy memory, read files, fill a GPU."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

POOL_BYTES = 256 * 2**20
"""Memory that copies are made from: more than common processors keep in their caches."""

BLOCK_BYTES = 8 * 2**20
"""Bytes that one read asks a file for: enough for any disk to work at full speed."""

ALIGNED = 4096
"""Offsets and lengths of reads past the page cache are multiples of this on all common disks."""


def memory_copy(size: int, total: int, threads: int, seconds: float) -> float:
    """Bytes a second that threads copy, each into one warm buffer.

    Parameters
    ----------
    size
        Bytes of one copy: those of a batch.
    total
        Bytes that the copies go through, at most `POOL_BYTES`: a small store lies in the processor's cache, too.
    threads
        Threads that copy at the same time, > 0.
    seconds
        How long.
    """
    copies = max(1, min(total, POOL_BYTES) // size)
    pool = np.ones((copies, size), np.uint8)
    buffers = np.ones((threads, size), np.uint8)

    def work(number: int) -> float:
        step = number

        def copy() -> int:
            nonlocal step
            step += 1
            np.copyto(buffers[number], pool[step % copies])
            return size

        return _pace(copy, seconds)

    with ThreadPoolExecutor(threads) as workers:
        return sum(workers.map(work, range(threads)))


def disk_read(files: Iterable[Path], seconds: float) -> tuple[float, bool]:
    """Bytes a second that files give when they are read one after another, from their start.

    Parameters
    ----------
    files
        Read until the time is over, at least the first one.
    seconds
        How long.

    Returns
    -------
    rate, direct
        Bytes a second; and whether the page cache was passed by (`O_DIRECT`). Where the system or the file system
        cannot, the files may have come from memory.
    """
    direct = getattr(os, "O_DIRECT", 0)
    start, done = time.perf_counter(), 0
    with mmap.mmap(-1, BLOCK_BYTES) as buffer:  # its start is aligned
        for path in files:
            try:
                done += _read(path, direct, buffer, start + seconds)
            except OSError as error:
                if not direct or error.errno != errno.EINVAL:
                    raise
                direct = 0
                done += _read(path, 0, buffer, start + seconds)
            if time.perf_counter() - start >= seconds:
                break
    return done / (time.perf_counter() - start), bool(direct)


def host_to_device(size: int, device: torch.device | str, seconds: float) -> float:
    """Bytes a second that go from pinned memory to a GPU.

    Parameters
    ----------
    size
        Bytes of one copy.
    device
        The GPU.
    seconds
        How long.
    """
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(size, dtype=torch.uint8, device=device)

    def copy() -> int:
        target.copy_(host, non_blocking=True)
        torch.cuda.synchronize(device)
        return size

    return _pace(copy, seconds)


def _pace(work: Callable[[], int], seconds: float) -> float:
    """Bytes a second of what is called until the time is over; the first call is not counted."""
    work()
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not done:
        done += work()
    return done / spent


def _read(path: Path, flags: int, buffer: mmap.mmap, end: float) -> int:
    """Bytes read of a file, up to its end or until a time."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        done = 0
        while found := os.preadv(descriptor, [buffer], done):
            done += found
            if found % ALIGNED or time.perf_counter() >= end:  # a shorter block is the last one
                break
        return done
    finally:
        os.close(descriptor)
