"""Batches of worker processes: shared memory is used again, and never while anybody has a tensor over it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import active_children
from multiprocessing.reduction import ForkingPickler
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from shapestore.errors import UsageError
from shapestore.train.data import handover
from shapestore.train.data.batched import Batch, collate
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.handover import SLOTS, SMALL, SharedBatch, SharedBuffers
from tests.train.data.stores import write_store

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ROWS, CLOUD = 40, 1000
"""A cloud is larger than what travels in the message; two row numbers are not."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShapeDataset:
    path = write_store(tmp_path_factory.mktemp("handed") / "over.zarr", rows=ROWS, failed=(), cloud=CLOUD)
    return ShapeDataset(path, ["pc_xyz", "pc_n"])


def workers(
    dataset: ShapeDataset, batches: Sequence[Sequence[int]], count: int = 1, change: Callable[..., Any] = collate
) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=change,
        num_workers=count,
        persistent_workers=True,
        multiprocessing_context="fork",
    )


def pairs(length: int) -> list[list[int]]:
    return [[2 * step % ROWS, (2 * step + 1) % ROWS] for step in range(length)]


def right(dataset: ShapeDataset, batch: Batch) -> bool:
    """Has the batch the values of its rows?"""
    wanted = dataset.__getitems__(batch["row"].tolist()).batch
    return batch.keys() == wanted.keys() and all(torch.equal(batch[name], wanted[name]) for name in wanted)


def test_a_steady_loop_maps_no_new_memory(dataset: ShapeDataset) -> None:
    loaded, seen = workers(dataset, pairs(60)), set()
    for _ in range(2):
        for batch in loaded:
            assert right(dataset, batch)
            seen.add(batch["pc_xyz"].data_ptr())
    # Two are asked for ahead, one is here, one is being gathered, and one may wait to be looked at.
    assert len(seen) <= 5


@pytest.mark.parametrize("count", [1, 2])
def test_batches_are_right_however_many_are_kept(dataset: ShapeDataset, count: int) -> None:
    kept = list(workers(dataset, pairs(40), count))
    assert all(right(dataset, batch) for batch in kept)
    pointers = {batch["pc_xyz"].data_ptr() for batch in kept}
    assert len(pointers) == len(kept)
    assert sum(not batch["pc_xyz"].is_shared() for batch in kept) == SLOTS * count, "the others went torch's own way"


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), keep=st.sampled_from([0.2, 0.5, 0.9]))
def test_any_history_of_keeping_and_dropping(dataset: ShapeDataset, seed: int, keep: float) -> None:
    """Whole batches, single fields and parts of fields are kept and dropped in any order, over two epochs."""
    random, kept = Random(seed), []

    def check() -> None:
        assert all(torch.equal(values, copy) for values, copy in kept)

    for epoch in range(2):
        loaded = workers(dataset, pairs(12), 2)
        for batch in loaded:
            assert right(dataset, batch)
            for name in ("pc_xyz", "pc_n", "row"):
                if random.random() < keep:
                    part = random.choice([batch[name], batch[name][1:], batch[name].view(-1), batch[name].detach()])
                    kept.append((part, part.clone()))
            del batch
            while kept and random.random() > keep:
                kept.pop(random.randrange(len(kept)))
            check()
        if epoch == 0:
            del loaded
            check()


def test_sizes_of_batches_may_grow_and_shrink(dataset: ShapeDataset) -> None:
    sizes = [1, 2, 5, 1, 9, 3, 12, 1, 2, 12, 7] * 3
    batches = [list(range(size)) for size in sizes]
    for step, batch in enumerate(workers(dataset, batches)):
        assert len(batch["row"]) == sizes[step]
        assert right(dataset, batch)
        assert not batch["pc_xyz"].is_shared(), "it went torch's own way"


def test_an_epoch_may_be_left_in_the_middle(dataset: ShapeDataset) -> None:
    loaded = workers(dataset, pairs(8), 2)
    for _ in range(SLOTS * 2):
        batch = next(iter(loaded))
        assert right(dataset, batch)
        assert not batch["pc_xyz"].is_shared(), "buffers of batches that nobody looked at are lost"


def halves(samples: Any) -> Any:
    batch = collate(samples)
    batch["pc_xyz"] = batch["pc_xyz"].half()
    batch["pc_n"] = batch["pc_n"][1:]
    batch["new"] = torch.arange(4)
    batch["note"] = "any object"  # type: ignore[assignment]
    return batch


def other_dict(samples: Any) -> Any:
    batch = collate(samples)
    return {"pc_xyz": batch["pc_xyz"].half(), "pc_n": batch["pc_n"][1:], "new": torch.arange(4), "note": "any object"}


def in_place(samples: Any) -> Any:
    batch = collate(samples)
    batch["pc_xyz"].mul_(2).transpose_(1, 2)
    batch["pc_n"].add_(1).unsqueeze_(0)
    batch["row"].neg_()
    return batch


@pytest.mark.parametrize("change", [halves, other_dict])
def test_a_batch_may_be_changed_by_the_worker(dataset: ShapeDataset, change: Any) -> None:
    for step, batch in enumerate(list(workers(dataset, pairs(12), change=change))):
        wanted = dataset.__getitems__(pairs(12)[step]).batch
        assert torch.equal(batch["pc_xyz"], wanted["pc_xyz"].half())
        assert torch.equal(batch["pc_n"], wanted["pc_n"][1:])
        assert torch.equal(batch["new"], torch.arange(4))
        assert batch["note"] == "any object"  # type: ignore[comparison-overlap]


def test_a_batch_may_be_changed_in_place_by_the_worker(dataset: ShapeDataset) -> None:
    for step, batch in enumerate(list(workers(dataset, pairs(12), change=in_place))):
        wanted = dataset.__getitems__(pairs(12)[step]).batch
        assert torch.equal(batch["pc_xyz"], wanted["pc_xyz"].mul(2).transpose(1, 2))
        assert torch.equal(batch["pc_n"], wanted["pc_n"].add(1).unsqueeze(0))
        assert torch.equal(batch["row"], -wanted["row"])


_last: list[Batch] = []


def twice(samples: Any) -> Any:
    """Sends every batch, and with the next one again."""
    now, before = collate(samples), _last[0] if _last else {}
    _last[:] = [now]
    return {"now": now, "before": before}


def test_a_worker_may_keep_a_batch_and_send_it_again(dataset: ShapeDataset) -> None:
    before = None
    for each in workers(dataset, pairs(30), change=twice):
        sent: Any = each
        assert right(dataset, sent["now"])
        assert before is None or right(dataset, sent["before"])
        assert before is None or torch.equal(sent["before"]["row"], before)
        before = sent["now"]["row"].clone()


def test_a_fork_that_drops_a_batch_gives_nothing_back(dataset: ShapeDataset) -> None:
    batches = iter(workers(dataset, pairs(30)))
    kept = next(batches)
    child = os.fork()
    if not child:
        kept.clear()
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for batch in batches:
        assert batch["pc_xyz"].data_ptr() != kept["pc_xyz"].data_ptr()
    assert right(dataset, kept)


@pytest.fixture
def nothing_mapped() -> Iterator[None]:
    gc.collect()
    assert not handover._mapped
    yield
    gc.collect()
    assert not handover._mapped


@pytest.mark.usefixtures("nothing_mapped")
def test_what_was_mapped_goes_with_the_loader(dataset: ShapeDataset) -> None:
    loaded = workers(dataset, pairs(30), 2)
    for batch in loaded:
        kept = batch
    assert len(handover._mapped) == 2
    del loaded, batch
    gc.collect()
    assert not handover._mapped
    assert right(dataset, kept), "what is kept stays"


def go_on_after_killing(worker: Any, batches: Iterator[Batch]) -> None:
    worker.kill()
    worker.join()
    list(batches)


@pytest.mark.usefixtures("nothing_mapped")
def test_a_killed_worker_takes_nothing_along(dataset: ShapeDataset) -> None:
    others = set(active_children())
    batches = iter(workers(dataset, pairs(200)))
    kept = [next(batches) for _ in range(3)]
    (worker,) = set(active_children()) - others
    # torch raises from its handler of SIGCHLD, whenever that comes; an OSError where memory had not been passed on yet.
    with pytest.raises((RuntimeError, OSError)):
        go_on_after_killing(worker, batches)
    del worker, others
    assert all(right(dataset, batch) for batch in kept)
    del batches
    assert all(right(dataset, batch) for batch in workers(dataset, pairs(9)))


@pytest.mark.parametrize("strategy", sorted(torch.multiprocessing.get_all_sharing_strategies()))
def test_every_way_of_torch_to_share(dataset: ShapeDataset, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.multiprocessing, "_sharing_strategy", strategy)
    kept = list(workers(dataset, pairs(20)))
    assert all(right(dataset, batch) for batch in kept)


def test_a_batch_is_for_the_process_that_started_the_worker() -> None:
    buffers = SharedBuffers()
    sent = ForkingPickler.dumps(SharedBatch({"x": buffers("x", (SMALL,), np.dtype("<f4"))}, buffers))
    with pytest.raises(UsageError, match="did not start that worker"):
        ForkingPickler.loads(sent)


@pytest.mark.parametrize("dtype", ["<f4", "<i8", "int8", "uint8", "bool", "<u2", "<f8"])
@pytest.mark.parametrize("size", [0, 3, SMALL + 1])
def test_a_tensor_has_the_shape_and_dtype_that_is_asked_for(dtype: str, size: int) -> None:
    tensor = SharedBuffers()("x", (size, 2), np.dtype(dtype))
    assert tensor.is_contiguous()
    assert (tuple(tensor.shape), tensor.numpy().dtype) == ((size, 2), np.dtype(dtype))
    tensor.zero_()
