"""`ShapeSampler`: which samples come when, on every rank, and where to go on after a stop."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import Sampler

from shapestore.errors import UsageError
from shapestore.train.data.batched import BatchedDataset
from shapestore.train.data.order import Order, certified, first_certificate, keys_of, padded, shuffled, weighted
from shapestore.train.data.visit import Visit


class ShapeSampler(Sampler[list[Visit]]):
    """Batches of visits: give it to a DataLoader as `batch_sampler`. Every `iter` is the next epoch.

    The order of an epoch is global, a function of seed and epoch: an exact shuffle, or draws with replacement by
    weights. Each global batch takes its next `batch` entries, and each rank an equal share of them. The last batch is
    filled up with the first entries of its own epoch.

    Parameters
    ----------
    dataset
        What is sampled.
    batch
        Samples of one global batch, of all ranks together.
    seed
        Names the order.
    weights
        (n,) weights, >= 0, to draw by; those of the dataset if it has any (a `MixedDataset`).
    balance
        Index array, such as `category`, of which all values are to be drawn equally often.
    length
        Samples of an epoch that is drawn by weights; as many as there are shapes if not given.
    rank, ranks
        This process among those that train together; those of `torch.distributed` if not given.

    Raises
    ------
    UsageError
        The settings contradict each other or the dataset.
    """

    def __init__(
        self,
        dataset: BatchedDataset,
        batch: int,
        *,
        seed: int = 0,
        weights: Sequence[float] | NDArray[np.floating[Any]] | None = None,
        balance: str | None = None,
        length: int | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        if not isinstance(dataset, BatchedDataset):
            raise UsageError(
                f"a ShapeSampler samples a ShapeDataset or a MixedDataset, not a {type(dataset).__name__}. Of a subset "
                "make a ShapeDataset with these rows."
            )
        self.dataset = dataset
        self.batch = batch
        self.seed = seed
        self.rank, self.ranks = _ranks(rank, ranks)
        self._weights = _weights(dataset, weights, balance)
        if length is not None and self._weights is None:
            raise UsageError("an epoch of a shuffle is as long as the dataset: a length needs weights or a balance.")
        self.length = len(dataset) if length is None else length
        """Samples of an epoch, without what fills up its last batch."""
        if batch < 1 or batch % self.ranks or self.length < 1:
            raise UsageError(
                f"batches of {batch} samples on {self.ranks} ranks, {self.length} an epoch: each rank needs an equal "
                "share of a batch, and an epoch at least one sample."
            )
        self._start = 0
        self._running = self._left = False
        self._order: Order | None = None
        self._ends = [first_certificate(self.identity)]

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.length // self.batch)

    def __iter__(self) -> Iterator[list[Visit]]:
        """Batches of this rank: those of the next epoch, or of what is left of it after `load_state_dict`."""
        epoch, first = divmod(self._start, len(self))
        self._left |= self._running
        self._running, self._start = True, (epoch + 1) * len(self)
        order = self._order_of(epoch)
        share = self.batch // self.ranks
        for step in range(first, len(self)):
            if step == len(self) - 1:
                self._running = False
            start = step * self.batch + self.rank * share
            yield _visits(order, slice(start, start + share))

    def visits(self, epoch: int, step: int) -> list[Visit]:
        """Global batch `step` of an epoch, over all ranks: to look at it again."""
        return _visits(self._order_of(epoch), slice(step * self.batch, (step + 1) * self.batch))

    def certificate(self, epoch: int, step: int) -> str:
        """Sha256 of the order so far: over epoch, repeat and shape id of all samples, in global order, and `identity`.

        Parameters
        ----------
        epoch, step
            All of the earlier epochs came, and the first `step` global batches of this one.
        """
        while len(self._ends) <= epoch:
            whole = self._order_of(len(self._ends) - 1)
            self._ends.append(certified(self._ends[-1], whole, len(whole.index), self._keys))
        return certified(self._ends[epoch], self._order_of(epoch), step * self.batch, self._keys).hex()

    @cached_property
    def identity(self) -> dict[str, str]:
        """All that the order and its samples depend on, by what it is."""
        weights = "none" if self._weights is None else sha256(self._weights.tobytes()).hexdigest()
        return {
            **self.dataset.identity(),
            "order seed": str(self.seed),
            "weights": weights,
            "samples of an epoch": str(self.length),
            "samples of a batch": str(self.batch),
        }

    def state_dict(self, steps: int) -> dict[str, Any]:
        """Where the order stands, as JSON values. The number of ranks and workers is no part of it.

        Parameters
        ----------
        steps
            Global batches that were trained on since epoch 0. Only the caller knows: a loader asks for batches ahead.

        Raises
        ------
        UsageError
            An earlier epoch was left before its end: the number of batches does not tell which ones they were. Where
            workers asked for all of them ahead, that shows only by a number that is too small.
        """
        epoch, step = divmod(steps, len(self))
        if steps and (self._left or epoch < max(self._start // len(self) - 1, 0)):
            raise UsageError(
                f"{steps} batches do not tell where the order stands: an epoch was left before its end, and another "
                "one begun. Iterate every epoch to its end; shorter ones are drawn by weights, with a length."
            )
        return {
            "epoch": epoch,
            "step": step,
            "samples": steps * self.batch,
            "certificate": self.certificate(epoch, step),
            "identity": dict(self.identity),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another sampler stood: the next `iter` gives the rest of its epoch.

        Raises
        ------
        UsageError
            What was trained on was something else: another store content, other shapes, draws, seeds or batches.
        """
        now, then = self.identity, state["identity"]
        if differing := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
            raise UsageError(
                f"the order cannot be gone on with: these are not as they were: {', '.join(differing)}. Resume on the "
                "same data with the same settings, or begin a new run."
            )
        epoch, step = state["epoch"], state["step"]
        if self.certificate(epoch, step) != state["certificate"]:
            raise UsageError(
                f"the order up to epoch {epoch}, step {step} is not that of the checkpoint: the certificates differ. "
                "The checkpoint is damaged, or another version of the program made it."
            )
        self._start = epoch * len(self) + step
        self._running = self._left = False

    @cached_property
    def _keys(self) -> NDArray[np.uint8]:
        return keys_of(self.dataset.ids)

    def _order_of(self, epoch: int) -> Order:
        """The order of an epoch; the last one that was asked for is kept."""
        if self._order is not None and self._order.epoch == epoch:
            return self._order
        if self._weights is None:
            index = shuffled(self.seed, epoch, self.length)
        else:
            index = weighted(self.seed, epoch, self._weights, self.length)
        self._order = padded(epoch, index, self.batch)
        return self._order


def _visits(order: Order, which: slice) -> list[Visit]:
    pairs = zip(order.index[which].tolist(), order.repeat[which].tolist(), strict=True)
    return [Visit(index, order.epoch, repeat) for index, repeat in pairs]


def _ranks(rank: int | None, ranks: int | None) -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if (rank is None) != (ranks is None):
        raise UsageError("rank and ranks are given together.")
    if rank is not None and ranks is not None:
        if not 0 <= rank < ranks:
            raise UsageError(f"rank {rank} of {ranks} ranks.")
        return rank, ranks
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Silence would give every rank the same samples.
        raise UsageError(
            "WORLD_SIZE says that several processes train together, but torch.distributed is not initialised: call "
            "torch.distributed.init_process_group first, or give rank and ranks."
        )
    return 0, 1


def _weights(
    dataset: BatchedDataset, weights: Sequence[float] | NDArray[np.floating[Any]] | None, balance: str | None
) -> NDArray[np.float64] | None:
    """Weights to draw by; None: an exact shuffle."""
    if weights is not None and balance is not None:
        raise UsageError("samples are drawn by weights or balanced, not both.")
    if balance is not None:
        return dataset.balanced(balance)
    if weights is None:
        return dataset.weights
    found = np.asarray(weights, np.float64)
    if found.shape != (len(dataset),):
        raise UsageError(f"there is one weight for each of {len(dataset)} samples; these are {found.shape}.")
    with np.errstate(over="ignore"):
        total = found.sum()
    if (found < 0).any() or not 0 < total < np.inf:
        raise UsageError(
            f"weights are >= 0, of a finite sum > 0; the least of these is {found.min()}, the sum {total}."
        )
    return found
