"""Shuffled batches for training, side by side: this data path and other loaders, on the same rows.

    python -m benchmarks.loader [--rows N] [--repeats N] [--workers N] [--quick] [--json FILE]

Every competitor's batches are compared with the source before anything is timed. README.md says what is the same for
everybody, and what is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import loader_adapters as ours_and_theirs
from benchmarks.adapters import Npz, Source, TensorStore, ZarrFiles, ZarrSharded
from benchmarks.common import (
    SEED,
    Verdict,
    WrongValues,
    load,
    machine,
    no_collection,
    print_facts,
    print_verdicts,
    restart_with_one_thread,
    wide_console,
)
from benchmarks.loader_adapters import BATCH, FIELD, Batch, Hdf5Sent, Loader, MapStyle
from benchmarks.loader_step import StepShare, step_share
from benchmarks.read import CACHE_BYTES, pin_threads
from shapestore.train.data.dataset import ROW

POINTS, ROWS_PER_SHARD = 2048, 64
OURS = "shapestore"
BUDGET = 0.5
"""Seconds of a turn at least: an epoch of a fast loader is over before the system has shared out its processors."""
STEP_PERCENT = 2.0
"""Most that reading may add to a training step of vecset-tiny."""

Make = Callable[[Source, int], Loader]

ENTRANTS: Mapping[str, Make] = {
    OURS: ours_and_theirs.Shapestore,
    "zarr-python, sharded": lambda s, w: MapStyle(ZarrSharded(s, crc32c=False), s, w),
    "zarr-python, a file a row": lambda s, w: MapStyle(ZarrFiles(s, crc32c=False), s, w),
    "tensorstore, no cache": lambda s, w: MapStyle(TensorStore(s, crc32c=False, cache_bytes=0), s, w),
    "tensorstore, 1 GiB cache": lambda s, w: MapStyle(TensorStore(s, crc32c=False, cache_bytes=CACHE_BYTES), s, w),
    "h5py, chunked": lambda s, w: MapStyle(Hdf5Sent(s, "chunked"), s, w),
    "h5py, contiguous": lambda s, w: MapStyle(Hdf5Sent(s, "contiguous"), s, w),
    "npz, a file a row": lambda s, w: MapStyle(Npz(s), s, w),
    "HF datasets, map-style": ours_and_theirs.HfDatasets,
    "HF datasets, iterable": ours_and_theirs.HfIterable,
    "mosaicml-streaming": ours_and_theirs.MosaicStreaming,
    "litdata": ours_and_theirs.LitData,
    "webdataset": ours_and_theirs.WebDataset,
}
"""Everybody: how each is made, of the source and a number of workers."""


@dataclass(frozen=True)
class Result:
    """A line of the table: seconds of an epoch, over the turns."""

    loader: str
    median: float
    fastest: float
    slowest: float
    cpu: float
    """Median of the CPU time of this process and its workers."""


def enter(source: Source, workers: int, entrants: Mapping[str, Make]) -> tuple[dict[str, Loader], dict[str, str]]:
    """Make everybody; and why some are not compared: what cannot be imported."""
    made, missing = {}, {}
    for label, make in entrants.items():
        try:
            made[label] = make(source, workers)
        except ImportError as error:
            missing[label] = str(error).strip().splitlines()[0]
    return made, missing


def check(label: str, loader: Loader, source: Source) -> None:
    """Compare two epochs with the source: every row once, in another order each time, with its values."""
    orders = []
    for _ in range(2):
        rows: list[int] = []
        for batch in loader.epoch():
            _compare(label, batch, source)
            rows += batch[ROW].tolist()
        orders.append(rows)
        if sorted(rows) != list(range(len(source.values))):
            raise WrongValues(f"{label}: an epoch is not every row once")
    if orders[0] == orders[1] or sorted(orders[0]) == orders[0]:
        raise WrongValues(f"{label}: the rows are not shuffled")


def _compare(label: str, batch: Batch, source: Source) -> None:
    values, rows = batch[FIELD], batch[ROW]
    right = (
        values.dtype == torch.float32
        and rows.dtype == torch.int64
        and values.is_contiguous()
        and 0 < len(rows) <= BATCH
        and np.array_equal(values.numpy(), source.values[rows.numpy()])
    )
    if not right:
        raise WrongValues(f"{label}: wrong values")


def time_all(loaders: Mapping[str, Loader], source: Source, repeats: int, budget: float) -> list[Result]:
    """Time epochs of everybody, `repeats` times over, in an order drawn anew each time; `budget` is that of `_turn`."""
    labels = list(loaders)
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
    for repetition in range(repeats):
        for position in np.random.default_rng([SEED, repetition]).permutation(len(labels)).tolist():
            label = labels[position]
            times[label].append(_turn(label, loaders[label], source, budget))
    results = []
    for label, found in times.items():
        walls = [wall for wall, _ in found]
        cpu = statistics.median(cpu for _, cpu in found)
        results.append(Result(label, statistics.median(walls), min(walls), max(walls), cpu))
    return results


def _turn(label: str, loader: Loader, source: Source, budget: float) -> tuple[float, float]:
    """Wall and CPU seconds of an epoch, from asking for it to its end: means of those begun in `budget` seconds."""
    epochs, rows, last = 0, 0, None
    with no_collection():
        cpu, start = cpu_seconds(), time.perf_counter()
        while not epochs or time.perf_counter() - start < budget:
            for batch in loader.epoch():
                rows += len(batch[ROW])
                last = batch
            epochs += 1
        spent = (time.perf_counter() - start) / epochs, (cpu_seconds() - cpu) / epochs
    if last is None or rows != epochs * len(source.values):
        raise WrongValues(f"{label}: {epochs} epochs of {rows} rows together")
    _compare(label, last, source)
    return spent


def cpu_seconds() -> float:
    """CPU time of this process, of the children that it has, and of those that have ended."""
    own = psutil.Process()
    total = time.process_time() + own.cpu_times().children_user + own.cpu_times().children_system
    return total + sum(sum(child.cpu_times()[:2]) for child in own.children(recursive=True))


def table(results: Sequence[Result], source: Source) -> Table:
    """One line a competitor, ours first."""
    shown = Table(title=f"an epoch of shuffled batches of {BATCH}", title_justify="left", title_style="bold")
    shown.add_column("loader", no_wrap=True)
    for heading in ("rows/s", "GB/s", "us a row", "min .. max", "x ours", "CPU us a row", "x ours"):
        shown.add_column(heading, justify="right", no_wrap=True)
    ours, rows = next(result for result in results if result.loader == OURS), len(source.values)
    for each in results:
        micro = [value * 1e6 / rows for value in (each.median, each.fastest, each.slowest, each.cpu)]
        shown.add_row(
            each.loader,
            f"{rows / each.median:,.0f}",
            f"{source.values.nbytes / each.median / 1e9:.2f}",
            f"{micro[0]:.1f}",
            f"{micro[1]:.1f} .. {micro[2]:.1f}",
            f"{each.median / ours.median:.2f}",
            f"{micro[3]:.1f}",
            f"{each.cpu / ours.cpu:.2f}",
        )
    return shown


def verdicts(results: Sequence[Result], share: StepShare) -> list[Verdict]:
    """Ahead of everybody, by wall time and by CPU time; and what reading adds to a step."""
    ours = next(result for result in results if result.loader == OURS)
    others = [result for result in results if result is not ours]
    ahead = [
        *(Verdict(f"{each.loader}: its time by ours", 1.0, each.median / ours.median) for each in others),
        *(Verdict(f"{each.loader}: its CPU time by ours", 1.0, each.cpu / ours.cpu) for each in others),
    ]
    return [*ahead, Verdict("reading, percent of a step of vecset-tiny", STEP_PERCENT, share.percent, at_most=True)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Shuffled batches of shapestore beside those of other loaders.")
    parser.add_argument("--rows", type=int, help="rows of 24 KB (default 8192; 512 with --quick)")
    parser.add_argument("--repeats", type=int, help="turns of everybody (default 5; 2 with --quick)")
    parser.add_argument("--workers", type=int, default=0, help="processes of every loader (default 0: none)")
    parser.add_argument("--quick", action="store_true", help="under a minute; targets are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    chosen = parser.parse_args()
    chosen.rows = chosen.rows or (512 if chosen.quick else 8192)
    chosen.repeats = chosen.repeats or (2 if chosen.quick else 5)
    if chosen.rows % BATCH:
        parser.error(f"--rows must be a multiple of {BATCH}, the size of a batch")
    return chosen


def main() -> None:
    chosen = arguments()
    restart_with_one_thread()
    pin_threads()
    console = wide_console()
    facts = machine(("shapestore", "zarr", "tensorstore", "h5py", "numpy", "torch"), "1")
    with tempfile.TemporaryDirectory(prefix="loader-benchmark-") as folder:
        values = np.random.default_rng(SEED).random((chosen.rows, POINTS, 3), np.float32) * 2 - 1
        source = Source(values, ROWS_PER_SHARD, Path(folder))
        loaders, missing = enter(source, chosen.workers, ENTRANTS)
        for label, each in loaders.items():
            check(label, each, source)
        results = time_all(loaders, source, chosen.repeats, 0.0 if chosen.quick else BUDGET)
        share = step_share(Path(folder), steps=2 if chosen.quick else 100)
        report(chosen, facts, source, results, missing, share, console)


def report(
    chosen: argparse.Namespace,
    facts: dict[str, str],
    source: Source,
    results: Sequence[Result],
    missing: Mapping[str, str],
    share: StepShare,
    console: Console,
) -> None:
    """Print everything, and write it where it is asked for."""
    facts["load after the run"] = load()
    facts["workers"] = str(chosen.workers)
    print_facts(facts, console)
    console.print(f"{len(source.values)} rows, {source.values.nbytes / 1e6:.0f} MB, {source.shards} shards")
    console.print(f"median of {chosen.repeats} turns; every value of every loader equals the source\n")
    console.print(table(results, source))
    for label, reason in missing.items():
        console.print(f"not compared: {label}: {reason}", soft_wrap=True)
    console.print(f"\n{share}", soft_wrap=True)
    judged = verdicts(results, share)
    print_verdicts(judged, "not judged: --quick" if chosen.quick else None, console)
    if chosen.json is not None:
        written = {
            "machine": facts,
            "rows": chosen.rows,
            "repeats": chosen.repeats,
            "results": [asdict(result) for result in results],
            "not compared": dict(missing),
            "step": asdict(share),
            "targets": [asdict(verdict) | {"met": None if chosen.quick else verdict.met} for verdict in judged],
        }
        chosen.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
