"""Spoil a store in one way and leave it whole: rows are rewritten by the code that wrote them in the first place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from shapestore.schemas.array import ArraySpec
from shapestore.store.entries import GroupCommit
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal, sealed_path
from shapestore.store.reader import Store, open_store
from shapestore.store.writer import StoreWriter

Arrays = Mapping[str, np.ndarray]

Change = Callable[[Store, int], Mapping[str, object]]
"""Given the healthy store and a row: what that row holds instead, by array; of `split` and the like the name."""


def spoil(store: Path, out: Path, change: Change, rows: Iterable[int] | None = None) -> Path:
    """Copy a store and change some rows of the copy (None: all that hold data), in one commit."""
    healthy = open_store(store)
    chosen = healthy.rows().tolist() if rows is None else sorted(rows)
    changes = {row: dict(change(healthy, row)) for row in chosen}
    shutil.copytree(store, out)
    with WriterLock(out):
        writer = StoreWriter.open(out)
        groups = sorted({row // writer.root.rows_per_shard for row in chosen})
        writer.commit(
            writer.root, [_rewritten(writer, healthy, group, changes) for group in groups], _columns(writer, changes)
        )
    return out


def values_of(**changes: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The change of each array by a function of its values alone."""
    return lambda store, row: {name: function(store.row(name, row)) for name, function in changes.items()}


def swapped(names: Iterable[str], partner: Callable[[int], int]) -> Change:
    """Some arrays of a row are those of its partner."""
    return lambda store, row: {name: store.row(name, partner(row)) for name in names}


def _rewritten(
    writer: StoreWriter, healthy: Store, group: int, changes: Mapping[int, Mapping[str, object]]
) -> GroupCommit:
    """One row group with its changed rows, as a retry leaves it."""
    root, work = writer.root, work_folder(writer.path).absolute()
    first, rows = group * root.rows_per_shard, root.group_rows(group)
    file = work / f"part-{group}"
    with PartWriter(file, root.content) as part:
        for row in sorted(set(changes) & set(range(first, first + rows))):
            part.append(row, {spec.name: _row(spec, healthy, row, changes[row]) for spec in root.content.data_arrays})
    task = SealTask(
        group=group,
        first_row=first,
        rows=rows,
        parts=(Part(file=file.name, entries=(), sizes=part.sizes),),
        committed=writer.shards(group),
        rows_committed=rows,
    )
    shards = seal(writer.path.absolute(), work, root.content, root.rows_per_shard, task)
    file.unlink()
    return GroupCommit(group, {}, shards, {name: sealed_path(work, group, name) for name in shards})


def _row(spec: ArraySpec, healthy: Store, row: int, changed: Mapping[str, object]) -> np.ndarray:
    values = np.ascontiguousarray(changed.get(spec.name, healthy.row(spec.name, row)), spec.dtype)
    assert values.shape == spec.shape, f"{spec.name}: {values.shape}, not {spec.shape}"
    return values


def _columns(writer: StoreWriter, changes: Mapping[int, Mapping[str, object]]) -> dict[str, np.ndarray]:
    """Whole index arrays with the changed values."""
    data = {spec.name for spec in writer.root.content.data_arrays}
    names = {name for each in changes.values() for name in each} - data
    columns = {name: np.array(writer.column(name)) for name in sorted(names)}
    for row, each in changes.items():
        for name in names & each.keys():
            codes = writer.root.codes.get(name)
            columns[name][row] = each[name] if codes is None else codes.index(str(each[name]))
    return columns
