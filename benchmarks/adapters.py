# ruff: noqa: D102 - every adapter has the same methods, and `Adapter` describes them
"""One small class a competitor: how it lays the same rows out on disk, and how it is asked for them.

Every adapter reads single rows (`load`, `into`) and batches (`gather`, `gather_fresh`) of one (n, k, 3) float32 array;
`first` is the number of leading points that is wanted of every row, k for all. Where a library has several ways to read
a row, the adapter takes the one that measured fastest here; its docstring says which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorstore
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.core.buffer.cpu import NDBuffer

import shapestore
from shapestore.schemas.recipe_file import load_recipe
from shapestore.store.entries import GroupCommit, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.shard_map import Checksums
from shapestore.store.writer import StoreWriter

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """The data set: what every competitor stores, and what its answers are compared with."""

    values: Floats
    """(rows, points, 3), within [-1, 1]."""
    rows_per_shard: int
    """Rows of one shard of the sharded layouts."""
    folder: Path
    """Where the competitors put their files."""

    @property
    def points(self) -> int:
        """Points of a row."""
        return int(self.values.shape[1])

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.values) // self.rows_per_shard)


class Adapter(ABC):
    """A competitor with its own copy of `source`, written when it is made."""

    gathers_only = False
    """Has nothing of its own for single rows, so it is left out of their tables."""
    whole_rows_only = False
    """Has no fair way to take a part of a row, so it is left out of the prefix table."""

    @abstractmethod
    def load(self, row: int, first: int) -> Floats:
        """(first, 3): the start of one row, in memory that was not used before."""

    def into(self, row: int, first: int, out: Floats) -> None:
        """Put the start of one row into `out`, (first, 3)."""
        out[...] = self.load(row, first)

    def gather(self, rows: Rows, first: int, out: Floats) -> None:
        """Put the start of n rows into `out`, (n, first, 3)."""
        for position, row in enumerate(rows.tolist()):
            self.into(row, first, out[position])

    def gather_fresh(self, rows: Rows, first: int) -> Floats:
        """(n, first, 3): the start of n rows, in memory that was not used before."""
        out = np.empty((len(rows), first, 3), np.float32)
        self.gather(rows, first, out)
        return out


class Shapestore(Adapter):
    """shapestore: a view copied for one row, `Store.read` for a batch."""

    def __init__(self, source: Source, checksums: Checksums) -> None:
        path = source.folder / "shapestore.zarr"
        if not path.exists():
            write_store(path, source)
        self._store = shapestore.open(path, checksums=checksums)
        self._points = self._store["pc_xyz"]

    def load(self, row: int, first: int) -> Floats:
        found: Floats = self._points[row][:first].copy()
        return found

    def into(self, row: int, first: int, out: Floats) -> None:
        out[...] = self._points[row][:first]

    def gather(self, rows: Rows, first: int, out: Floats) -> None:
        self._store.read(rows, ["pc_xyz"], out={"pc_xyz": out}, first=first)

    def gather_fresh(self, rows: Rows, first: int) -> Floats:
        found: Floats = self._store.read(rows, ["pc_xyz"], first=first)["pc_xyz"]
        return found


class ZarrSharded(Adapter):
    """zarr-python on the layout that our store has. A batch is a loop: `oindex` takes 1.3 times as long on shards."""

    sharded = True

    def __init__(self, source: Source, crc32c: bool) -> None:
        self._array: Any = zarr.open_array(write_zarr(source, self.sharded, crc32c), mode="r")

    def load(self, row: int, first: int) -> Floats:
        found: Floats = self._array[row, :first]
        return found

    def into(self, row: int, first: int, out: Floats) -> None:
        chosen = (slice(row, row + 1), slice(0, first))
        self._array.get_basic_selection(chosen, out=NDBuffer.from_numpy_array(out[np.newaxis]))


class ZarrFiles(ZarrSharded):
    """zarr-python with a chunk file a row, unsharded. A batch is one orthogonal selection, here faster than a loop."""

    sharded = False

    def gather(self, rows: Rows, first: int, out: Floats) -> None:
        self._array.get_orthogonal_selection((rows, slice(0, first)), out=NDBuffer.from_numpy_array(out))

    def gather_fresh(self, rows: Rows, first: int) -> Floats:
        found: Floats = self._array.oindex[rows, :first]
        return found


class TensorStore(Adapter):
    """tensorstore on the layout that our store has; a batch is one indexed read, straight into the buffer.

    `cache_bytes` 0 is the library's default: every read goes to the file. With a cache that holds all rows, and no
    look at the files again, it reads decoded chunks in memory.
    """

    def __init__(self, source: Source, crc32c: bool, cache_bytes: int) -> None:
        limits = {"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}}
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": cache_bytes}, **limits})
        path = str(write_zarr(source, sharded=True, crc32c=crc32c))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
        self._array: Any = tensorstore.open(
            spec, read=True, context=context, recheck_cached=False if cache_bytes else "open"
        ).result()
        self._target: tuple[Floats, Any] | None = None

    def load(self, row: int, first: int) -> Floats:
        found: Floats = self._array[row, :first].read().result()
        return found

    def into(self, row: int, first: int, out: Floats) -> None:
        self._view(out).write(self._array[row, :first]).result()

    def gather(self, rows: Rows, first: int, out: Floats) -> None:
        self._view(out).write(self._array[rows, :first]).result()

    def gather_fresh(self, rows: Rows, first: int) -> Floats:
        found: Floats = self._array[rows, :first].read().result()
        return found

    def _view(self, out: Floats) -> Any:
        """The buffer as a tensorstore, made once a buffer."""
        if self._target is None or self._target[0] is not out:
            self._target = out, tensorstore.array(out, copy=False, write=True)
        return self._target[1]


class Hdf5(Adapter):
    """h5py; `dataset[row]` and a copy are faster than `read_direct` into the buffer, four times so at 24 KB.

    `layout` is `chunked` (one row a chunk), `contiguous`, or `fletcher32` (chunked, with checksums). The chunk cache is
    off: whole chunks then go straight to the caller, and a checksum is compared at every read.
    """

    def __init__(self, source: Source, layout: str) -> None:
        path = source.folder / f"{layout}.h5"
        chunks = None if layout == "contiguous" else (1, source.points, 3)
        with h5py.File(path, "w") as file:
            file.create_dataset("xyz", data=source.values, chunks=chunks, fletcher32=layout == "fletcher32")
        self._array: Any = h5py.File(path, "r", rdcc_nbytes=0)["xyz"]
        self._points = source.points

    def load(self, row: int, first: int) -> Floats:
        found: Floats = self._array[row] if first == self._points else self._array[row, :first]
        return found


class Npz(Adapter):
    """One uncompressed `.npz` a row. The zip format always has a CRC, and Python always compares it."""

    def __init__(self, source: Source) -> None:
        folder = source.folder / "npz"
        folder.mkdir()
        self._paths = [str(folder / f"{row}.npz") for row in range(len(source.values))]
        for path, values in zip(self._paths, source.values, strict=True):
            np.savez(path, xyz=values)

    def load(self, row: int, first: int) -> Floats:
        with np.load(self._paths[row]) as file:
            found: Floats = file["xyz"][:first]
        return found


class Npy(Adapter):
    """One `.npy` a row: `np.load` for a new array; into a buffer straight from the file, its header skipped unread."""

    def __init__(self, source: Source) -> None:
        folder = source.folder / "npy"
        folder.mkdir()
        self._paths = [str(folder / f"{row}.npy") for row in range(len(source.values))]
        for path, values in zip(self._paths, source.values, strict=True):
            np.save(path, values)
        self._header = Path(self._paths[0]).stat().st_size - source.values[0].nbytes

    def load(self, row: int, first: int) -> Floats:
        found: Floats = np.load(self._paths[row])[:first]
        return found

    def into(self, row: int, first: int, out: Floats) -> None:  # noqa: ARG002 - `out` has the length
        with open(self._paths[row], "rb", buffering=0) as file:  # noqa: PTH123 - Path.open costs more than the read
            file.seek(self._header)
            file.readinto(out.data)


class RamLoop(Adapter):
    """All rows in memory, copied one after another."""

    def __init__(self, source: Source) -> None:
        self._values = source.values

    def load(self, row: int, first: int) -> Floats:
        return self._values[row, :first].copy()

    def into(self, row: int, first: int, out: Floats) -> None:
        out[...] = self._values[row, :first]


class RamTake(RamLoop):
    """All rows in memory, `numpy.take`. Of a prefix it would copy the whole array first, so that is left out."""

    gathers_only = True
    whole_rows_only = True

    def gather(self, rows: Rows, first: int, out: Floats) -> None:  # noqa: ARG002
        # Any mode but `clip` goes through a buffer of its own (documentation of numpy.take).
        np.take(self._values, rows, axis=0, out=out, mode="clip")

    def gather_fresh(self, rows: Rows, first: int) -> Floats:  # noqa: ARG002
        return np.take(self._values, rows, axis=0)


class RamIndexSelect(RamLoop):
    """All rows in a tensor, `torch.index_select`."""

    gathers_only = True

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._tensor = torch.from_numpy(source.values)

    def gather(self, rows: Rows, first: int, out: Floats) -> None:
        torch.index_select(self._tensor[:, :first], 0, torch.from_numpy(rows), out=torch.from_numpy(out))

    def gather_fresh(self, rows: Rows, first: int) -> Floats:
        found: Floats = torch.index_select(self._tensor[:, :first], 0, torch.from_numpy(rows)).numpy()
        return found


def write_zarr(source: Source, sharded: bool, crc32c: bool) -> Path:
    """Write `source` with zarr-python, one row a chunk, unless it is there already."""
    path = source.folder / f"{'sharded' if sharded else 'files'}{'-crc32c' if crc32c else ''}.zarr"
    if not path.exists():
        array = zarr.create_array(
            path,
            shape=source.values.shape,
            dtype=source.values.dtype,
            chunks=(1, source.points, 3),
            shards=(source.rows_per_shard, source.points, 3) if sharded else None,
            compressors=[Crc32cCodec()] if crc32c else None,
            config={"write_empty_chunks": True},
        )
        array[...] = source.values
    return path


def write_store(path: Path, source: Source) -> None:
    """Write `source` as `pc_xyz` of a new store, one commit for all row groups."""
    settings = [f"points.count={source.points}", "points.normals=false", "points.fps_order=0"]
    with WriterLock(path):
        writer = StoreWriter.create(path, load_recipe("points", settings), "meshes")
        root = writer.root.model_copy(update={"rows_per_shard": source.rows_per_shard})
        writer.commit(root, list(_row_groups(path, writer, source)))
        (work_folder(path) / "sealing").rmdir()


def _row_groups(path: Path, writer: StoreWriter, source: Source) -> Iterator[GroupCommit]:
    work, schema, size = work_folder(path), writer.root.content, source.rows_per_shard
    for group in range(source.shards):
        rows = range(group * size, min((group + 1) * size, len(source.values)))
        with PartWriter(work / "0.part", schema) as part_file:
            for row in rows:
                part_file.append(row, {"pc_xyz": source.values[row]})
        entries = tuple(
            RowEntry(row=row, shape_id=f"{row:06d}", group=str(row), source=f"{row}.obj", seed=row) for row in rows
        )
        part = Part(file="0.part", entries=entries, sizes=part_file.sizes)
        task = SealTask(group=group, first_row=rows.start, rows=len(rows), parts=(part,))
        shards = seal(path, work, schema, size, task)
        (work / "0.part").unlink()
        yield GroupCommit(group, {entry.row: entry for entry in entries}, shards)
