"""The order of an epoch, and the certificate of an order: what came, hashed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.schemas.base import digest
from shapestore.schemas.seeding import generator


@dataclass(frozen=True)
class Order:
    """The samples of one epoch in global order, padded to whole batches."""

    epoch: int
    index: NDArray[np.int64]
    """(n,) position of each sample in the dataset."""
    repeat: NDArray[np.int64]
    """(n,) how often the same position came before in this epoch."""


def shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """(count,) permutation: an exact shuffle, a function of seed and epoch."""
    return generator(seed, f"shuffle\0{epoch}").permutation(count)


def weighted(seed: int, epoch: int, weights: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    """(length,) positions drawn with replacement, each in proportion to its weight, a function of seed and epoch.

    Parameters
    ----------
    weights
        (n,) finite, >= 0, not all 0: a weight of 0 is never drawn.
    """
    edges = np.cumsum(weights)
    edges /= edges[-1]
    uniform = generator(seed, f"weighted\0{epoch}").random(length)
    return np.searchsorted(edges, uniform, side="right").astype(np.int64)


def padded(epoch: int, index: NDArray[np.int64], batch: int) -> Order:
    """The order of an epoch with its own first entries at the end, up to a multiple of `batch`."""
    index = np.resize(index, -(-len(index) // batch) * batch)
    by_index = np.argsort(index, kind="stable")
    ordered = index[by_index]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    repeat = np.empty_like(index)
    repeat[by_index] = np.arange(len(index)) - np.repeat(starts, np.diff(np.r_[starts, len(index)]))
    return Order(epoch, index, repeat)


def first_certificate(identity: dict[str, str]) -> bytes:
    """The certificate of an order of which nothing has come yet: 32 bytes."""
    return bytes.fromhex(digest(identity))


def certified(before: bytes, order: Order, samples: int, keys: NDArray[np.uint8]) -> bytes:
    """The certificate after the first samples of an epoch: sha256 over that of the epoch before, and what came since.

    Parameters
    ----------
    before
        Certificate of all earlier epochs.
    order, samples
        The epoch's order, and how many samples of it came.
    keys
        (n, 32) sha256 of the shapes' ids, by position in the dataset.
    """
    if not samples:
        return before
    hashed = hashlib.sha256(before)
    came = np.empty(samples, [("epoch", "<i8"), ("repeat", "<i8"), ("key", np.uint8, 32)])
    came["epoch"] = order.epoch
    came["repeat"] = order.repeat[:samples]
    came["key"] = keys[order.index[:samples]]
    hashed.update(came.tobytes())
    return hashed.digest()


def keys_of(ids: NDArray[Any]) -> NDArray[np.uint8]:
    """(n, 32) sha256 of (n,) strings."""
    return np.frombuffer(b"".join(hashlib.sha256(text.encode()).digest() for text in ids), np.uint8).reshape(-1, 32)
