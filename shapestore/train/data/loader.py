"""`loader`: torch's DataLoader, with the arguments that suit a dataset of shapestore."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch.utils.data import DataLoader, Dataset

from shapestore.train.data.batched import Batch, BatchedDataset, Gathered, collate
from shapestore.train.data.buffers import pinned
from shapestore.train.data.visit import Visit


class _Pinned(Dataset[Batch]):
    """Gathers straight into pinned memory, where the loader would copy to it."""

    def __init__(self, dataset: BatchedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, visit: Visit | int) -> Batch:
        return self.dataset[visit]

    def __getitems__(self, visits: Iterable[Visit | int]) -> Gathered:
        return self.dataset.gather(visits, pinned)


def loader(
    dataset: BatchedDataset,
    sampler: Iterable[list[Visit]] | Iterable[list[int]],
    *,
    workers: int = 0,
    device: torch.device | str = "cpu",
    context: Literal["fork", "forkserver", "spawn"] | None = None,
) -> DataLoader[Batch]:
    """Batches as they are gathered, with no further copy.

    Parameters
    ----------
    dataset, sampler
        What is read, and a sampler of batches: a `ShapeSampler`, or torch's `BatchSampler`.
    workers
        Processes that read ahead; they live as long as the loader. 0: this one reads when it is asked.
    device
        Where the batches go: for a GPU they lie in pinned memory, from which `to_device` copies in the background.
    context
        How workers start; as torch does it if not given.
    """
    cuda = torch.device(device).type == "cuda"
    return DataLoader(
        _Pinned(dataset) if cuda and not workers else dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=cuda,
        multiprocessing_context=context if workers else None,
    )


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """A batch on a device. To a GPU the copy is only begun: what runs there next waits for it."""
    cuda = torch.device(device).type == "cuda"
    return {name: values.to(device, non_blocking=cuda) for name, values in batch.items()}
