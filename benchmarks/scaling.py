"""What a second worker is worth to ingest, beside what a second process is worth to a pure CPU loop.

    python -m benchmarks.scaling [--seconds S] [--rounds N] [--quick] [--json FILE]

Four measurements take turns: the loop in one process and in two, the ingest on one worker and on two, each pair with
the same total work. The loop says what a second process is worth on this machine; the ingest may take at most 1.12
times that share. README.md says what is timed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.common import (
    ONE_THREAD,
    SEED,
    Verdict,
    WrongValues,
    load,
    machine,
    print_facts,
    print_verdicts,
    restart_with_one_thread,
    wide_console,
)
from demo.raw import write_shapenet
from shapestore.preprocess.cluster import DaskWorkers
from shapestore.preprocess.ingest import Request, prepare, run
from shapestore.preprocess.workers import Workers
from shapestore.quality.gates import Gates

LARGEST_SHARE = 1.12
"""Most that the share of two workers may be, in shares of two processes."""
LEAST_SECONDS, LEAST_ROUNDS = 60.0, 5
"""From this much work and this many rounds on it is judged."""
SPARE = 1.25
"""More work than asked for: the pace is measured on few shapes."""
RECIPE = "nepa-shapenet"
CLASSES = 4
"""Shapes that `write_shapenet` makes for each one that it is asked for."""


@dataclass(frozen=True)
class Round:
    """Seconds of the four measurements, taken one after another."""

    loop_1: float
    loop_2: float
    ingest_1: float
    ingest_2: float

    @property
    def loop_share(self) -> float:
        """What two processes take of the time of one."""
        return self.loop_2 / self.loop_1

    @property
    def ingest_share(self) -> float:
        """What two workers take of the time of one."""
        return self.ingest_2 / self.ingest_1


def spin(steps: int) -> int:
    """A pure CPU loop: no memory, no files, no library."""
    total = 0
    for _ in repeat(None, steps):  # a counter would grow, and large numbers cost more
        total = (31 * total + 7) & 0xFFFF
    return total


def loop_seconds(pool: ProcessPoolExecutor, processes: int, steps: int) -> float:
    """Wall time of `steps` steps, shared evenly among running processes."""
    started = time.perf_counter()
    list(pool.map(spin, [steps // processes] * processes))
    return time.perf_counter() - started


def ingest_seconds(raw: Path, store: Path, workers: Workers, shapes: int) -> float:
    """Wall time of an ingest on running workers, from looking at the raw folder to the last commit.

    Raises
    ------
    WrongValues
        Not every shape became a row that holds data.
    """
    started = time.perf_counter()
    request = Request("shapenet", raw, store, RECIPE)
    work = prepare(request)
    gates = Gates(work.recipe, request.source_kind)
    # The cluster is the one that ingest starts for itself; entered already, so that its start is not timed.
    done = run(request, work, lambda: nullcontext(workers), lambda _: None, gates)
    seconds = time.perf_counter() - started
    if done is None or (done.done, done.quarantined) != (shapes, 0):
        raise WrongValues(f"{shapes} shapes, and not all of them became rows: {done}")
    return seconds


@contextmanager
def running_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that have started and imported what they need."""
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        list(pool.map(spin, [1000] * 8 * count))
        yield pool


def alternate(measure: Sequence[Callable[[], float]], rounds: int) -> list[Round]:
    """Take the four measurements `rounds` times, in an order drawn anew for each round."""
    found = []
    for number in range(rounds):
        seconds = [0.0] * len(measure)
        for position in np.random.default_rng([SEED, number]).permutation(len(measure)).tolist():
            seconds[position] = measure[position]()
        found.append(Round(*seconds))
    return found


def measure_all(folder: Path, seconds: float, rounds: int) -> tuple[list[Round], int]:
    """Warm everything up, choose the amount of work, and take turns; also gives the number of shapes."""
    with ExitStack() as stack:
        alone, pair = (stack.enter_context(running_processes(count)) for count in (1, 2))
        one, two = (stack.enter_context(DaskWorkers(count)) for count in (1, 2))
        trial = write_shapenet(folder / "trial", models_per_class=4)
        # Twice, as the first one loads libraries and compiles kernels on the workers.
        for number in range(2):
            for workers in (one, two):
                ingest_seconds(trial, folder / f"{workers.slots}-{number}.zarr", workers, 4 * CLASSES)
        pace = ingest_seconds(trial, folder / "pace.zarr", one, 4 * CLASSES) / (4 * CLASSES)
        models = math.ceil(SPARE * seconds / pace / CLASSES)
        raw, shapes = write_shapenet(folder / "raw", models_per_class=models), models * CLASSES
        million = loop_seconds(alone, 1, 1_000_000)
        steps = math.ceil(SPARE * seconds / million) * 1_000_000
        kept: dict[str, str] = {}

        def ingest(workers: Workers) -> float:
            store = folder / "timed.zarr"
            spent = ingest_seconds(raw, store, workers, shapes)
            compare(kept, tree_digest(store))
            shutil.rmtree(store)
            return spent

        found = alternate(
            [
                lambda: loop_seconds(alone, 1, steps),
                lambda: loop_seconds(pair, 2, steps),
                lambda: ingest(one),
                lambda: ingest(two),
            ],
            rounds,
        )
    return found, shapes


def tree_digest(store: Path) -> dict[str, str]:
    """Sha256 of every file of a store but those of `provenance`, which holds times."""
    return {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.relative_to(store).parts[0] != "provenance"
    }


def compare(kept: dict[str, str], found: dict[str, str]) -> None:
    """Keep the first digest, and compare every later one with it.

    Raises
    ------
    WrongValues
        A store differs from the first one.
    """
    kept.update(kept or found)
    if kept != found:
        raise WrongValues("the stores of two runs differ")


def table(rounds: Sequence[Round]) -> Table:
    """A line a round, and the medians."""
    found = Table(title="seconds, and the share that two take of the time of one", title_justify="left")
    headings = ("round", "loop, 1 process", "2 processes", "share", "ingest, 1 worker", "2 workers", "share")
    for heading in (*headings, "share / share"):
        found.add_column(heading, justify="right")
    for number, each in enumerate(rounds, start=1):
        found.add_row(
            str(number),
            f"{each.loop_1:.2f}",
            f"{each.loop_2:.2f}",
            f"{each.loop_share:.3f}",
            f"{each.ingest_1:.2f}",
            f"{each.ingest_2:.2f}",
            f"{each.ingest_share:.3f}",
            f"{each.ingest_share / each.loop_share:.3f}",
        )
    return found


def verdict(rounds: Sequence[Round]) -> Verdict:
    """The median over the rounds of one share in the other."""
    measured = statistics.median(each.ingest_share / each.loop_share for each in rounds)
    target = "ingest on 2 workers: its share of the time of 1, in shares of the loop"
    return Verdict(target, LARGEST_SHARE, measured, at_most=True)


def not_judged(rounds: Sequence[Round]) -> str | None:
    """Why the target cannot be judged on this run; None where it can."""
    if (os.cpu_count() or 1) < 2:
        return "not judged: there is one core"
    if len(rounds) < LEAST_ROUNDS or min(min(each.loop_1, each.ingest_1) for each in rounds) < LEAST_SECONDS:
        return f"not judged: it takes {LEAST_ROUNDS} rounds, and {LEAST_SECONDS:g} s of work each"
    return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How well ingest uses a second worker.")
    parser.add_argument("--seconds", type=float, help="work of one measurement (default 60; 1 with --quick)")
    parser.add_argument("--rounds", type=int, help="rounds of four measurements (default 5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="under a minute instead of 20; the target is not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    chosen = parser.parse_args()
    chosen.seconds = chosen.seconds or (1.0 if chosen.quick else LEAST_SECONDS)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else LEAST_ROUNDS)
    return chosen


def main() -> None:
    chosen = arguments()
    restart_with_one_thread()
    console = wide_console()
    facts = machine(
        ("shapestore", "dask", "distributed", "numpy", "zarr"), f"one a library, by {', '.join(ONE_THREAD)}"
    )
    with tempfile.TemporaryDirectory(prefix="scaling-benchmark-") as folder:
        rounds, shapes = measure_all(Path(folder), chosen.seconds, chosen.rounds)
    facts["load after the run"] = load()
    print_facts(facts, console)
    console.print(f"{shapes} shapes by recipe {RECIPE}; the stores of all runs are the same to the byte\n")
    console.print(table(rounds))
    judged, reason = verdict(rounds), not_judged(rounds)
    print_verdicts([judged], reason, console)
    if chosen.json is not None:
        report = {
            "machine": facts,
            "shapes": shapes,
            "rounds": [asdict(each) for each in rounds],
            "targets": [asdict(judged) | {"met": None if reason else judged.met}],
        }
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
