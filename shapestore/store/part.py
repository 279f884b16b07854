"""Parts: computed rows on their way into shards.

A task writes the rows that it computed one after another into a part file, already encoded. Sealing a row group copies
the rows of its parts into one shard file for every array. So many tasks share the work of a row group, one of them
writes it, and neither holds more than one record in memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray
from pydantic import Field

from shapestore.errors import StoreDamaged
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.durable import move, sync_folder, sync_folders_up_to
from shapestore.store.entries import RowEntry
from shapestore.store.layout import shard_path
from shapestore.store.rowcodec import checksum_holds, fill_row, row_encoder
from shapestore.store.salvage import Salvaged, salvage
from shapestore.store.shard import ShardEntry, ShardWriter
from shapestore.store.shard_map import ShardMap, ShardMismatch
from shapestore.store.steps import reached


class Part(Strict):
    """A finished part file: consecutive planned rows, those that failed included."""

    file: str = Field(pattern=r"^\w[\w.-]*$")
    """Name of the file in the work folder; it does not exist where every row failed."""
    entries: tuple[RowEntry, ...]
    """Every row of the part, ascending."""
    sizes: Mapping[int, tuple[int, ...]]
    """Row to the encoded bytes of each of its arrays, in the order of the schema; only rows that hold data."""


class PartWriter:
    """Writes one part file."""

    def __init__(self, path: Path, schema: StoreSchema) -> None:
        self._path = path
        # A worker that outlives a killed coordinator must not touch what its successor writes.
        self._pending = path.with_name(f"{path.name}.{os.getpid()}")
        self._encoders = [(spec.name, row_encoder(spec)) for spec in schema.data_arrays]
        self._file = self._pending.open("wb")
        self.sizes: dict[int, tuple[int, ...]] = {}
        """Row to the encoded bytes of each of its arrays, so far."""

    def append(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Encode and write all arrays of one row."""
        chunks = [encode(arrays[name]) for name, encode in self._encoders]
        for chunk in chunks:
            self._file.write(chunk)
        self.sizes[row] = tuple(len(chunk) for chunk in chunks)
        reached("row written")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the file is on disk, and give it its name; drop it if it was not finished."""
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None and self.sizes:
            reached("part written")
            self._pending.replace(self._path)
            reached("part named")
            sync_folder(self._path.parent)
        else:
            self._pending.unlink()


class SealTask(Strict):
    """One row group that is ready to be written."""

    group: int
    first_row: int
    """First row of the group in the store."""
    rows: int
    """Rows that the group is to have."""
    parts: tuple[Part, ...]
    """Parts whose rows replace or follow what the group has."""
    committed: Mapping[str, ShardEntry] = {}
    """Shards that the group has already, by array: rows that are in no part are taken from them."""
    rows_committed: int = 0
    """Rows of those shards."""
    empty: tuple[int, ...] = ()
    """Rows of those shards that hold no data, so that nothing is lost with them."""


def seal(store: Path, work: Path, schema: StoreSchema, rows_per_shard: int, task: SealTask) -> dict[str, ShardEntry]:
    """Write the shards of one row group.

    New groups go straight to their place in the store, where no reader sees them before the commit. Shards that replace
    committed ones are left in `sealed_path`, for the commit to put in place. Of committed shards only what is needed is
    read, and of damaged ones only what can be proven.

    Raises
    ------
    StoreDamaged
        A part is damaged, and has been deleted so that its rows are computed once more; or a row of a committed shard
        that is in no part.
    """
    folder = work / "sealing"
    folder.mkdir(parents=True, exist_ok=True)
    specs = schema.data_arrays
    pending = {spec.name: folder / f"{task.group}.{spec.name}.{os.getpid()}" for spec in specs}
    writers = [ShardWriter(pending[s.name], s.name, task.first_row, rows_per_shard) for s in specs]
    try:
        _copy_rows(store, work, schema, rows_per_shard, task, writers)
        entries = {spec.name: writer.finish() for spec, writer in zip(specs, writers, strict=True)}
    finally:
        for writer in writers:
            writer.close()
    reached("shards written")
    folders = set()
    for spec in specs:
        final = store / shard_path(spec.name, task.group, len(spec.shape))
        if task.committed:
            final = sealed_path(work, task.group, spec.name)
        move(pending[spec.name], final, work if task.committed else store)
        folders.add(final.parent)
        reached("shard named")
    sync_folders_up_to(folders, work if task.committed else store)
    reached("shards durable")
    return entries


def sealed_path(work: Path, group: int, array: str) -> Path:
    """Where a sealed shard waits that will replace a committed one."""
    return work / "sealed" / str(group) / array


def _copy_rows(
    store: Path,
    work: Path,
    schema: StoreSchema,
    rows_per_shard: int,
    task: SealTask,
    writers: Sequence[ShardWriter],
) -> None:
    """Every row of the group in turn: from its part, else from the committed shard, else empty."""
    specs = schema.data_arrays
    fills = [row_encoder(spec)(fill_row(spec)) for spec in specs]
    held = [_CommittedShard(store, spec, rows_per_shard, task) for spec in specs]
    sizes = {row: (part.file, each) for part in task.parts for row, each in part.sizes.items()}
    planned = {entry.row for part in task.parts for entry in part.entries}
    with ExitStack() as stack:
        files = {name: stack.enter_context((work / name).open("rb")) for name in {name for name, _ in sizes.values()}}
        for slot in range(task.rows):
            row = task.first_row + slot
            chunks: Sequence[bytes | memoryview] = fills
            if row in sizes:
                name, lengths = sizes[row]
                chunks = [files[name].read(length) for length in lengths]
                if not all(map(checksum_holds, chunks)):  # a part that was cut short has no whole chunk here
                    (work / name).unlink()
                    raise StoreDamaged(
                        f"{work / name}, row {row}: damaged on its way into {store}. Run the same command again: it "
                        "computes the rows of this file once more."
                    )
            elif slot < task.rows_committed and row not in planned:
                chunks = [shard.chunk(slot) for shard in held]
            for writer, chunk in zip(writers, chunks, strict=True):
                writer.append(chunk)


class _CommittedShard:
    """Rows of a committed shard, which is opened only if one is needed."""

    def __init__(self, store: Path, spec: ArraySpec, rows_per_shard: int, task: SealTask) -> None:
        self._store, self._spec, self._rows_per_shard, self._task = store, spec, rows_per_shard, task
        self._fill = row_encoder(spec)(fill_row(spec))

    def chunk(self, slot: int) -> bytes | memoryview:
        """One row with its checksum.

        Raises
        ------
        StoreDamaged
            It is lost.
        """
        chunk = self._rows.chunk(slot)
        if checksum_holds(chunk):
            return chunk
        row = self._task.first_row + slot
        if row in self._task.empty:
            return self._fill
        raise StoreDamaged(
            f"{self._path} is lost or damaged ({self._spec.name}, row {row}). Mend it with: shapestore repair "
            f"{self._store}",
            self._spec.name,
            range(row, row + 1),
        )

    @cached_property
    def _path(self) -> Path:
        return self._store / shard_path(self._spec.name, self._task.group, len(self._spec.shape))

    @cached_property
    def _rows(self) -> ShardMap | Salvaged:
        task, entry = self._task, self._task.committed[self._spec.name]
        place = (task.first_row, task.rows_committed, self._rows_per_shard)
        try:
            return ShardMap(self._path, self._spec, entry, *place)
        except (ShardMismatch, OSError):
            known = {row - task.first_row: self._fill for row in task.empty}
            return salvage(self._path, self._spec, entry, *place, known)
