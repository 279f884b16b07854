"""`bench`: how fast a store is read for training on this machine, and what of the machine's limits that is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.store.layout import ROOT, shard_path
from shapestore.store.reader import Store, open_store
from shapestore.train.bench_limits import disk_read, host_to_device, memory_copy
from shapestore.train.bench_memory import physical_bytes, resident
from shapestore.train.bench_result import BenchResult, Limits, Pace
from shapestore.train.data.batched import Batch
from shapestore.train.data.dataset import ROW, ShapeDataset
from shapestore.train.data.loader import loader, to_device
from shapestore.train.data.sampler import ShapeSampler

FITTING = 16
"""A batch fits where it takes at most this part of the machine's memory: several are alive at the same time."""


def bench(
    path: str | Path, fields: Sequence[str] = (), *, batch: int = 64, seconds: float = 2.0, workers: int = 0
) -> BenchResult:
    """Measure; see `shapestore.api.bench`."""
    if seconds <= 0 or workers < 0 or batch < 1:
        raise UsageError("seconds are more than 0, a batch has a row or more, and workers are 0 or more.")
    load, before = os.getloadavg(), resident()
    start = time.perf_counter()
    store = open_store(path)
    open_seconds = time.perf_counter() - start
    start = time.perf_counter()
    (store.path / ROOT).read_bytes()
    metadata_seconds = time.perf_counter() - start
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = tuple(fields) or fitting(store, batch, physical_bytes() // FITTING)

    start = time.perf_counter()
    dataset = ShapeDataset(store, chosen)
    batches = _batches(dataset, batch, workers, device)
    rows = [next(batches)[ROW].cpu().numpy()]
    first_batch_seconds = time.perf_counter() - start
    row_bytes = sum(prod(shape) * dtype.itemsize for shape, dtype in dataset.layout.values())
    size = batch * row_bytes
    rest = -(-len(dataset) // batch) - 1
    first_pass = _pace(batches, batch, size, seconds, rest or 1, rows)
    del batches

    seen = np.unique(np.concatenate(rows))
    gather = _gather(store, chosen, seen, batch, size, seconds)  # a forked worker knows the checked rows of its parent
    batches = _batches(ShapeDataset(store, chosen, rows=seen), batch, workers, device)
    kept = next(batches)  # workers are there now
    later = _pace(batches, batch, size, seconds, None, None)
    after = resident()
    del batches, kept

    direct, is_direct = disk_read(_files(store, chosen, seen), seconds)
    limits = Limits(
        memory_copy=memory_copy(size, len(seen) * row_bytes, max(1, workers), seconds),
        disk=direct,
        disk_is_direct=is_direct,
        host_to_device=host_to_device(size, device, seconds) if device.type == "cuda" else None,
    )
    fits = row_bytes * store.root.rows < physical_bytes()
    return BenchResult(
        store=str(path),
        device=device.type,
        fields=chosen,
        left_out=tuple(spec.name for spec in store.root.content.data_arrays if spec.name not in chosen),
        batch=batch,
        batch_bytes=size,
        workers=workers,
        rows=len(seen),
        load=load,
        open_seconds=open_seconds,
        metadata_seconds=metadata_seconds,
        first_batch_seconds=first_batch_seconds,
        first_pass=first_pass,
        later_passes=later,
        gather=gather,
        limits=limits,
        before=before,
        after=after,
        fits_memory=fits,
        stages=stages(size, workers, later.bytes_per_second, gather, limits, fits),
    )


def fitting(store: Store, batch: int, budget: int) -> tuple[str, ...]:
    """Mapped arrays, in the store's order, of which a batch takes at most so many bytes.

    Raises
    ------
    UsageError
        There is none.
    """
    chosen: list[str] = []
    for spec in store.root.content.data_arrays:
        if spec.kind == "mapped" and batch * spec.row_bytes <= budget:
            budget -= batch * spec.row_bytes
            chosen.append(spec.name)
    if not chosen:
        raise UsageError(
            f"{store.path}: no mapped array of which a batch of {batch} fits into memory. Ask for fields: --fields a,b"
        )
    return tuple(chosen)


def stages(size: int, workers: int, rate: float, gather: float, limits: Limits, fits_memory: bool) -> dict[str, float]:
    """Seconds of a batch that go to each stage.

    Parameters
    ----------
    size, rate
        Bytes of a batch, and bytes a second in which batches come in the end.
    workers, gather
        Processes that gather at the same time, and bytes a second that one of them gathers.
    limits, fits_memory
        What the machine does, and whether later epochs find the files in memory.
    """
    copied = size / limits.memory_copy
    gathered = max(size / gather / max(1, workers), copied)
    found = {
        "copying memory": copied,
        "finding the rows": gathered - copied,
        "batching and handing over": max(size / rate - gathered, 0.0),
    }
    if limits.host_to_device is not None:
        found["copying to the GPU"] = size / limits.host_to_device
    if not fits_memory:
        found["reading from disk"] = size / limits.disk
    return found


def _batches(dataset: ShapeDataset, batch: int, workers: int, device: torch.device) -> Iterator[Batch]:
    """Batches of one epoch after another, on the device."""
    source = loader(dataset, ShapeSampler(dataset, batch, rank=0, ranks=1), workers=workers, device=device)
    while True:
        for found in source:
            yield to_device(found, device)


def _pace(
    batches: Iterator[Batch],
    batch: int,
    size: int,
    seconds: float,
    most: int | None,
    rows: list[NDArray[np.int64]] | None,
) -> Pace:
    """Take batches until the time is over, or as many as there may be; note their rows."""
    done = 0
    cpu, start = time.process_time(), time.perf_counter()
    while not done or (time.perf_counter() - start < seconds and done != most):
        found = next(batches)
        done += 1
        if rows is not None:
            rows.append(found[ROW].cpu().numpy().copy())
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    spent = time.perf_counter() - start
    rate = done / spent
    return Pace(
        batches=done,
        rows_per_second=rate * batch,
        bytes_per_second=rate * size,
        cpu_share=(time.process_time() - cpu) / spent,
    )


def _gather(
    store: Store, fields: Sequence[str], rows: NDArray[np.int64], batch: int, size: int, seconds: float
) -> float:
    """Bytes a second of `Store.read` of random rows into the same buffers, all of them checked before."""
    for first in range(0, len(rows), batch):
        store.read(rows[first : first + batch], fields)
    asked = np.random.default_rng(0).permutation(np.resize(rows, -(-len(rows) // batch) * batch)).reshape(-1, batch)
    out = store.read(asked[0], fields)
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        store.read(asked[done % len(asked)], fields, out=out)
        done += 1
    return done * size / (time.perf_counter() - start)


def _files(store: Store, fields: Sequence[str], rows: NDArray[np.int64]) -> Iterator[Path]:
    """Shards that hold rows of the fields."""
    groups = np.unique(rows // store.root.rows_per_shard).tolist()
    for spec in store.root.content.data_arrays:
        if spec.name in fields:
            yield from (store.path / shard_path(spec.name, group, len(spec.shape)) for group in groups)
