"""Records of our own, as a worker computes them, and where their time goes."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.common import WrongValues
from shapestore.preprocess.compute import Job, compute_row
from shapestore.preprocess.plan import PlannedItem
from shapestore.quality.gates import Gates
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import ShapeRecord

BUILDERS: Final = ("preprocess/compute.py", "preprocess/records/")
"""Files whose calls are the stages of a record."""


def job_of(root: Path, source_kind: str, recipe_name: str) -> Job:
    """What a worker is told about the files below `root`."""
    recipe = load_recipe(recipe_name, ())
    schema = schema_of(recipe)
    gates = Gates(recipe, source_kind)
    return Job(root, root, root, source_kind, recipe, schema, schema.rows_per_shard(), gates)


def record_of(job: Job, planned: PlannedItem) -> ShapeRecord:
    """Read, compute and validate one record.

    Raises
    ------
    WrongValues
        The item would be quarantined.
    """
    entry, record = compute_row(job, planned)
    if record is None:
        raise WrongValues(f"{planned.item.path}: {entry.failure}")
    return record


def own_stages(call: Callable[[], object]) -> dict[str, float]:
    """CPU seconds of what the record builder calls, and of all the rest."""
    profiler = cProfile.Profile(time.process_time)
    started = time.process_time()
    profiler.runcall(call)
    total = time.process_time() - started
    found: Counter[str] = Counter()
    for (file, _, name), (*_, callers) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if "/shapestore/" in file and not _builds(file):
            found[name] += sum(each[3] for caller, each in callers.items() if _builds(caller[0]))
    large = {name: seconds for name, seconds in found.most_common() if seconds > total / 1000}
    return large | {"rest": total - sum(large.values())}


def _builds(file: str) -> bool:
    return any(part in file for part in BUILDERS)
