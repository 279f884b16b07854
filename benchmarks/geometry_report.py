"""The tables of whole recipes, and the targets of all of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from benchmarks.common import Verdict
from benchmarks.geometry_fields import Truth
from benchmarks.geometry_hearts import Heart
from benchmarks.geometry_profiles import Profile
from benchmarks.geometry_trials import OURS, Result, ms

GIB = 2**30
DISTANCES = ("distance to a surface", "distance grid")
"""How the operations begin whose error is a target."""


def shape_table(profiles: Sequence[Profile]) -> Table:
    """A line a mesh."""
    table = _table("recipe nepa-shapenet: ours from file to validated record; the libraries: the same arrays", "file")
    for heading in ("faces", "ours, CPU ms", "min .. max", "libraries", "x ours", "error of distances"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in profiles:
        spread = f"{ms(each.ours.fastest)} .. {ms(each.ours.slowest)}"
        figures = ms(each.ours.median), spread, ms(each.libraries), f"{each.ratio:.2f}", f"{each.error:.2g}"
        table.add_row(each.shape, str(each.faces), *figures)
    return table


def own_table(title: str, records: Sequence[Mapping[str, float]]) -> Table:
    """Our functions, the order that of the first record: which takes most comes first."""
    table = _table(title, "function")
    table.add_column("CPU ms, median", justify="right")
    table.add_column("min .. max", justify="right")
    for name in dict.fromkeys(name for record in records for name in record):
        table.add_row(name, *_spread([record.get(name, 0.0) for record in records]))
    return table


def stage_table(profiles: Sequence[Profile]) -> Table:
    """The stages of the libraries, and who was the fastest on how many meshes."""
    table = _table("recipe nepa-shapenet: the libraries, stage by stage", "stage")
    table.add_column("CPU ms, median", justify="right")
    table.add_column("min .. max", justify="right")
    table.add_column("the fastest, on how many meshes")
    for stage in profiles[0].chosen:
        found = [each.chosen[stage] for each in profiles]
        votes = Counter(library for library, _ in found).most_common()
        who = ", ".join(f"{library} {count}" for library, count in votes)
        table.add_row(stage, *_spread([seconds for _, seconds in found]), who)
    return table


def heart_table(heart: Heart) -> Table:
    """Ours, whole, and the distance transforms alone."""
    table = _table(f"recipe cardiac-sdf: ten classes, {heart.size}^3 voxels", "what")
    for heading in ("CPU s", "min .. max", "x ours", "peak GiB"):
        table.add_column(heading, justify="right")
    for name, timing, peak in (
        (f"{OURS}: file to validated record", heart.ours, f"{heart.peak_bytes / GIB:.2f}"),
        ("scipy: a pair of distance transforms a class, nothing else", heart.scipy, ""),
    ):
        ratio = f"{timing.median / heart.ours.median:.2f}"
        table.add_row(name, f"{timing.median:.2f}", f"{timing.fastest:.2f} .. {timing.slowest:.2f}", ratio, peak)
    return table


def tables(profiles: Sequence[Profile], heart: Heart) -> Iterator[Table]:
    """All tables of whole recipes."""
    if profiles:
        yield shape_table(profiles)
        yield own_table("recipe nepa-shapenet: our functions, under a profiler", [each.own for each in profiles])
        yield stage_table(profiles)
    yield heart_table(heart)
    yield own_table("recipe cardiac-sdf: our functions, under a profiler", [heart.own])


def verdicts(
    results: Sequence[Result], fields: Sequence[Truth], profiles: Sequence[Profile], heart: Heart
) -> list[Verdict]:
    """The targets but those of signs."""
    errors = [r.error for r in results if r.library == OURS and r.operation.startswith(DISTANCES)]
    (ball,) = (field for field in fields if field.method == OURS)
    found = [
        Verdict("distances to surfaces: largest error", 1e-6, max(errors), at_most=True),
        Verdict("label map of a ball: mean error, voxels", 0.1, ball.mean, at_most=True),
        Verdict("label map of a ball: slope", 0.95, ball.slope),
        Verdict("label map of a ball: slope", 1.05, ball.slope, at_most=True),
    ]
    if profiles:
        seconds = statistics.median(each.ours.median for each in profiles)
        ratio = statistics.median(each.ratio for each in profiles)
        found += [
            Verdict("nepa-shapenet: CPU seconds of the median mesh", 0.30, seconds, at_most=True),
            Verdict("nepa-shapenet: times that the libraries take, median of the meshes", 1.5, ratio),
            Verdict("nepa-shapenet: largest error of distances", 1e-6, max(p.error for p in profiles), at_most=True),
        ]
    return [
        *found,
        Verdict("cardiac-sdf: CPU seconds", 2.0, heart.ours.median, at_most=True),
        Verdict("cardiac-sdf: GiB of memory at most in use", 1.0, heart.peak_bytes / GIB, at_most=True),
        Verdict("cardiac-sdf: times that scipy's distance transforms alone take", 20.0, heart.ratio),
    ]


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    return table


def _spread(seconds: Sequence[float]) -> tuple[str, str]:
    return ms(statistics.median(seconds)), f"{ms(min(seconds))} .. {ms(max(seconds))}"
