"""Where batches are gathered into in the process that trains: buffers that are used again, or pinned memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SPARE = 4
"""Buffers of one field that wait to be used again; a batch is seldom kept longer than for the next few."""

Slot = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype of one field of a batch."""

Allocate = Callable[[str, tuple[int, ...], np.dtype[Any]], torch.Tensor]
"""Makes the tensor that a field is gathered into, from the field's name, shape and dtype. Its content is arbitrary."""


class Buffers:
    """Memory that is used again when no tensor over it is left: a batch that somebody keeps is never overwritten.

    A fresh buffer costs more than filling it, as the system has to clear its pages first.
    """

    def __init__(self) -> None:
        self._spare: dict[str, list[NDArray[np.uint8]]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        """A tensor for a field of a batch, (n, ...)."""
        size = prod(shape) * dtype.itemsize
        spare = self._spare.setdefault(name, [])
        try:
            memory = spare.pop()
        except IndexError:  # asked for in this way, as another thread may have taken the last one
            memory = np.empty(size, np.uint8)
        if len(memory) < size:
            memory = np.empty(size, np.uint8)
        lent = memory[:size].view(dtype).reshape(shape)
        # torch keeps `lent` itself alive, for as long as any tensor has its storage.
        weakref.finalize(lent, _take_back, spare, memory).atexit = False
        return torch.from_numpy(lent)


def _take_back(spare: list[NDArray[np.uint8]], memory: NDArray[np.uint8]) -> None:
    if len(spare) < SPARE:
        spare.append(memory)


def pinned(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    """A tensor that a GPU copies from while the program goes on.

    torch keeps pinned memory for reuse, and waits with it for the copies that still read it.
    """
    del name
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=kind, pin_memory=True)
