"""Read speed side by side: this reader, zarr-python, tensorstore, h5py, a file a row, and rows in memory.

    OMP_NUM_THREADS=1 python -m benchmarks.read [--rows N] [--repeats N] [--quick] [--json FILE]

All competitors hold the same rows and are timed in one run, in turn, several times over; a figure is the median over
these repetitions. Before anything is timed, every row of every competitor is compared with the source, in every pattern
and with both kinds of buffer; after each timed repetition its last answer is compared again. README.md says what is
compared with what, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import zarr
from numcodecs import blosc
from rich.console import Console
from rich.table import Table

from benchmarks.adapters import (
    Adapter,
    Floats,
    Hdf5,
    Npy,
    Npz,
    RamIndexSelect,
    RamLoop,
    RamTake,
    Rows,
    Shapestore,
    Source,
    TensorStore,
    ZarrFiles,
    ZarrSharded,
)
from benchmarks.common import (
    SEED,
    Verdict,
    WrongValues,
    load,
    machine,
    no_collection,
    print_facts,
    print_verdicts,
    wide_console,
)

BATCH = 64
EPOCHS = 4
"""Most that one repetition reads, in passes over the data set."""
CACHE_BYTES = 2**30
"""Cache of the tensorstore that has one: all rows fit."""
LIMIT_SHARDS, LIMIT_BYTES = 100, 200_000_000
"""From these sizes on a data set is judged: a smaller one lies in the processor's cache."""

Check = Literal["nothing", "every read", "first read"]
"""What a competitor verifies: the tables A, B and C."""
Buffers = Literal["reused", "fresh"]

TABLES: Mapping[Check, str] = {
    "nothing": "A: nothing is verified (but npz: its zip CRC cannot be switched off)",
    "every read": "B: every read is verified (rows in memory and .npy have no checksum: left out)",
    "first read": "C: verified when first read, not again",
}


@dataclass(frozen=True)
class Pattern:
    """What is asked for."""

    name: str
    size: str
    """Which data set: its row size."""
    batch: int | None = None
    """Rows of one call; None for a single row."""
    first: int | None = None
    """Leading points wanted of every row; None for all."""
    shuffled: bool = False
    """Rows of an exact global shuffle, each once an epoch; else drawn with replacement."""

    def calls(self, rows: int, generator: np.random.Generator) -> Rows:
        """(calls,) or (calls, batch) row numbers: `EPOCHS` times as many rows as there are."""
        draw = generator.permutation if self.shuffled else lambda n: generator.integers(0, n, n)
        return np.concatenate([self.cut(draw(rows)) for _ in range(EPOCHS)])

    def cut(self, rows: Rows) -> Rows:
        """Row numbers as calls; what does not fill a batch is left out."""
        return rows if self.batch is None else rows[: len(rows) // self.batch * self.batch].reshape(-1, self.batch)


PATTERNS = (
    Pattern("one random row of 4 KB", "4 KB"),
    Pattern("one random row of 24 KB", "24 KB"),
    Pattern("one random row of 320 KB", "320 KB"),
    Pattern("batch of 64 random rows of 24 KB", "24 KB", BATCH),
    Pattern("batch of 64 of a global shuffle, 24 KB", "24 KB", BATCH, shuffled=True),
    Pattern("batch of 64 prefixes, 1024 of 2048 points", "24 KB", BATCH, first=1024),
)


@dataclass(frozen=True)
class Contender:
    """One line of the tables."""

    label: str
    checks: tuple[Check, ...]
    """The tables that it belongs to."""
    adapter: Adapter

    def takes(self, pattern: Pattern) -> bool:
        """Whether it has a fair way to do this."""
        if pattern.batch is None:
            return not self.adapter.gathers_only
        return pattern.first is None or not self.adapter.whole_rows_only


OURS, CACHED = "shapestore", "tensorstore, 1 GiB cache"


def contenders(source: Source) -> list[Contender]:
    """Everybody, each with a copy of `source` of its own."""
    once: tuple[Check, ...] = ("first read",)
    plain: tuple[Check, ...] = ("nothing",)
    every: tuple[Check, ...] = ("every read",)
    return [
        Contender(OURS, plain, Shapestore(source, "off")),
        Contender(OURS, every, Shapestore(source, "always")),
        Contender(OURS, once, Shapestore(source, "first")),
        Contender("zarr-python, sharded", plain, ZarrSharded(source, crc32c=False)),
        Contender("zarr-python, sharded", every, ZarrSharded(source, crc32c=True)),
        Contender("zarr-python, a file a row", plain, ZarrFiles(source, crc32c=False)),
        Contender("zarr-python, a file a row", every, ZarrFiles(source, crc32c=True)),
        Contender("tensorstore, no cache", plain, TensorStore(source, crc32c=False, cache_bytes=0)),
        Contender("tensorstore, no cache", every, TensorStore(source, crc32c=True, cache_bytes=0)),
        Contender(CACHED, plain, TensorStore(source, crc32c=False, cache_bytes=CACHE_BYTES)),
        Contender(CACHED, once, TensorStore(source, crc32c=True, cache_bytes=CACHE_BYTES)),
        Contender("h5py, chunked", plain, Hdf5(source, "chunked")),
        Contender("h5py, contiguous", plain, Hdf5(source, "contiguous")),
        Contender("h5py, chunked, fletcher32", every, Hdf5(source, "fletcher32")),
        Contender("npz, a file a row", (*plain, *every), Npz(source)),
        Contender("npy, a file a row", plain, Npy(source)),
        Contender("memory, loop over rows", plain, RamLoop(source)),
        Contender("memory, numpy.take", plain, RamTake(source)),
        Contender("memory, torch.index_select", plain, RamIndexSelect(source)),
    ]


class Trial:
    """One contender in one pattern with one kind of buffer."""

    def __init__(self, source: Source, contender: Contender, pattern: Pattern, buffers: Buffers) -> None:
        self.contender, self.pattern, self.buffers = contender, pattern, buffers
        self._values = source.values
        self._first = pattern.first or source.points
        shape = (self._first, 3) if pattern.batch is None else (pattern.batch, self._first, 3)
        self._out = np.empty(shape, np.float32)
        self._last: Floats = self._out
        self.seconds: list[float] = []
        """Seconds a call, for every repetition."""
        self._pace = 0.0

    def check_all(self) -> None:
        """Compare every row of the data set with the source; this warms all caches too."""
        rows = self.pattern.cut(np.arange(len(self._values)))
        spent = 0.0
        for position in range(len(rows)):
            spent += self._run(rows[position : position + 1])
            self._compare(rows[position])
        self._pace = spent / len(rows)

    def repeat(self, calls: Rows, budget: float) -> None:
        """Time as many of `calls` as fit into `budget` seconds, at least one, and compare the last answer."""
        chosen = calls[: max(1, int(budget / self._pace))]
        self._pace = self._run(chosen) / len(chosen)
        self.seconds.append(self._pace)
        self._compare(chosen[-1])

    def _run(self, calls: Rows) -> float:
        """Seconds of all calls; the clock sees the calls and the loop over them, the same for everybody."""
        adapter, first, out = self.contender.adapter, self._first, self._out
        asked: Sequence[Any] = calls.tolist() if self.pattern.batch is None else list(calls)
        answer = out
        out.fill(np.nan)
        if self.buffers == "reused":
            read_into = adapter.into if self.pattern.batch is None else adapter.gather
            start = time.perf_counter()
            for rows in asked:
                read_into(rows, first, out)
        else:
            read = adapter.load if self.pattern.batch is None else adapter.gather_fresh
            start = time.perf_counter()
            for rows in asked:
                answer = read(rows, first)
        seconds = time.perf_counter() - start
        self._last = answer
        return seconds

    def _compare(self, rows: Any) -> None:
        if not np.array_equal(self._last, self._values[rows, : self._first]):
            raise WrongValues(f"{self.contender.label}, {self.pattern.name}, {self.buffers} buffers: wrong values")


@dataclass(frozen=True)
class Result:
    """A figure of the tables: seconds a call."""

    pattern: str
    check: Check
    contender: str
    buffers: Buffers
    median: float
    fastest: float
    slowest: float


def run(sources: Mapping[str, Source], repeats: int, budget: float, console: Console) -> list[Result]:
    """Check and time everybody in every pattern, in turn; `budget` is seconds of one repetition of one trial."""
    results = []
    for size, source in sources.items():
        entrants = contenders(source)
        for pattern in (pattern for pattern in PATTERNS if pattern.size == size):
            console.print(f"[dim]{pattern.name} ...[/dim]")
            buffers: tuple[Buffers, Buffers] = ("reused", "fresh")
            trials = [Trial(source, e, pattern, kind) for e in entrants if e.takes(pattern) for kind in buffers]
            for trial in trials:
                trial.check_all()
            for repetition in range(repeats):
                calls = pattern.calls(len(source.values), np.random.default_rng([SEED, repetition]))
                # Another order every time: nobody always finds the caches as the same neighbour left them.
                order = np.random.default_rng([SEED, repetition, len(trials)]).permutation(len(trials))
                with no_collection():
                    for position in order.tolist():
                        trials[position].repeat(calls, budget)
            results += [result for trial in trials for result in _results(trial)]
    return results


def _results(trial: Trial) -> Iterator[Result]:
    times = trial.seconds
    for check in trial.contender.checks:
        name, label = trial.pattern.name, trial.contender.label
        yield Result(name, check, label, trial.buffers, statistics.median(times), min(times), max(times))


def tables(results: Sequence[Result], sources: Mapping[str, Source]) -> Iterator[Table]:
    """One table a check and pattern."""
    for check, title in TABLES.items():
        for pattern in PATTERNS:
            chosen = [result for result in results if (result.check, result.pattern) == (check, pattern.name)]
            row_bytes = 12 * (pattern.first or sources[pattern.size].points)
            yield _table(f"{title}\n{pattern.name}", chosen, row_bytes * (pattern.batch or 1))


def _table(title: str, results: Sequence[Result], useful_bytes: int) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("reader", no_wrap=True)
    for buffers in ("reused", "fresh"):
        for heading in (f"{buffers}: us", "min .. max", "x ours", "GB/s"):
            table.add_column(heading, justify="right", no_wrap=True)
    found = {(result.contender, result.buffers): result for result in results}
    for contender in dict.fromkeys(result.contender for result in results):
        cells = [contender]
        for kind in ("reused", "fresh"):
            result = found[contender, kind]
            ratio = result.median / found[OURS, kind].median
            cells += [_us(result.median), f"{_us(result.fastest)} .. {_us(result.slowest)}"]
            cells += [f"{ratio:.2f}", f"{useful_bytes / result.median / 1e9:.2f}"]
        table.add_row(*cells)
    return table


def _us(seconds: float) -> str:
    """Microseconds with three digits or more."""
    return f"{seconds * 1e6:.{0 if seconds >= 1e-4 else 1}f}"


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The targets, all with nothing verified and reused buffers; one line for every variant of a competitor."""
    found = {
        (result.pattern, result.contender): result.median
        for result in results
        if result.check == "nothing" and result.buffers == "reused"
    }
    row, batch = PATTERNS[2].name, PATTERNS[3].name
    wanted = {"zarr-python": 40.0, "tensorstore": 8.0, "npz": 8.0, "h5py": 2.0}
    judged = [
        Verdict(f"{row}, copied: times as fast as {label}", wanted[family], seconds / found[row, OURS])
        for (pattern, label), seconds in found.items()
        if pattern == row and (family := label.split(",")[0]) in wanted
    ]
    memory = min(seconds for (name, label), seconds in found.items() if name == batch and label.startswith("memory"))
    share = 100 * memory / found[batch, OURS]
    return [*judged, Verdict(f"{batch}: percent of the fastest gather in memory", 60.0, share)]


def too_small(sources: Mapping[str, Source]) -> str | None:
    """Why the targets cannot be judged on these data sets; None when they can."""
    batches, rows = sources["24 KB"], sources["320 KB"]
    if batches.shards < LIMIT_SHARDS or min(batches.values.nbytes, rows.values.nbytes) < LIMIT_BYTES:
        return f"not judged: the 24 KB rows need {LIMIT_SHARDS} shards, and both data sets {LIMIT_BYTES / 1e6:.0f} MB"
    return None


def facts_of_the_run() -> dict[str, str]:
    """What the figures depend on."""
    libraries = ("shapestore", "zarr", "tensorstore", "h5py", "numpy", "torch", "numcodecs", "google-crc32c")
    threads = (
        f"torch {torch.get_num_threads()}, zarr {zarr.config.get('threading.max_workers')}, "
        "tensorstore 1 for files and 1 for copies (its context), "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    return machine(libraries, threads)


def pin_threads() -> None:
    """One thread for everybody; tensorstore's limits are in its adapter, as they belong to a context."""
    torch.set_num_threads(1)
    blosc.set_nthreads(1)
    zarr.config.set({"threading.max_workers": 1})


def make_sources(rows: int, folder: Path) -> dict[str, Source]:
    """The three data sets; the one of 320 KB has as many bytes as the one of 24 KB, but at least 64 rows."""
    sources = {}
    for size, points, count, rows_per_shard in (
        ("4 KB", 341, rows, 64),
        ("24 KB", 2048, rows, 64),
        ("320 KB", 26_667, max(64, rows // 13), 16),
    ):
        own = folder / size.replace(" ", "")
        own.mkdir()
        values = np.random.default_rng([SEED, points]).random((count, points, 3), np.float32) * 2 - 1
        sources[size] = Source(values, rows_per_shard, own)
    return sources


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Read speed of shapestore beside that of other readers.")
    parser.add_argument("--rows", type=int, help="rows of the 24 KB data set (default 8192; 256 with --quick)")
    parser.add_argument("--repeats", type=int, help="repetitions of every trial (default 5)")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; targets are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    chosen = parser.parse_args()
    chosen.rows = chosen.rows or (256 if chosen.quick else 8192)
    chosen.repeats = chosen.repeats or 5
    if chosen.rows < BATCH:
        parser.error(f"--rows must be at least {BATCH}, the size of a batch")
    return chosen


def main() -> None:
    chosen = arguments()
    pin_threads()
    console = wide_console()
    facts = facts_of_the_run()
    with tempfile.TemporaryDirectory(prefix="read-benchmark-") as folder:
        sources = make_sources(chosen.rows, Path(folder))
        results = run(sources, chosen.repeats, 0.005 if chosen.quick else 0.15, console)
        facts["load after the run"] = load()
        print_facts(facts, console)
        for size, source in sources.items():
            megabytes = source.values.nbytes / 1e6
            console.print(f"rows of {size}: {len(source.values)} in {source.shards} shards, {megabytes:.0f} MB")
        console.print(f"median of {chosen.repeats} repetitions; every value of every reader equals the source\n")
        for table in tables(results, sources):
            console.print(table)
        reason, judged = too_small(sources), verdicts(results)
    print_verdicts(judged, reason, console)
    if chosen.json is not None:
        report = {
            "machine": facts,
            "repeats": chosen.repeats,
            "rows": chosen.rows,
            "results": [asdict(result) for result in results],
            "targets": [asdict(verdict) | {"met": None if reason else verdict.met} for verdict in judged],
        }
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
