"""Geometry side by side: this package, libigl, Open3D, trimesh with Embree, scipy and fpsample.

    python -m benchmarks.geometry [--repeats N] [--quick] [--json FILE] [--data FOLDER] [--require LIBRARY]

Every answer goes before a judge, brute force or a shape that is known exactly, before anything is timed; an answer that
is wrong is compared with nothing. A figure is the median CPU time of the repetitions, for which everybody takes turns,
each with one thread. README.md says what is compared with what, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from rich.console import Console

from benchmarks import geometry_fields, geometry_operations, geometry_report, geometry_signs
from benchmarks.common import (
    ONE_THREAD,
    Verdict,
    load,
    machine,
    print_facts,
    print_verdicts,
    restart_with_one_thread,
    wide_console,
)
from benchmarks.geometry_fields import Truth
from benchmarks.geometry_hearts import Heart, heart
from benchmarks.geometry_libraries import OPTIONAL, why_missing
from benchmarks.geometry_profiles import Profile, jobs, normalised, profile, unpacked
from benchmarks.geometry_trials import OURS, Result, run, tables

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mesh"
LIBRARIES = ("shapestore", "libigl", "embreex", "trimesh", "scipy", "scikit-image", "numba", "numpy")
QUICK_MESHES = 1


def measure_meshes(
    data: Path, folder: Path, quick: bool, repeats: int, budget: float, console: Console
) -> tuple[list[Result], list[Profile]]:
    """Inside grids and the whole recipe for the meshes in `data`; nothing where the folder is not there."""
    if not data.is_dir():
        console.print(f"left out: recipe nepa-shapenet and inside grids of real meshes: {data} is not there")
        return [], []
    chosen = list(islice(jobs(unpacked(data, folder)), QUICK_MESHES if quick else None))
    named = {planned.item.path: normalised(mesh) for _, planned, mesh in chosen}
    grids = list(run(geometry_signs.grids(named, 16 if quick else 64), repeats, budget, console))
    profiles = []
    for job, planned, mesh in chosen:
        console.print(f"[dim]recipe nepa-shapenet, {planned.item.path} ...[/dim]")
        profiles.append(profile(job, planned, mesh, repeats))
    return grids, profiles


def missing_libraries(required: Sequence[str], console: Console) -> list[str]:
    """Say which optional libraries are left out, and why; returns those that were required."""
    reasons = {name: reason for name in OPTIONAL if (reason := why_missing(name)) is not None}
    for name, reason in reasons.items():
        console.print(f"left out: {name}: {reason}", soft_wrap=True)
    return [name for name in required if name in reasons]


def print_all(
    results: Sequence[Result], fields: Sequence[Truth], profiles: Sequence[Profile], case: Heart, console: Console
) -> None:
    """Every table."""
    for table in tables(results):
        console.print(table)
    console.print(geometry_fields.table(fields))
    for table in geometry_report.tables(profiles, case):
        console.print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Geometry of shapestore beside that of libraries.")
    parser.add_argument("--repeats", type=int, help="repetitions of everything (default 5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a minute instead of 35; targets are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="meshes for the whole recipe")
    parser.add_argument("--require", action="append", default=[], choices=OPTIONAL, help="fail without this library")
    chosen = parser.parse_args()
    chosen.repeats = chosen.repeats or (1 if chosen.quick else 5)
    return chosen


def main() -> None:
    chosen = arguments()
    restart_with_one_thread()
    console = wide_console()
    if missing := missing_libraries(chosen.require, console):
        sys.exit(f"required, and missing: {', '.join(missing)}")
    present = [name for name in OPTIONAL if why_missing(name) is None]
    facts = machine((*LIBRARIES, *present), f"one a library, by {', '.join(ONE_THREAD)}; Open3D by its arguments")
    budget = 0.0 if chosen.quick else 0.2
    with tempfile.TemporaryDirectory(prefix="geometry-benchmark-") as name:
        folder = Path(name)
        results = list(run(geometry_operations.operations(chosen.quick, folder), chosen.repeats, budget, console))
        results += run(geometry_signs.operations(chosen.quick), chosen.repeats, budget, console)
        fields = geometry_fields.ball(2000 if chosen.quick else 100_000)
        grids, profiles = measure_meshes(chosen.data, folder, chosen.quick, chosen.repeats, budget, console)
        results += grids
        console.print("[dim]recipe cardiac-sdf ...[/dim]")
        case = heart(folder, 48 if chosen.quick else 256, chosen.repeats)
    facts["load after the run"] = load()
    print_facts(facts, console)
    console.print(f"median CPU time of {chosen.repeats} repetitions\n")
    print_all(results, fields, profiles, case, console)
    judged = [*geometry_report.verdicts(results, fields, profiles, case), *geometry_signs.verdicts(results)]
    reason = "not judged: --quick takes smaller shapes, once" if chosen.quick else None
    print_verdicts(judged, reason, console)
    if chosen.json is not None:
        chosen.json.write_text(
            json.dumps(report(facts, results, fields, profiles, case, judged, reason), indent=1) + "\n"
        )
    if wrong := [f"{r.operation}, {r.case}" for r in results if r.library == OURS and not r.right]:
        sys.exit("our answer is wrong: " + "; ".join(wrong))


def report(
    facts: dict[str, str],
    results: Sequence[Result],
    fields: Sequence[Truth],
    profiles: Sequence[Profile],
    case: Heart,
    judged: Sequence[Verdict],
    reason: str | None,
) -> dict[str, object]:
    """Everything that was measured, for `--json`."""
    return {
        "machine": facts,
        "results": [asdict(result) for result in results],
        "fields": [asdict(field) for field in fields],
        "profiles": [asdict(each) | {"ratio": each.ratio} for each in profiles],
        "heart": asdict(case) | {"ratio": case.ratio},
        "targets": [asdict(verdict) | {"met": None if reason else verdict.met} for verdict in judged],
    }


if __name__ == "__main__":
    main()
