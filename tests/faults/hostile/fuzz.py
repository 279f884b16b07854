"""Fuzzing of every source: `python -m tests.faults.hostile.fuzz --inputs 10000 --seed 0 --jobs 1 --state FILE`.

Every number is one input. It goes through the reader and the building of the record in a child process whose memory is
limited, and which is killed where it takes too long. The tally is kept in the state file, from which a later run goes
on; inputs with a fault are kept beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.faults.hostile.child import FAULTS, Child, Outcome, compute_files
from tests.faults.hostile.corpus import Case, cases
from tests.faults.hostile.mutate import mutated, pick

SAVED_EVERY: Final = 50
"""Inputs."""


def input_of(seed: int, number: int) -> tuple[Case, dict[str, bytes]]:
    """The damaged folder of a number: every source equally often, and of a source every form."""
    rng = np.random.default_rng([seed, number])
    source = pick(rng, sorted({case.source for case in cases()}))
    form = pick(rng, sorted({case.form for case in cases() if case.source == source}))
    alike = [case for case in cases() if (case.source, case.form) == (source, form)]
    case, other = pick(rng, alike), pick(rng, alike)
    damaged = mutated(rng, form, case.files[case.target], other.files[other.target])
    return case, {**case.files, case.target: damaged}


def compute_input(seed: int, number: int, scratch: Path) -> Outcome:
    """Make the input of a number, and compute it."""
    case, files = input_of(seed, number)
    return compute_files(case.folder(scratch / f"{number}"), files)


class Tally:
    """Counts of a run, which a file keeps."""

    def __init__(self, state: Path | None, seed: int) -> None:
        self._state, self.seed = state, seed
        self.next, self.sources, self.faults = 0, dict[str, dict[str, Any]](), list[dict[str, Any]]()
        if state is not None and state.exists():
            held = json.loads(state.read_text())
            if held["seed"] != seed:
                raise SystemExit(f"{state} is of seed {held['seed']}")
            self.next, self.sources, self.faults = held["next"], held["sources"], held["faults"]

    def add(self, number: int, outcome: Outcome) -> None:
        """Count one input."""
        case, files = input_of(self.seed, number)
        fresh = {"inputs": 0, "results": {}, "peak MiB": 0.0, "slowest": {"seconds": 0.0, "number": -1}}
        row = self.sources.setdefault(case.source, fresh)
        row["inputs"] += 1
        for result in outcome.results:
            row["results"][result] = row["results"].get(result, 0) + 1
        row["peak MiB"] = max(row["peak MiB"], round(outcome.peak, 1))
        if outcome.seconds > row["slowest"]["seconds"]:
            row["slowest"] = {"seconds": round(outcome.seconds, 2), "number": number}
        if set(outcome.results) & set(FAULTS):
            self.faults.append({"number": number, "source": case.source, "target": case.target, **asdict(outcome)})
            self._keep(number, case.target, files[case.target])

    def _keep(self, number: int, target: str, content: bytes) -> None:
        if self._state is None:
            return
        kept = self._state.with_name(f"{self._state.name}.faults") / f"{number}"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / Path(target).name).write_bytes(content)

    def save(self, done: int) -> None:
        """Write the file; inputs up to `done` are counted."""
        self.next = done
        if self._state is not None:
            held = {"seed": self.seed, "next": done, "sources": self.sources, "faults": self.faults}
            part = self._state.with_name(f"{self._state.name}.part")
            part.write_text(json.dumps(held, indent=1))
            part.replace(self._state)

    def table(self) -> str:
        """All counts, a line a source and result."""
        lines = []
        for source, row in sorted(self.sources.items()):
            slowest = row["slowest"]
            lines.append(
                f"{source}: {row['inputs']} inputs, at most {row['peak MiB']:.0f} MiB, "
                f"slowest {slowest['seconds']:.2f} s (number {slowest['number']})"
            )
            ranked = sorted(row["results"].items(), key=lambda pair: -pair[1])
            lines += [f"  {count:6d}  {result}" for result, count in ranked]
        counts = {fault: sum(row["results"].get(fault, 0) for row in self.sources.values()) for fault in FAULTS}
        lines.append(f"all: {self.next} inputs, " + ", ".join(f"{count} {fault}" for fault, count in counts.items()))
        return "\n".join(lines)


def fuzz(tally: Tally, inputs: int, run: Callable[[int], Outcome], pool: ThreadPoolExecutor) -> None:
    """Run the numbers that the tally lacks up to `inputs`."""
    for start in range(tally.next, inputs, SAVED_EVERY):
        numbers = range(start, min(start + SAVED_EVERY, inputs))
        for number, outcome in zip(numbers, pool.map(run, numbers), strict=True):
            tally.add(number, outcome)
        tally.save(numbers.stop)


@contextmanager
def children(seed: int, jobs: int) -> Iterator[tuple[Callable[[int], Outcome], ThreadPoolExecutor]]:
    """What runs a number, and a pool of threads to call it from, each of which has a child of its own."""
    own, started = threading.local(), list[Child]()

    def run(number: int) -> Outcome:
        if not hasattr(own, "child"):
            own.child = Child()
            started.append(own.child)
        outcome: Outcome = own.child.run(compute_input, seed, number, own.child.scratch)
        return outcome

    try:
        with ThreadPoolExecutor(jobs) as pool:
            yield run, pool
    finally:
        for child in started:
            child.close()


def main() -> int:
    """Run, print the tally; 1 if there is any fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs in all, those of earlier runs included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--state", type=Path, help="file that keeps the tally")
    arguments = parser.parse_args()
    tally = Tally(arguments.state, arguments.seed)
    with children(arguments.seed, arguments.jobs) as (run, pool):
        fuzz(tally, arguments.inputs, run, pool)
    sys.stdout.write(tally.table() + "\n")
    return int(bool(tally.faults))


if __name__ == "__main__":
    raise SystemExit(main())
