"""What safety costs: ingest as it is, beside the same without waiting for the disk, checksums and ledger.

    python -m benchmarks.safety [--quick] [--json FILE]

One process, one thread, wall-clock time, since waiting is what fsync does. README.md says what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from rich.table import Table

from benchmarks.common import (
    SEED,
    Verdict,
    WrongValues,
    machine,
    no_collection,
    print_facts,
    print_verdicts,
    restart_with_one_thread,
    wide_console,
)
from demo.raw import write_demo, write_shapenet
from shapestore.preprocess.ingest import Request, prepare, run
from shapestore.preprocess.limits import watched, within_memory
from shapestore.preprocess.workers import InProcess
from shapestore.schemas.recipe import Limits
from shapestore.store.reader import open_store

LARGEST_SHARE = 0.1
"""Most that safety may take of an ingest's time."""
REPEATS = 5
SMALL = ("points.count=64", "points.fps_order=0")
"""Rows of 768 bytes."""


@contextmanager
def unsafe() -> Iterator[None]:
    """An ingest that waits for no disk, computes no checksum and keeps no ledger. Nobody can read what it writes."""
    with ExitStack() as stack:
        stack.enter_context(patch("os.fsync", lambda *_: None))
        stack.enter_context(patch("google_crc32c.value", lambda *_: 0))
        stack.enter_context(patch("shapestore.store.shard.shard_digest", lambda *_: "0" * 64))
        stack.enter_context(patch("shapestore.store.ledger.Ledger.append", lambda *_: None))
        yield


def write_small_meshes(folder: Path, count: int) -> None:
    """Tetrahedra, each another one."""
    folder.mkdir()
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    for number in range(count):
        moved = corners + np.random.default_rng([SEED, number]).uniform(0, 0.3, (4, 3))
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in moved]
        (folder / f"{number:06d}.obj").write_text("\n".join([*lines, "f 1 3 2", "f 1 2 4", "f 1 4 3", "f 2 3 4", ""]))


@dataclass(frozen=True)
class Ingest:
    """One ingest of a workload."""

    kind: str
    raw: Path
    settings: tuple[str, ...] = ()

    def into(self, folder: Path) -> Request:
        """The request for a new store in a folder, with the recipe that this kind of source has by itself."""
        return Request(self.kind, self.raw, folder / f"{self.kind}.zarr", None, self.settings)


def workloads(folder: Path, *, quick: bool) -> dict[str, tuple[Ingest, ...]]:
    """The ingests of the demo, and that of many small records, after writing their raw files."""
    records = 100 if quick else 10_000
    write_small_meshes(folder / "small", records)
    raw = {"shapenet": write_shapenet(folder / "meshes", 1)} if quick else write_demo(folder / "demo")
    return {
        "demo": tuple(Ingest(kind, each) for kind, each in raw.items()),
        f"{records:,} small records": (Ingest("meshes", folder / "small", SMALL),),
    }


def ingest_seconds(request: Request, *, safe: bool) -> float:
    """Wall-clock seconds of one ingest in this process."""
    os.sync()  # what the last one left to be written is not this one's to wait for
    work = prepare(request)
    with no_collection(), nullcontext() if safe else unsafe():
        start = time.perf_counter()
        run(request, work, InProcess, lambda _: None)
        seconds = time.perf_counter() - start
    if safe and open_store(request.store).root.valid != work.rows:
        raise WrongValues(f"{request.store}: not every shape became a row")
    return seconds


def compare(ingests: Sequence[Ingest], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of `repeats` safe and unsafe runs of all ingests, taking turns, after one of each that is not counted."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for repetition in range(repeats + 1):
        for safe in np.random.default_rng([SEED, repetition]).permutation([True, False]).tolist():
            with tempfile.TemporaryDirectory(prefix="safety-benchmark-") as folder:
                found[safe].append(sum(ingest_seconds(each.into(Path(folder)), safe=safe) for each in ingests))
    return found[True][1:], found[False][1:]


def limits_seconds(times: int) -> float:
    """Seconds that the limits of time and memory cost an item."""
    limits = Limits()
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        start = time.perf_counter()
        for _ in range(times):
            with watched(note, limits), within_memory(limits):
                pass
        return (time.perf_counter() - start) / times


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description="What safety costs.")
    parser.add_argument("--quick", action="store_true", help="small inputs; the target is not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    asked = parser.parse_args()
    restart_with_one_thread()
    console = wide_console()
    facts = machine(("shapestore", "numpy", "google-crc32c"), "one")
    print_facts(facts, console)
    limit = limits_seconds(100 if asked.quick else 5000)
    table = Table(title="Seconds of all ingests: median (fastest to slowest)", title_justify="left")
    for heading in ("", "items", "safe", "unsafe", "safety", "limits of items, in all"):
        table.add_column(heading, justify="right")
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="safety-benchmark-") as name:
        for label, ingests in workloads(Path(name), quick=asked.quick).items():
            items = sum(prepare(each.into(Path(name))).rows for each in ingests)
            safe, without = compare(ingests, 1 if asked.quick else REPEATS)
            share = 1 - statistics.median(without) / statistics.median(safe)
            table.add_row(label, str(items), spread(safe), spread(without), f"{share:.1%}", f"{limit * items:.2f}")
            verdicts.append(
                Verdict(f"{label}: fsync, checksums and ledger, share of ingest", LARGEST_SHARE, share, True)
            )
    console.print(table)
    print_verdicts(verdicts, "not judged: the inputs are small" if asked.quick else None, console)
    if asked.json is not None:
        targets = [asdict(verdict) | {"met": verdict.met} for verdict in verdicts]
        asked.json.write_text(json.dumps({"machine": facts, "targets": targets}, indent=1))


def spread(seconds: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
