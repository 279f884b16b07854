"""How a worker process hands batches to the one that trains: through shared memory that both map once and use again.

torch's own way takes fresh shared memory for every tensor: a file, a socket to pass it on by, and pages to be cleared
and mapped in both processes. For batches of a few MB that is most of what a worker costs.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from itertools import count
from math import prod
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shapestore.errors import UsageError

SLOTS = 8
"""Shared buffers of one field that a worker has at most: for the batches that torch asks for ahead (2 unless told
otherwise), one that is being gathered, and a few that are kept. More than these go torch's own way."""
SMALL = 4096
"""Bytes of a field that are sent as they are, within the message: shared memory comes in pages of this size."""
HEADER = 64
"""Bytes before the values, which keep them aligned. The first one says who has the buffer."""
_HERE, _AWAY = 0, 1

_numbers = count()


class _Arena:
    """One shared buffer, as its worker has it.

    It is the worker's while its first byte is 0, and the receiver's while that is 1. Whoever has it is the only one who
    writes, the byte as well as the values, so there is nothing to lock.
    """

    def __init__(self, size: int, number: int) -> None:
        self.number = number
        """Names it to the receiver. A larger one that takes its place has the same."""
        self.size = size
        self.shared = torch.empty(HEADER + size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self.memory: NDArray[np.uint8] = self.shared.numpy()
        self.memory[0] = _HERE
        self.known = False
        """The receiver has mapped it."""
        self._lent: Callable[[], NDArray[Any] | None] = lambda: None

    @property
    def free(self) -> bool:
        """Nobody has a tensor over it, here or there."""
        return self._lent() is None and self.memory[0] == _HERE

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        lent = _values(self.memory, shape, dtype)
        self._lent = weakref.ref(lent)
        # torch keeps `lent` itself alive, for as long as any tensor has its storage.
        return torch.from_numpy(lent)


class _Parcel(NamedTuple):
    """A field as it travels in shared memory."""

    number: int
    shape: tuple[int, ...]
    dtype: str
    shared: torch.Tensor | None
    """The buffer, where the receiver has not mapped it yet."""


class SharedBuffers:
    """Memory of a worker that is used again once no tensor over it is left, neither here nor where it was sent."""

    def __init__(self) -> None:
        self._arenas: dict[str, list[_Arena]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        """A tensor for a field of a batch, (n, ...). Its content is arbitrary."""
        size = prod(shape) * dtype.itemsize
        arenas = self._arenas.setdefault(name, [])
        if size > SMALL:
            free = max((arena for arena in arenas if arena.free), key=lambda arena: arena.size, default=None)
            if free is None and len(arenas) < SLOTS:
                free = _Arena(size, next(_numbers))
                arenas.append(free)
            if free is not None and free.size < size:
                arenas[arenas.index(free)] = free = _Arena(size, free.number)
            if free is not None:
                return free.lend(shape, dtype)
        return torch.from_numpy(np.empty(shape, dtype))

    def parcel(self, name: str, tensor: torch.Tensor) -> _Parcel | NDArray[Any] | torch.Tensor:
        """What travels for a tensor that was taken here. A tensor still: it goes torch's own way, which copies it."""
        if tensor.requires_grad or not tensor.is_contiguous():
            return tensor
        if tensor.nbytes <= SMALL:
            return tensor.numpy()
        for arena in self._arenas[name]:
            if tensor.data_ptr() == arena.memory.ctypes.data + HEADER and arena.memory[0] == _HERE:
                sent = _Parcel(arena.number, tuple(tensor.shape), tensor.numpy().dtype.str, arena.shared)
                arena.memory[0] = _AWAY
                if arena.known:
                    return sent._replace(shared=None)
                arena.known = True
                return sent
        return tensor


class SharedBatch(dict[str, torch.Tensor]):
    """A batch in the worker that gathered it; where it is received it is a plain dict.

    It may be changed on the way, as by a function for `collate_fn`: what is no longer as it was gathered is copied.
    """

    def __init__(self, batch: dict[str, torch.Tensor], buffers: SharedBuffers) -> None:
        super().__init__(batch)
        self.gathered = dict(batch)
        self.buffers = buffers


def _send(batch: SharedBatch) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How processes of `multiprocessing` send a batch to each other: called by pickle, in a thread of the worker."""
    sent = {
        name: batch.buffers.parcel(name, value) if value is batch.gathered.get(name) else value
        for name, value in batch.items()
    }
    return _receive, (os.getpid(), sent)


ForkingPickler.register(SharedBatch, _send)

_mapped: weakref.WeakKeyDictionary[BaseProcess, tuple[int, dict[int, NDArray[np.uint8]]]] = weakref.WeakKeyDictionary()
"""Buffers of each worker, by number, beside its pid. They go with the process's object, which its loader has."""


def _receive(pid: int, sent: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: _unpacked(value, pid) for name, value in sent.items()}


def _unpacked(value: Any, pid: int) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if not isinstance(value, _Parcel):
        return value
    mapped = _mapped_of(pid)
    if value.shared is not None:
        mapped[value.number] = value.shared.numpy()
    memory = mapped[value.number]
    lent = _values(memory, value.shape, np.dtype(value.dtype))
    weakref.finalize(lent, _give_back, memory, os.getpid()).atexit = False
    return torch.from_numpy(lent)


def _mapped_of(pid: int) -> dict[int, NDArray[np.uint8]]:
    for known, mapped in list(_mapped.values()):
        if known == pid:
            return mapped
    for process in active_children():
        if process.pid == pid:
            return _mapped.setdefault(process, (pid, {}))[1]
    raise UsageError(
        "a batch of a worker came to a process that did not start that worker: copy its tensors before you send it on."
    )


def _give_back(memory: NDArray[np.uint8], receiver: int) -> None:
    """When the last tensor over a buffer is gone; torch's atomic count of them orders this write after their reads."""
    if os.getpid() == receiver:  # a fork of the receiver drops what the receiver may still read
        memory[0] = _HERE


def _values(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    return memory[HEADER : HEADER + prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
