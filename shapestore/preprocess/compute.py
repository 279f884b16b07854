"""What a worker does: compute a few rows into a part. A failing item becomes an empty row with its reason."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shapestore.errors import GateFailed, InputRefused, Problem, Reason, RecordInvalid, is_systems_fault
from shapestore.preprocess.fingerprint import Fingerprint, fingerprint, source_sha256
from shapestore.preprocess.limits import watched, within_memory
from shapestore.preprocess.plan import PlannedItem
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import Source, SourceItem, load_source, raw_path
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.record import ShapeRecord
from shapestore.schemas.seeding import row_seed
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.catalogue import NO_RUN
from shapestore.store.entries import Failure, RowEntry
from shapestore.store.part import Part, PartWriter

Gate = Callable[[ShapeRecord, StoreSchema], Sequence[Problem]]
"""Says what quality checks find wrong with a record before it is written."""


def no_gate(record: ShapeRecord, schema: StoreSchema) -> Sequence[Problem]:
    """Lets every record pass."""
    del record, schema
    return ()


@dataclass(frozen=True)
class Job:
    """What every task of one job needs to know."""

    store: Path
    work: Path
    """Work folder beside the store."""
    raw: Path
    """Root of the raw files."""
    source_kind: str
    recipe: Recipe
    schema: StoreSchema
    rows_per_shard: int
    gate: Gate
    notes: Path | None = None
    """Folder where workers note which item they are at; None: in this process, whose time is not limited."""
    run: int = NO_RUN
    """Number of this run in the store's history."""


def compute_part(job: Job, planned: Sequence[PlannedItem]) -> Part:
    """Compute planned rows one after another and write them into one part file."""
    file = f"part-{planned[0].row:012d}-{planned[-1].row:012d}"
    entries = []
    with PartWriter(job.work / file, job.schema) as writer:
        for each in planned:
            with watched(job.notes / str(each.row), job.recipe.limits) if job.notes else nullcontext():
                entry, record = compute_row(job, each)
            if each.damaged is not None:
                entry, record = each.damaged.settle(entry, record)
            if record is not None:
                writer.append(each.row, record.arrays)
            entries.append(entry)
    return Part(file=file, entries=tuple(entries), sizes=writer.sizes)


def rehearse_row(job: Job, planned: PlannedItem) -> None:
    """Compute one row for nothing but the kernels that this compiles."""
    with watched(job.notes / "rehearsal", job.recipe.limits) if job.notes else nullcontext():
        compute_row(job, planned)


def compute_row(job: Job, planned: PlannedItem) -> tuple[RowEntry, ShapeRecord | None]:
    """Compute one row: its entry, and its record unless it failed."""
    item = planned.item
    started = time.perf_counter()
    known, sha256 = Fingerprint(0, 0), ""
    record, failure = None, None
    try:
        path = raw_path(job.raw, item)
        known = fingerprint(path)
        sha256 = source_sha256(path, known)
        with within_memory(job.recipe.limits):
            raw = _source(job.source_kind).read(job.raw, item, job.recipe)
            record = build_record(raw, item, sha256, job.recipe, job.schema)
            if problems := job.gate(record, job.schema):
                raise GateFailed(f"record {item.shape_id}", problems)
    except Exception as error:  # whatever one item does, the others go on
        if is_systems_fault(error):
            raise
        record, failure = None, _failure(error, job)
    entry = _failed_entry(job, planned, failure) if failure else _entry(job, planned.row, record)
    measured = {
        "source_sha256": sha256,
        "source_size": known.size,
        "source_mtime_ns": known.mtime_ns,
        "seconds": time.perf_counter() - started,
    }
    return entry.model_copy(update=measured), record


def deadly_entry(job: Job, planned: PlannedItem, failure: Failure) -> RowEntry:
    """The entry of an item that cannot be computed without the loss of the process: only its file is looked at."""
    entry = _failed_entry(job, planned, failure)
    try:
        path = raw_path(job.raw, planned.item)
        known = fingerprint(path)
        sha256 = source_sha256(path, known)
    except InputRefused:
        return entry
    return entry.model_copy(
        update={"source_sha256": sha256, "source_size": known.size, "source_mtime_ns": known.mtime_ns}
    )


def _failed_entry(job: Job, planned: PlannedItem, failure: Failure) -> RowEntry:
    item: SourceItem = planned.item
    return RowEntry(
        row=planned.row,
        shape_id=item.shape_id,
        split=item.split,
        category=item.category,
        group=item.group,
        source=item.path,
        seed=row_seed(job.recipe.seed, item.shape_id),
        run=job.run,
        failure=failure,
    )


def _entry(job: Job, row: int, record: ShapeRecord | None) -> RowEntry:
    assert record is not None, "a row without failure has a record"  # noqa: S101
    return RowEntry(
        row=row,
        shape_id=record.shape_id,
        split=record.split,
        category=record.category,
        group=record.group,
        source=record.provenance.source,
        shift=record.provenance.shift,
        scale=record.provenance.scale,
        seed=record.provenance.seed,
        declared={spec.name: record.arrays[spec.name].item() for spec in job.schema.index_arrays},
        run=job.run,
        notes=record.notes,
    )


def _failure(error: Exception, job: Job) -> Failure:
    """What went wrong, in words that are the same wherever the raw files lie and however often it is tried."""
    if isinstance(error, InputRefused):
        reason, message, trace = error.reason.value, error.detail, ""
    elif isinstance(error, RecordInvalid | GateFailed):
        reason = (Reason.RULE if isinstance(error, RecordInvalid) else Reason.GATE).value
        message, trace = "; ".join(str(problem) for problem in error.problems), ""
    elif isinstance(error, MemoryError):
        reason, message = (
            Reason.MEMORY_LIMIT.value,
            f"needs more than limits.memory_gib={job.recipe.limits.memory_gib:g}",
        )
        trace = "".join(traceback.format_exception(error))
    else:
        reason, message = Reason.ERROR.value, f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
    message = message.replace(f"{job.raw}/", "").replace(str(job.raw), ".")
    return Failure(reason=reason, message=re.sub(r"0x[0-9a-f]{6,}", "0x...", message), traceback=trace)


@lru_cache(maxsize=8)
def _source(kind: str) -> Source:
    return load_source(kind)
