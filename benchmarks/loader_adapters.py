# ruff: noqa: D102 - every adapter has the same methods, and `Loader` describes them
"""One small class a competitor: how it keeps the same rows, and the shuffled batches that it makes of them.

Every adapter writes the rows when it is made, with `row` beside them, and gives an epoch of batches in the way that its
documentation shows for shuffled training. Libraries that need not be installed are imported when their class is made.
"""

from __future__ import annotations

import io
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import shapestore
from benchmarks.adapters import Adapter, Hdf5, Source, write_store
from shapestore.train.data.dataset import ROW, ShapeDataset
from shapestore.train.data.loader import loader
from shapestore.train.data.sampler import ShapeSampler

FIELD = "pc_xyz"
BATCH = 64
SHUFFLE_BUFFER = 1000
"""Samples that a stream shuffles among, beside its shards: as the documentations of webdataset and datasets have it."""

Batch = dict[str, torch.Tensor]
"""`pc_xyz` (n, points, 3) float32 and `row` (n,) int64."""


class Loader(ABC):
    """A competitor with its own copy of `source`, written when it is made."""

    @abstractmethod
    def epoch(self) -> Iterator[Batch]:
        """Batches of the next epoch, shuffled anew."""


class Shapestore(Loader):
    """Ours: a `ShapeDataset` in the order of a `ShapeSampler`, checksums compared at the first touch."""

    def __init__(self, source: Source, workers: int) -> None:
        path = source.folder / "shapestore.zarr"
        if not path.exists():
            write_store(path, source)
        dataset = ShapeDataset(shapestore.open(path), [FIELD])
        self._loader = loader(dataset, ShapeSampler(dataset, BATCH), workers=workers, context="spawn")

    def epoch(self) -> Iterator[Batch]:
        return iter(self._loader)


class Gathered(Dataset[Any]):
    """Rows of an array library as a dataset; a batch is asked for at once, which spares it torch's collation."""

    def __init__(self, adapter: Adapter, source: Source) -> None:
        self._adapter, self._rows, self._points = adapter, len(source.values), source.points

    def __len__(self) -> int:
        return self._rows

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        asked = np.asarray(rows, np.int64)
        return {
            FIELD: torch.from_numpy(self._adapter.gather_fresh(asked, self._points)),
            ROW: torch.from_numpy(asked),
        }


class Hdf5Sent(Hdf5):
    """h5py's files cannot be sent to workers: each opens its own."""

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._array.file.filename, "points": self._points}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._array = h5py.File(state["path"], "r", rdcc_nbytes=0)["xyz"]
        self._points = state["points"]


class MapStyle(Loader):
    """An array library, by its fastest way to read rows (`adapters.py`), in torch's DataLoader with `shuffle=True`."""

    def __init__(self, adapter: Adapter, source: Source, workers: int) -> None:
        self._loader = torch_loader(Gathered(adapter, source), workers, shuffle=True, collate_fn=as_it_is)

    def epoch(self) -> Iterator[Batch]:
        return iter(self._loader)


class HfDatasets(Loader):
    """Hugging Face datasets, torch format: memory-mapped Arrow files, a map-style dataset, `shuffle=True`."""

    def __init__(self, source: Source, workers: int) -> None:
        dataset = _arrow(source).with_format("torch")
        self._loader = torch_loader(dataset, workers, shuffle=True)

    def epoch(self) -> Iterator[Batch]:
        return iter(self._loader)


class HfIterable(Loader):
    """Hugging Face datasets as a stream of shards with a shuffle buffer: what its documentation calls faster."""

    def __init__(self, source: Source, workers: int) -> None:
        stream = _arrow(source).to_iterable_dataset(num_shards=source.shards)
        self._dataset = stream.shuffle(seed=0, buffer_size=SHUFFLE_BUFFER).with_format("torch")
        self._loader = torch_loader(self._dataset, workers)
        self._epoch = 0

    def epoch(self) -> Iterator[Batch]:
        self._dataset.set_epoch(self._epoch)
        self._epoch += 1
        return iter(self._loader)


class MosaicStreaming(Loader):
    """mosaicml-streaming: MDS shards, `shuffle=True` and the batch size, in torch's DataLoader."""

    def __init__(self, source: Source, workers: int) -> None:
        from streaming import MDSWriter, StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        folder = source.folder / "mds"
        if not folder.exists():
            columns = {FIELD: f"ndarray:float32:{source.points},3", ROW: "int"}
            with MDSWriter(out=str(folder), columns=columns) as out:
                for row, values in enumerate(source.values):
                    out.write({FIELD: values, ROW: row})
        clean_stale_shared_memory()
        dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
        self._loader = torch_loader(dataset, workers)

    def epoch(self) -> Iterator[Batch]:
        return iter(self._loader)


class LitData(Loader):
    """litdata: optimised chunks of 64 MB, `shuffle=True`, its own loader."""

    def __init__(self, source: Source, workers: int) -> None:
        # Its cache lies below the home folder unless it is told otherwise.
        os.environ.setdefault("DATA_OPTIMIZER_CACHE_FOLDER", str(source.folder / "litdata-cache"))
        os.environ.setdefault("DATA_OPTIMIZER_DATA_CACHE_FOLDER", str(source.folder / "litdata-data-cache"))
        from litdata import StreamingDataLoader, StreamingDataset, optimize

        folder = source.folder / "litdata"
        if not folder.exists():
            optimize(
                fn=_Sample(source),
                inputs=list(range(len(source.values))),
                output_dir=str(folder),
                chunk_bytes="64MB",
                num_workers=1,
            )
        dataset = StreamingDataset(str(folder), shuffle=True, drop_last=False)
        self._loader = StreamingDataLoader(dataset, batch_size=BATCH, **_workers(workers))

    def epoch(self) -> Iterator[Batch]:
        return iter(self._loader)


class WebDataset(Loader):
    """webdataset: tar shards in shuffled order, a shuffle buffer, batches made within the pipeline."""

    def __init__(self, source: Source, workers: int) -> None:
        import webdataset

        folder = source.folder / "tar"
        if not folder.exists():
            folder.mkdir()
            pattern = str(folder / "%06d.tar")
            with webdataset.ShardWriter(pattern, maxcount=source.rows_per_shard, verbose=0) as out:
                for row, values in enumerate(source.values):
                    out.write({"__key__": f"{row:06d}", "npy": _npy(values), "cls": str(row).encode()})
        shards = [str(path) for path in sorted(folder.glob("*.tar"))]
        dataset = (
            webdataset.WebDataset(shards, shardshuffle=len(shards))
            .shuffle(SHUFFLE_BUFFER)
            .decode()
            .to_tuple("npy", "cls")
            .batched(BATCH, partial=True)
        )
        self._loader = webdataset.WebLoader(dataset, batch_size=None, **_workers(workers))

    def epoch(self) -> Iterator[Batch]:
        for values, rows in self._loader:
            yield {FIELD: torch.as_tensor(values), ROW: torch.as_tensor(rows)}


def torch_loader(dataset: Any, workers: int, **options: Any) -> DataLoader[Any]:
    """Torch's loader with batches of 64 and the options of `_workers`."""
    return DataLoader(dataset, batch_size=BATCH, **_workers(workers), **options)


def _workers(count: int) -> dict[str, Any]:
    """Options that are the same for everybody: workers that stay, and are spawned, as not all libraries bear a fork."""
    if not count:
        return {"num_workers": 0}
    return {"num_workers": count, "persistent_workers": True, "multiprocessing_context": "spawn"}


def as_it_is(batch: Batch) -> Batch:
    """What was gathered at once needs no collation."""
    return batch


class _Sample:
    """What litdata's processes make of a row; rows are read from a file, as the processes start with nothing."""

    def __init__(self, source: Source) -> None:
        with tempfile.NamedTemporaryFile(dir=source.folder, suffix=".npy", delete=False) as file:
            np.save(file, source.values)
        self._path = Path(file.name)

    def __call__(self, row: int) -> dict[str, Any]:
        return {FIELD: np.array(np.load(self._path, mmap_mode="r")[row]), ROW: row}


def _arrow(source: Source) -> Any:
    """The rows as Arrow files on disk, mapped."""
    from datasets import Array2D, Features, Value, load_from_disk
    from datasets import Dataset as Arrow

    folder = source.folder / "arrow"
    if not folder.exists():
        features = Features({FIELD: Array2D((source.points, 3), "float32"), ROW: Value("int64")})
        rows = {FIELD: list(source.values), ROW: list(range(len(source.values)))}
        Arrow.from_dict(rows, features=features).save_to_disk(str(folder))
    return load_from_disk(str(folder))


def _npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()
