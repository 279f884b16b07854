"""`loader`: the batches of a dataset in the order of a sampler, read by this process or by torch's workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Literal, cast

import torch
from torch.utils.data import DataLoader

from shapestore.errors import UsageError
from shapestore.train.data.batched import Batch, BatchedDataset, collate
from shapestore.train.data.buffers import pinned
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.data.visit import Visit


class Direct:
    """Reads in this process. torch's loader, without workers, costs a small batch a tenth more, and copies to pin."""

    def __init__(
        self, dataset: BatchedDataset, sampler: Iterable[list[Visit]] | Iterable[list[int]], pin: bool
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.pin = pin

    def __len__(self) -> int:
        """Batches of one iteration, where the sampler says so."""
        return len(cast("Sized", self.sampler))

    def __iter__(self) -> Iterator[Batch]:
        for visits in self.sampler:
            gathered = self.dataset.gather(visits, pinned) if self.pin else self.dataset.__getitems__(visits)
            yield gathered.batch


def loader(
    dataset: BatchedDataset,
    sampler: Iterable[list[Visit]] | Iterable[list[int]],
    *,
    workers: int = 0,
    device: torch.device | str = "cpu",
    context: Literal["fork", "forkserver", "spawn"] | None = None,
) -> DataLoader[Batch] | Direct:
    """Batches as they are gathered, with no further copy. Each iteration is one of the sampler's.

    torch's global random state is neither used nor changed.

    Parameters
    ----------
    dataset, sampler
        What is read, and a sampler of batches: a `ShapeSampler`, or torch's `BatchSampler`.
    workers
        Processes that read ahead, under torch's DataLoader; they live as long as the loader. 0: this one reads when it
        is asked.
    device
        Where the batches go: for a GPU they lie in pinned memory, from which `to_device` copies in the background.
    context
        How workers start; as torch does it if not given.

    Raises
    ------
    UsageError
        The sampler is one of another dataset, and would certify what is not read.
    """
    if isinstance(sampler, ShapeSampler) and sampler.dataset is not dataset:
        now, its = dataset.identity(), sampler.dataset.identity()
        if differing := sorted(name for name in now.keys() | its.keys() if now.get(name) != its.get(name)):
            raise UsageError(f"the sampler is one of another dataset, with other: {', '.join(differing)}.")
    pin = torch.device(device).type == "cuda"
    if not workers:
        return Direct(dataset, sampler, pin)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=pin,
        multiprocessing_context=context,
        generator=torch.Generator(),
    )


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """A batch on a device. To a GPU the copy is only begun: what runs there next waits for it."""
    cuda = torch.device(device).type == "cuda"
    return {name: values.to(device, non_blocking=cuda) for name, values in batch.items()}
