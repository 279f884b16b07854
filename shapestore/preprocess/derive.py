"""Derive: add an array to a store that follows from arrays already there, row group by row group."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from shapestore.errors import RecordInvalid, UsageError
from shapestore.preprocess.derivations import DERIVATIONS, declare
from shapestore.preprocess.interrupts import interrupts
from shapestore.preprocess.plan import Plan
from shapestore.preprocess.workers import Workers, run_all
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.durable import move, sync_folders_up_to
from shapestore.store.entries import GroupCommit
from shapestore.store.layout import shard_path, work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.reader import Store, open_store
from shapestore.store.root import read_root
from shapestore.store.rowcodec import fill_row, row_encoder
from shapestore.store.shard import ShardEntry, ShardWriter
from shapestore.store.steps import reached
from shapestore.store.writer import StoreWriter


def derive(path: Path, name: str, workers: Callable[[], Workers], report: Callable[[int, int], None]) -> None:
    """Compute the array `name` for every valid row, and commit it.

    Parameters
    ----------
    path
        The store.
    name
        One of `DERIVATIONS`.
    workers
        Makes the workers to run on.
    report
        Called with the number of finished row groups and of all.

    Raises
    ------
    UsageError
        The array is there already, or cannot be derived from what is there.
    RecordInvalid
        A derived row breaks a rule; nothing is committed.
    StoppedEarly
        Interrupted; nothing is committed.
    """
    with WriterLock(path):
        if Plan.load(work_folder(path)) is not None:
            raise UsageError(f"{path} has an unfinished ingest. Finish it first: run the same ingest command again.")
        writer = StoreWriter.open(path)
        schema = declare(writer.root.content, name)
        try:
            with interrupts() as interrupted, workers() as running:
                entries = _all_groups(path, name, schema, writer.root.row_groups, running, interrupted, report)
        except BaseException:
            shutil.rmtree(path / name, ignore_errors=True)
            raise
        groups = [GroupCommit(group, {}, {name: entry}) for group, entry in sorted(entries.items())]
        writer.commit(writer.root.model_copy(update={"content": schema}), groups)


def _all_groups(
    path: Path,
    name: str,
    schema: StoreSchema,
    count: int,
    workers: Workers,
    interrupted: Callable[[], bool],
    report: Callable[[int, int], None],
) -> dict[int, ShardEntry]:
    commit = read_root(path)[0].sha256
    tasks = (((group,), derive_group, (path.absolute(), commit, name, schema, group)) for group in range(count))
    entries: dict[int, ShardEntry] = {}
    for (group,), entry in run_all(workers, tasks, interrupted):
        entries[group] = entry
        report(len(entries), count)
    return entries


def derive_group(path: Path, commit: str, name: str, schema: StoreSchema, group: int) -> ShardEntry:
    """Compute and write the shard of one row group; it is no part of the store until the commit."""
    store = _store(path, commit)
    spec, derivation = schema.by_name[name], DERIVATIONS[name]
    rows_per_shard = store.root.rows_per_shard
    first = group * rows_per_shard
    encode, valid = row_encoder(spec), store.index("valid")
    rules = [rule for rule in schema.rules if name in rule.arrays]
    pending = work_folder(path) / f"derive-{name}-{group}"
    writer = ShardWriter(pending, name, first, rows_per_shard)
    try:
        for row in range(first, first + store.root.group_rows(group)):
            if not valid[row]:
                writer.append(encode(fill_row(spec)))
                continue
            arrays = {needed: store.row(needed, row) for needed in derivation.needs}
            arrays[name] = derivation.compute(arrays, spec.shape[0])
            single = {key: value[None] for key, value in arrays.items()}
            place = [str(store.index("shape_id")[row])]
            problems = [problem for rule in rules for problem in rule.problems(single, place)]
            if problems:
                raise RecordInvalid(f"derived {name}", problems)
            writer.append(encode(arrays[name]))
        entry = writer.finish()
    finally:
        writer.close()
    reached("shards written")
    final = path / shard_path(name, group, len(spec.shape))
    move(pending, final, path)
    reached("shard named")
    sync_folders_up_to({final.parent}, path)
    reached("shards durable")
    return entry


@lru_cache(maxsize=1)
def _store(path: Path, commit: str) -> Store:
    del commit  # another commit is another store
    return open_store(path)
