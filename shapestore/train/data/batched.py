"""What all datasets share: samples are asked for one by one or many at once, and gathered into one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from shapestore.errors import UsageError
from shapestore.train.data.buffers import Allocate, Buffers, Slot
from shapestore.train.data.handover import SharedBatch, SharedBuffers
from shapestore.train.data.visit import Visit

Batch = dict[str, torch.Tensor]
"""Fields by name, (n, ...) contiguous, the first axis the sample."""


class Gathered(Sequence[Batch]):
    """The samples of a batch, as torch expects a list of them; `collate` hands out the batch itself."""

    def __init__(self, batch: Batch, count: int) -> None:
        self.batch = batch
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: Any) -> Any:
        if not 0 <= position < self._count:
            raise IndexError(position)
        return {name: values[position] for name, values in self.batch.items()}


def collate(samples: Sequence[Batch]) -> Batch:
    """The batch that was gathered at once: nothing is copied. For `DataLoader(collate_fn=collate)`."""
    if not isinstance(samples, Gathered):
        raise UsageError(
            "collate takes what a dataset of shapestore gathers, not single samples: use it with a batch size or a "
            "batch sampler, and use torch's default collate_fn for datasets that are wrapped sample by sample."
        )
    return samples.batch


class BatchedDataset(Dataset[Batch], ABC):
    """A map-style dataset that gathers a whole batch at once.

    Samples are asked for by `Visit`, or by an int, which stands for its first visit in epoch 0. A sample is a function
    of its visit alone: of no other sample, process or call before it.
    """

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._shared = SharedBuffers()

    @property
    @abstractmethod
    def layout(self) -> Mapping[str, Slot]:
        """Shape, without the sample's axis, and dtype of every field of a batch."""

    @property
    @abstractmethod
    def ids(self) -> NDArray[Any]:
        """(n,) strings that name the shapes, different ones."""

    @property
    @abstractmethod
    def weights(self) -> NDArray[np.float64] | None:
        """(n,) weights that the samples are to be drawn by; None: each once an epoch."""

    @abstractmethod
    def balanced(self, column: str) -> NDArray[np.float64]:
        """(n,) weights, of sum 1, by which all values of an index array are drawn equally often.

        Parameters
        ----------
        column
            Such as `category`.

        Raises
        ------
        UsageError
            There is no such index array, or some shapes have no value in it.
        """

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Digests of all that a sample depends on but its visit, by what they are of."""

    @abstractmethod
    def fill(self, visits: Sequence[Visit], out: Mapping[str, NDArray[Any]]) -> None:
        """Gather samples.

        Parameters
        ----------
        visits
            n visits of indices that there are.
        out
            (n, ...) C-contiguous arrays by name, as `layout` says.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of shapes."""

    def __getitem__(self, visit: Visit | int) -> Batch:
        """One sample: fields without the sample's axis."""
        return {name: values[0] for name, values in self.__getitems__([visit]).batch.items()}

    def __getitems__(self, visits: Iterable[Visit | int]) -> Gathered:
        """The samples of a batch, gathered at once: in a worker process into shared memory, else into reused buffers.

        Raises
        ------
        IndexError
            There is no such sample.
        StoreDamaged, StoreChanged
            A sample cannot be read. It is never replaced by another.
        """
        if get_worker_info() is None:
            return self.gather(visits, self._buffers)
        gathered = self.gather(visits, self._shared)
        return Gathered(SharedBatch(gathered.batch, self._shared), len(gathered))

    def gather(self, visits: Iterable[Visit | int], allocate: Allocate) -> Gathered:
        """As `__getitems__`, into memory that `allocate` gives."""
        asked = [visit if isinstance(visit, Visit) else Visit(int(visit)) for visit in visits]
        count = len(self)
        for visit in asked:
            if not 0 <= visit.index < count:
                raise IndexError(f"sample {visit.index} of {count}")
        batch = {name: allocate(name, (len(asked), *shape), dtype) for name, (shape, dtype) in self.layout.items()}
        self.fill(asked, {name: tensor.numpy() for name, tensor in batch.items()})
        return Gathered(batch, len(asked))

    def __getstate__(self) -> dict[str, Any]:
        # A process keeps its own buffers.
        return {name: value for name, value in vars(self).items() if name not in ("_buffers", "_shared")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _buffers=Buffers(), _shared=SharedBuffers())
