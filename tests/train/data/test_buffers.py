"""Buffers: a batch that is kept is never written to, and one that is dropped is used again."""

from __future__ import annotations

import gc
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shapestore.train.data.batched import Batch
from shapestore.train.data.buffers import SPARE, Buffers
from shapestore.train.data.dataset import ShapeDataset

FLOAT = np.dtype("<f4")


def read(dataset: ShapeDataset, *indices: int) -> Batch:
    return dataset.__getitems__(indices).batch


def test_a_dropped_buffer_is_used_again(path: Path) -> None:
    dataset = ShapeDataset(path, ["pc_xyz"])
    batch = read(dataset, 0, 1)
    where = batch["pc_xyz"].data_ptr()
    del batch
    batch = read(dataset, 2, 3)
    assert batch["pc_xyz"].data_ptr() == where
    part = batch["pc_xyz"][1:, :2]
    del batch
    assert read(dataset, 4, 5)["pc_xyz"].data_ptr() != where, "a part of it is still used"
    del part
    gc.collect()
    again = [read(dataset, 6, 7) for _ in range(2)]
    assert where in [batch["pc_xyz"].data_ptr() for batch in again]


@pytest.mark.parametrize(
    "keep",
    [
        lambda t: t,
        lambda t: t[0],
        lambda t: t.view(-1),
        lambda t: t.numpy(),
        lambda t: t.numpy()[0, :1],
        lambda t: t.detach(),
        lambda t: np.asarray(t).T,
        lambda t: torch.utils.data.default_collate([t[0], t[1]]),
    ],
    ids=["itself", "a row", "a view", "numpy", "a part in numpy", "detached", "transposed", "copied"],
)
def test_whatever_is_kept_of_a_batch_stays(path: Path, keep: Any) -> None:
    dataset = ShapeDataset(path, ["pc_xyz"])
    kept = keep(read(dataset, 0, 1)["pc_xyz"])
    before = deepcopy(kept)
    for index in range(2, 20, 2):
        read(dataset, index, index + 1)
    assert np.array_equal(np.asarray(kept), np.asarray(before))


class AnyHistory(RuleBasedStateMachine):
    """Batches of any size are taken, kept in part and dropped, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = Buffers()
        self.kept: list[tuple[torch.Tensor, int]] = []
        self.number = 0

    @rule(size=st.integers(1, 5), name=st.sampled_from("ab"), part=st.booleans())
    def take(self, size: int, name: str, part: bool) -> None:
        tensor = self.buffers(name, (size, 3), FLOAT)
        assert (tensor.shape, tensor.dtype) == ((size, 3), torch.float32)
        self.number += 1
        tensor.fill_(self.number)
        self.kept.append((tensor[-1:, 1:] if part else tensor, self.number))

    @rule(which=st.integers(0, 9))
    def drop(self, which: int) -> None:
        if self.kept:
            self.kept.pop(which % len(self.kept))

    @invariant()
    def kept_ones_are_as_they_were(self) -> None:
        assert all((tensor == number).all() for tensor, number in self.kept)
        assert all(len(spare) <= SPARE for spare in self.buffers._spare.values())


TestAnyHistory = AnyHistory.TestCase


def test_a_steady_loop_takes_no_new_memory() -> None:
    buffers = Buffers()
    seen = set()
    batch = buffers("x", (8, 4), FLOAT)
    for _ in range(50):
        batch = buffers("x", (8, 4), FLOAT)  # the old one is dropped when the new one is there
        seen.add(batch.data_ptr())
    assert len(seen) == 2


def test_a_smaller_batch_takes_the_buffer_of_a_larger_one() -> None:
    buffers = Buffers()
    where = buffers("x", (8, 4), FLOAT).data_ptr()
    assert buffers("x", (3, 4), FLOAT).data_ptr() == where
    assert buffers("x", (8, 4), FLOAT).data_ptr() == where
    assert buffers("y", (8, 4), FLOAT).shape == (8, 4)
