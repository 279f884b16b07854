"""What quality costs: integrity beside the bare checksum, and the checks of content beside ingest.

    python -m benchmarks.quality [--quick] [--json FILE]

One process, one thread, CPU time. README.md says what is timed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.common import (
    Verdict,
    WrongValues,
    machine,
    print_facts,
    print_verdicts,
    restart_with_one_thread,
    take_turns,
    wide_console,
)
from demo.raw import write_hearts, write_shapenet
from shapestore import api
from shapestore.quality.integrity import check_group
from shapestore.quality.measuring import Job, measure_rows
from shapestore.quality.registry import installed_checks
from shapestore.store.layout import shard_path
from shapestore.store.reader import open_store
from shapestore.store.rowcodec import crc32c

LEAST_INTEGRITY = 0.5
"""Least speed of the integrity check, in shares of the checksum's own."""
LARGEST_CONTENT = 0.5
"""Most that the checks of content may take, in shares of ingest."""
APART = ("duplicates",)
"""Checks that are not counted: near-duplicates are a search of their own."""
REPEATS = 5
SECONDS = 2.0
"""Time of one repetition."""


def content_checks() -> tuple[str, ...]:
    """Names of the checks that are counted."""
    return tuple(check.name for check in installed_checks() if check.scope == "content" and check.name not in APART)


def integrity_verdict(store: Path, repeats: int, seconds: float) -> Verdict:
    """Speed of `check_group` on warm files, by that of crc32c on a warm buffer of the same bytes."""
    opened = open_store(store)
    groups, specs = range(opened.root.row_groups), opened.root.content.data_arrays
    files = [store / shard_path(spec.name, group, len(spec.shape)) for spec in specs for group in groups]
    data = b"".join(path.read_bytes() for path in files)
    commit = opened.root.sha256

    def integrity() -> None:
        for group in groups:
            if check_group(store, commit, group, deep=True, began=0.0):
                raise WrongValues(f"{store} is damaged")

    timed = take_turns({"integrity": integrity, "crc32c": lambda: crc32c(data)}, repeats, seconds)
    share = timed["crc32c"].median / timed["integrity"].median
    size = f"{len(data) / 2**20:.0f} MiB, {len(data) / timed['crc32c'].median / 2**30:.1f} GiB/s bare"
    return Verdict(f"integrity of {store.stem} ({size}), in shares of crc32c", LEAST_INTEGRITY, share)


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def content_seconds(store: Path, repeats: int) -> dict[str, float]:
    """Median CPU seconds a row: of each check alone, and of `all` together."""
    opened = open_store(store)
    rows = opened.rows().tolist()
    names = content_checks()

    def run(*chosen: str) -> float:
        job = Job(store, opened.root.sha256, None, "off", chosen)
        return float(np.median([cpu_seconds(lambda: measure_rows(job, rows)) for _ in range(repeats)])) / len(rows)

    run(*names)  # compiles, and loads what is used first
    return {"all": run(*names)} | {name: run(name) for name in names}


def ingest_again(kind: str, raw: Path, store: Path, recipe: str) -> float:
    """CPU seconds a row of an ingest in this process, without its gates."""
    from shapestore.preprocess.ingest import Request, prepare, run
    from shapestore.preprocess.workers import InProcess

    request = Request(kind, raw, store, recipe)
    work = prepare(request)
    seconds = cpu_seconds(lambda: run(request, work, InProcess, lambda _: None))
    if open_store(store).root.quarantined:
        raise WrongValues(f"{store}: not every shape became a row")
    return seconds / work.rows


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description="What quality costs.")
    parser.add_argument("--quick", action="store_true", help="small inputs; the targets are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    asked = parser.parse_args()
    restart_with_one_thread()
    console = wide_console()
    facts = machine(("shapestore", "numpy", "scipy", "google-crc32c"), "one")
    print_facts(facts, console)
    repeats, models, size = (1, 2, 48) if asked.quick else (REPEATS, 10, 256)
    verdicts, seconds = [], {}
    with tempfile.TemporaryDirectory(prefix="quality-benchmark-") as name:
        folder = Path(name)
        meshes = write_shapenet(folder / "meshes", models_per_class=models)
        hearts = folder / "hearts"
        write_hearts(hearts, cases=1 if asked.quick else 2, size=size)
        for kind, raw, recipe in (("shapenet", meshes, "nepa-shapenet"), ("cardiac", hearts, "cardiac-sdf")):
            store = folder / f"{recipe}.zarr"
            ingest_again(kind, raw, folder / "warm.zarr", recipe)
            (folder / "warm.zarr").rename(folder / f"warm-{recipe}.zarr")
            ingest = ingest_again(kind, raw, store, recipe)
            checks = content_seconds(store, repeats)
            seconds[recipe] = {"ingest": ingest} | checks
            verdicts.append(
                Verdict(f"{recipe}: content checks, in shares of ingest", LARGEST_CONTENT, checks["all"] / ingest, True)
            )
            verdicts.append(integrity_verdict(store, repeats, SECONDS / 20 if asked.quick else SECONDS))
            result = api.validate(store, "full", workers=0)
            if not result.passed:
                raise WrongValues(f"{store}: {result.outcome}")
    table = Table(title="CPU milliseconds a row", title_justify="left")
    table.add_column("")
    for recipe in seconds:
        table.add_column(recipe, justify="right")
    for label in next(iter(seconds.values())):
        table.add_row(label, *(f"{1000 * each[label]:.1f}" for each in seconds.values()))
    console.print(table)
    reason = "not judged: the inputs are small" if asked.quick else None
    print_verdicts(verdicts, reason, console)
    if asked.json is not None:
        result_json = {"machine": facts, "seconds": seconds, "targets": [asdict(v) | {"met": v.met} for v in verdicts]}
        asked.json.write_text(json.dumps(result_json, indent=1))


if __name__ == "__main__":
    main()
