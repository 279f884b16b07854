"""Rows of damaged shards: which are lost, and how they are computed once more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from shapestore.errors import StoreChanged, StoreDamaged
from shapestore.preprocess.compute import Job, compute_row
from shapestore.preprocess.damaged_row import DamagedRow
from shapestore.preprocess.job import Coordinator
from shapestore.preprocess.origin import Origin
from shapestore.preprocess.plan import Plan, PlannedItem
from shapestore.preprocess.source import SourceItem
from shapestore.preprocess.workers import Workers
from shapestore.schemas.array import ArraySpec
from shapestore.store.inspect import damaged_shards
from shapestore.store.layout import shard_path
from shapestore.store.reader import Store
from shapestore.store.restore import restore
from shapestore.store.root import read_root
from shapestore.store.rowcodec import fill_row, row_encoder
from shapestore.store.salvage import Salvaged, salvage
from shapestore.store.shard import ShardEntry
from shapestore.store.writer import StoreWriter


@dataclass(frozen=True)
class DamagedShard:
    """A shard that is not the committed one, or holds rows that do not match their checksums."""

    array: str
    group: int
    file: str
    """Relative to the store."""
    problem: str
    group_rows: range
    """Rows of its row group."""
    rows: tuple[int, ...]
    """Rows that cannot be read."""
    lost: tuple[int, ...]
    """Rows of which the file holds nothing that could be proven to be what was committed."""
    doubtful: tuple[int, ...]
    """Where nothing could be proven: rows that, computed once more, might prove others that hold data."""


def examine(path: Path, commit: str, group: int, mend: bool) -> list[DamagedShard]:
    """What a worker does: find damaged shards of one row group, and put back those that can be proven whole.

    Parameters
    ----------
    path, commit, group
        The store, the commit that is repaired, and the number of the row group.
    mend
        Whether anything is written.

    Raises
    ------
    StoreChanged
        A writer committed meanwhile.
    """
    root, data = read_root(path)
    if root.sha256 != commit:
        raise StoreChanged(f"{path} was changed by a writer just now. Run the command again.")
    store = Store(path, root, data, "off")
    first = group * root.rows_per_shard
    group_rows = range(first, first + root.group_rows(group))
    valid = store.index("valid")[first : group_rows.stop]
    found = []
    for array, errors in groupby(damaged_shards(store, group, deep=True), key=lambda error: error.array):
        named = list(errors)
        spec = root.content.by_name[array]
        file = shard_path(array, group, len(spec.shape))
        fill = row_encoder(spec)(fill_row(spec))
        known = {slot: fill for slot, holds in enumerate(valid) if not holds}
        salvaged = _salvage(store, spec, group, known, mend)
        doubtful = salvaged.doubtful if len(salvaged.doubtful) < len(group_rows) - len(known) else ()
        found.append(
            DamagedShard(
                array,
                group,
                file,
                _problem(named, path / file),
                group_rows,
                tuple(row for error in named for row in error.rows or ()),
                tuple(first + slot for slot in salvaged.lost),
                tuple(first + slot for slot in doubtful),
            )
        )
    return found


def _problem(errors: Sequence[StoreDamaged], file: Path) -> str:
    """What is wrong with a shard, without its name and what to do."""
    if len(errors) > 1:
        return f"{len(errors)} rows do not match their checksums"
    text = errors[0].problem.removeprefix(f"{file}: ")
    return text[: text.index(f" ({errors[0].array}, row")]


def prove(path: Path, job: Job, shard: DamagedShard, planned: Sequence[PlannedItem]) -> DamagedShard:
    """What a worker does: compute the doubtful rows of a shard, which may prove the others.

    If they are what was committed, the file is put back; a row that is not to be had leaves it as it is.

    Parameters
    ----------
    path, job
        The store, and what computes its rows.
    shard, planned
        The shard, and its rows that hold data and are doubtful.
    """
    root, data = read_root(path)
    store = Store(path, root, data, "off")
    spec = root.content.by_name[shard.array]
    first, encode = shard.group_rows[0], row_encoder(spec)
    valid = store.index("valid")
    known = {row - first: encode(fill_row(spec)) for row in shard.group_rows if not valid[row]}
    for each in planned:
        entry, record = compute_row(job, each)
        if each.damaged is not None:
            entry, record = each.damaged.settle(entry, record)
        if record is not None:
            known[each.row - first] = encode(record.arrays[spec.name])
    salvaged = _salvage(store, spec, shard.group, known, mend=True)
    return replace(shard, lost=tuple(first + slot for slot in salvaged.lost), doubtful=())


def _salvage(store: Store, spec: ArraySpec, group: int, known: Mapping[int, bytes], mend: bool) -> Salvaged:
    """What can be proven of a shard, which is put back if that is all of it."""
    root, file = store.root, shard_path(spec.name, group, len(spec.shape))
    first = group * root.rows_per_shard
    salvaged = salvage(
        store.path / file,
        spec,
        _entry(store, spec.name, group),
        first,
        root.group_rows(group),
        root.rows_per_shard,
        known,
    )
    whole = salvaged.whole()
    if mend and whole is not None:
        restore(store.path, {file: whole})
    return salvaged


def _entry(store: Store, array: str, group: int) -> ShardEntry:
    size, sha256 = store.root.integrity_columns
    position = size.attributes["arrays"].index(array)
    digest = bytes(store.index(sha256.path)[group, position]).hex()
    return ShardEntry(size=int(store.index(size.path)[group, position]), sha256=digest)


def plan_of(store: Store, origin: Origin, lost: Sequence[DamagedShard]) -> Plan:
    """The plan that computes every row that holds data and is lost in some array."""
    files: dict[int, str] = {}
    for shard in lost:
        for row in shard.lost:
            files.setdefault(row, shard.file)
    items = planned_rows(store, origin, files)
    return Plan("repair", store.root.recipe_digest, store.root.rows_per_shard, items)


def planned_rows(store: Store, origin: Origin, files: Mapping[int, str]) -> tuple[PlannedItem, ...]:
    """Those of some rows that hold data, ascending; `files` says what was damaged.

    Rows keep the category, group and split that they have; only the place in the source is looked up.
    """
    valid = store.index("valid")
    return tuple(_planned(store, origin, row, files[row]) for row in sorted(files) if valid[row])


def _planned(store: Store, origin: Origin, row: int, file: str) -> PlannedItem:
    shape_id, source = store.index("shape_id")[row], store.index("source")[row]
    now = origin.items.get(shape_id)
    found = now is not None and now.path == source
    item = SourceItem(
        shape_id=shape_id,
        path=source,
        group=store.index("group")[row],
        category=_name(store, "category", row),
        split=_name(store, "split", row),
        position=now.position if now is not None else None,
    )
    damaged = DamagedRow(
        file=file,
        source_sha256=store.index("source_sha256")[row],
        source_size=int(store.index("provenance/source_size")[row]),
        source_mtime_ns=int(store.index("provenance/source_mtime_ns")[row]),
        found=found,
    )
    return PlannedItem(row, item, damaged)


def _name(store: Store, column: str, row: int) -> str:
    return (*store.names(column), "")[int(store.index(column)[row])]


def carry_out(
    path: Path,
    plan: Plan,
    job: Job,
    workers: Workers,
    interrupted: Callable[[], bool],
    report: Callable[[int, int], None],
) -> None:
    """Compute the rows of a plan, and commit their row groups."""
    writer = StoreWriter.open(path)
    coordinator = Coordinator(
        writer,
        job,
        plan,
        workers,
        math.inf,
        interrupted,
        lambda progress: report(progress.done, progress.total),
    )
    coordinator.run()


def spans(rows: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """First and last of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for row in sorted(set(rows)):
        if runs and row == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], row
        else:
            runs.append((row, row))
    return tuple(runs)
