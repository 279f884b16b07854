"""What every benchmark has: one thread for everybody, the facts of the machine, targets, and clocks that take turns."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console

from shapestore.preprocess.cluster import PINNED

SEED = 20_240_601
ONE_THREAD = {**PINNED, "IGL_NUM_THREADS": "1"}
"""Environment that gives every native library one thread."""


class WrongValues(AssertionError):
    """An answer is not what the judge says."""


@dataclass(frozen=True)
class Verdict:
    """One target, and what was measured."""

    target: str
    wanted: float
    measured: float
    at_most: bool = False
    """Whether `wanted` is an upper bound; else it is a lower one."""

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


@dataclass(frozen=True)
class Timing:
    """Seconds of CPU time a call, over the repetitions."""

    median: float
    fastest: float
    slowest: float


def restart_with_one_thread() -> None:
    """Run this command again with `ONE_THREAD`, unless it already does: libraries read it when they are imported."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ONE_THREAD})  # noqa: S606


def wide_console() -> Console:
    """As wide as the terminal, or as the tables need where there is none."""
    return Console(width=None if sys.stdout.isatty() else 150)


def machine(libraries: Sequence[str], threads: str) -> dict[str, str]:
    """What the figures depend on: processor, load, versions of installed `libraries`, and how threads are limited."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "governor": governor.read_text().strip() if governor.exists() else "unknown",
        "load (1, 5, 15 min)": load(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in libraries),
        "threads": threads,
    }


def load() -> str:
    """Load average of the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection while the clock runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def take_turns(calls: Mapping[str, Callable[[], object]], repeats: int, budget: float) -> dict[str, Timing]:
    """CPU time of every call, `repeats` times over, in an order drawn anew for each repetition.

    A repetition of a short call makes as many of it as fit into `budget` seconds; each call is made once before, so
    that nothing is compiled or loaded while the clock runs. CPU time is that of all threads of the process. Garbage
    is collected between two turns, and not during one.
    """
    labels = list(calls)
    pace = {label: max(_cpu_seconds(call, 1), 1e-7) for label, call in calls.items()}
    seconds: dict[str, list[float]] = {label: [] for label in labels}
    with no_collection():
        for repetition in range(repeats):
            # Another order every time: nobody always finds the caches as the same neighbour left them.
            for position in np.random.default_rng([SEED, repetition]).permutation(len(labels)).tolist():
                label = labels[position]
                # trimesh keeps Embree's scenes in cycles, and Embree crashes where thousands of them pile up.
                gc.collect()
                pace[label] = max(_cpu_seconds(calls[label], max(1, int(budget / pace[label]))), 1e-7)
                seconds[label].append(pace[label])
    return {label: Timing(statistics.median(each), min(each), max(each)) for label, each in seconds.items()}


def _cpu_seconds(call: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def print_facts(facts: Mapping[str, str], console: Console) -> None:
    """One line a fact."""
    for name, fact in facts.items():
        console.print(f"{name}: {fact}", highlight=False, soft_wrap=True)


def print_verdicts(verdicts: Sequence[Verdict], not_judged: str | None, console: Console) -> None:
    """One line a target: met, missed, or not judged for a reason that is printed last."""
    for verdict in verdicts:
        word = "not judged" if not_judged else "met" if verdict.met else "MISSED"
        bound = "at most " if verdict.at_most else ""
        console.print(
            f"{word}: {verdict.target}: {verdict.measured:.4g} (target {bound}{verdict.wanted:g})", soft_wrap=True
        )
    if not_judged:
        console.print(not_judged)
