"""`ShapeSampler`: what comes when, on how many ranks, and how it goes on after a stop."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import Subset

from shapestore.errors import UsageError
from shapestore.schemas.base import digest
from shapestore.train.data import order
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.mixed import MixedDataset
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.data.visit import Visit
from tests.train.data.stores import FAILED, ROWS, write_store

SHAPES = ROWS - len(FAILED)
seeds = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def dataset(path: Path) -> ShapeDataset:
    return ShapeDataset(path, ["category"])


def epoch_of(samplers: list[ShapeSampler]) -> list[list[Visit]]:
    """The global batches of the next epoch, from those of all ranks."""
    by_rank = [list(sampler) for sampler in samplers]
    assert len({len(batches) for batches in by_rank}) == 1, "all ranks take as many steps"
    return [[visit for share in step for visit in share] for step in zip(*by_rank, strict=True)]


def all_ranks(dataset: Any, ranks: int, batch: int, **options: Any) -> list[ShapeSampler]:
    return [ShapeSampler(dataset, batch, rank=rank, ranks=ranks, **options) for rank in range(ranks)]


@settings(max_examples=40)
@given(seed=seeds, ranks=st.integers(1, 5), share=st.integers(1, 9), weighted=st.booleans(), length=st.integers(1, 70))
def test_an_epoch_is_a_permutation_in_equal_shares(
    dataset: ShapeDataset, seed: int, ranks: int, share: int, weighted: bool, length: int
) -> None:
    options: dict[str, Any] = {"seed": seed}
    if weighted:
        options |= {"weights": np.arange(SHAPES), "length": length}
    samplers = all_ranks(dataset, ranks, ranks * share, **options)
    one = ShapeSampler(dataset, ranks * share, **options, rank=0, ranks=1)
    size = length if weighted else SHAPES
    for epoch in range(3):
        batches = epoch_of(samplers)
        assert batches == list(one), "whatever the number of ranks"
        assert len(batches) == len(one) == -(-size // (ranks * share))
        assert all(len(batch) == ranks * share for batch in batches)
        flat = [visit for batch in batches for visit in batch]
        assert {visit.epoch for visit in flat} == {epoch}
        assert len(set(flat)) == len(flat), "no sample comes twice: not even one that fills up the last batch"
        if not weighted:
            assert sorted(visit.index for visit in flat[:size]) == list(range(SHAPES))
            assert {visit.repeat for visit in flat[:size]} == {0}
        own = [visit.index for visit in flat]
        assert own[size:] == [own[i % size] for i in range(len(own) - size)], "filled up with its own start"
        came: Counter[int] = Counter()
        for visit in flat:
            assert visit.repeat == came[visit.index]
            came[visit.index] += 1
        assert batches[-1] == samplers[0].visits(epoch, len(one) - 1)


@pytest.mark.parametrize("balance", [None, "category"])
def test_orders_of_seeds_and_epochs_differ(dataset: ShapeDataset, balance: str | None) -> None:
    orders = set()
    for seed in range(5):
        sampler = ShapeSampler(dataset, 4, seed=seed, balance=balance)
        orders |= {tuple(v.index for batch in sampler for v in batch) for _ in range(5)}
    assert len(orders) == 25


def test_a_shuffle_is_uniform(dataset: ShapeDataset) -> None:
    sampler = ShapeSampler(dataset, 1, seed=11)
    firsts = Counter(sampler.visits(epoch, 0)[0].index for epoch in range(2900))
    assert stats.chisquare([firsts[i] for i in range(SHAPES)]).pvalue > 1e-3


def test_weighted_draws_follow_their_weights(dataset: ShapeDataset) -> None:
    weights = np.arange(SHAPES, dtype=float) ** 2
    sampler = ShapeSampler(dataset, 100, weights=weights, length=30_000, seed=2)
    came = np.bincount([visit.index for batch in sampler for visit in batch], minlength=SHAPES)
    assert came[0] == 0, "a weight of 0 is never drawn"
    wanted = weights / weights.sum() * came.sum()
    assert stats.chisquare(came[3:], wanted[3:] * came[3:].sum() / wanted[3:].sum()).pvalue > 1e-3


@pytest.mark.parametrize("number", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_a_weight_of_0_is_not_drawn_at_any_edge(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    class Always:
        def random(self, count: int) -> np.ndarray:
            return np.full(count, number)

    monkeypatch.setattr(order, "generator", lambda seed, use: Always())
    weights = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    assert order.weighted(0, 0, weights, 3).tolist() == [1 if number < 0.5 else 3] * 3


def test_balanced_draws_are_even_over_the_classes(dataset: ShapeDataset) -> None:
    sampler = ShapeSampler(dataset, 100, balance="category", length=20_000, seed=1)
    rows = dataset.rows[[visit.index for batch in sampler for visit in batch]]
    lamps = int((rows % 5 == 0).sum())
    assert stats.binomtest(lamps, len(rows), 0.5).pvalue > 1e-3
    came = Counter(rows[rows % 5 == 0].tolist())
    assert stats.chisquare(list(came.values())).pvalue > 1e-3


def test_a_mixture_is_drawn_by_its_weights(dataset: ShapeDataset, other_path: Path) -> None:
    mixed = MixedDataset([(dataset, 1), (ShapeDataset(other_path, ["category"]), 3)])
    sampler = ShapeSampler(mixed, 100, length=20_000)
    of_other = sum(visit.index >= SHAPES for batch in sampler for visit in batch)
    assert stats.binomtest(of_other, 20_000, 0.75).pvalue > 1e-3
    assert len(ShapeSampler(mixed, 10)) == 4, "without a length it is as long as all of them"


def certificate(dataset: ShapeDataset, sampler: ShapeSampler, batches: Iterator[list[Visit]] | list[Any]) -> str:
    """The certificate once more, one sample at a time."""
    chained = bytes.fromhex(digest(sampler.identity))
    epochs: dict[int, list[Visit]] = {}
    for batch in batches:
        for visit in batch:
            epochs.setdefault(visit.epoch, []).append(visit)
    for epoch, visits in sorted(epochs.items()):
        hashed = hashlib.sha256(chained)
        for visit in visits:
            hashed.update(struct.pack("<qq", epoch, visit.repeat))
            hashed.update(hashlib.sha256(dataset.ids[visit.index].encode()).digest())
        chained = hashed.digest()
    return chained.hex()


@settings(max_examples=40)
@given(
    seed=seeds, before=st.sampled_from([1, 2, 3, 6]), after=st.sampled_from([1, 2, 3, 6]),
    steps=st.integers(0, 20), weighted=st.booleans(), batch=st.sampled_from([6, 12]),
)  # fmt: skip
def test_a_resumed_order_is_the_rest_of_it(
    dataset: ShapeDataset, seed: int, before: int, after: int, steps: int, weighted: bool, batch: int
) -> None:
    options: dict[str, Any] = {"seed": seed}
    if weighted:
        options |= {"balance": "category", "length": 33}
    whole = ShapeSampler(dataset, batch, rank=0, ranks=1, **options)
    epochs = [list(whole) for _ in range(8)]
    flat = [visits for epoch in epochs for visits in epoch]
    assert whole.certificate(*divmod(steps, len(whole))) == certificate(dataset, whole, flat[:steps])

    samplers = all_ranks(dataset, before, batch, **options)
    epoch_of(samplers)  # a loader that reads ahead has asked for more than was trained on
    state = json.loads(json.dumps(samplers[-1].state_dict(steps)))
    assert state["samples"] == steps * batch

    resumed = all_ranks(dataset, after, batch, **options)
    for sampler in resumed:
        sampler.load_state_dict(state)
    rest = epoch_of(resumed) + epoch_of(resumed)
    assert rest == flat[steps : steps + len(rest)]
    assert len(rest) == 2 * len(whole) - steps % len(whole)
    done = steps + len(rest)
    assert resumed[0].state_dict(done) == ShapeSampler(dataset, batch, rank=0, ranks=1, **options).state_dict(done)


def test_where_an_epoch_was_left_early_the_number_of_steps_does_not_count(dataset: ShapeDataset) -> None:
    sampler = ShapeSampler(dataset, 4)
    running = iter(sampler)
    next(running)
    assert sampler.state_dict(1)["step"] == 1, "in the middle of an epoch"
    del running
    whole = list(sampler)
    for steps in (1 + len(whole), 1):
        with pytest.raises(UsageError, match="an epoch was left before its end"):
            sampler.state_dict(steps)
    sampler.load_state_dict(ShapeSampler(dataset, 4).state_dict(len(whole) + 2))
    assert sampler.state_dict(len(whole) + 2)["epoch"] == 1
    assert list(sampler) == whole[2:]
    list(sampler)
    assert sampler.state_dict(3 * len(whole))["epoch"] == 3
    for _, _ in zip(range(len(whole)), sampler, strict=False):
        pass  # the last batch came, though nobody asked whether there is another
    assert sampler.state_dict(4 * len(whole))["epoch"] == 4
    assert sampler.state_dict(3 * len(whole))["epoch"] == 3, "the last epoch may be one that was asked for ahead"
    for steps in (3 * len(whole) - 1, -1):
        with pytest.raises(UsageError, match=f"{steps} batches do not tell"):
            sampler.state_dict(steps)


def test_every_step_has_its_own_certificate(dataset: ShapeDataset) -> None:
    sampler = ShapeSampler(dataset, 4)
    found = {sampler.certificate(epoch, step) for epoch in range(3) for step in range(len(sampler))}
    assert len(found) == 3 * len(sampler)
    assert sampler.certificate(0, len(sampler)) == sampler.certificate(1, 0)
    assert len(ShapeSampler(dataset, 4).certificate(2, 1)) == 64


def test_other_content_shapes_seeds_and_batches_are_refused(dataset: ShapeDataset, path: Path, tmp_path: Path) -> None:
    state = ShapeSampler(dataset, 4).state_dict(9)

    def refuses(other: ShapeDataset, why: str, batch: int = 4, **options: Any) -> None:
        with pytest.raises(UsageError, match=rf"not as they were: {why}\. "):
            ShapeSampler(other, batch, **options).load_state_dict(state)

    refuses(dataset, "order seed", seed=1)
    refuses(dataset, "samples of a batch", batch=5)
    refuses(dataset, "weights", balance="category")
    refuses(dataset, "samples of an epoch, weights", weights=np.ones(SHAPES), length=30)
    refuses(ShapeDataset(path, ["category"], seed=1), "dataset seed")
    refuses(ShapeDataset(path, ["pc_xyz"]), "content, fields")
    refuses(ShapeDataset(path, ["category"], split="train"), "content, samples of an epoch, shapes")
    renamed = write_store(tmp_path / "renamed.zarr", prefix="other")
    refuses(ShapeDataset(renamed, ["category"]), "shapes")
    state["certificate"] = "0" * 64
    with pytest.raises(UsageError, match="certificates differ"):
        ShapeSampler(dataset, 4).load_state_dict(state)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "uneven": ({"batch": 5, "rank": 0, "ranks": 2}, "equal share"),
    "empty": ({"batch": 0}, "equal share"),
    "no epoch": ({"length": 0, "weights": np.ones(SHAPES)}, "at least one sample"),
    "a length of a shuffle": ({"length": 5}, "needs weights"),
    "both": ({"weights": np.ones(SHAPES), "balance": "category"}, "not both"),
    "too few weights": ({"weights": [1.0]}, rf"each of {SHAPES} samples; these are \(1,\)"),
    "negative": ({"weights": np.append(np.ones(SHAPES - 1), -1)}, r"the least of these is -1\.0"),
    "infinite": ({"weights": np.full(SHAPES, np.inf)}, "finite sum"),
    "no numbers": ({"weights": np.full(SHAPES, np.nan)}, "finite sum"),
    "of an infinite sum": ({"weights": np.full(SHAPES, 1e308)}, "the sum inf"),
    "all zero": ({"weights": np.zeros(SHAPES)}, r"the sum 0\.0"),
    "half of the ranks": ({"rank": 0}, "together"),
    "a rank that is not there": ({"rank": 2, "ranks": 2}, "rank 2 of 2"),
    "an unknown column": ({"balance": "colour"}, "colour"),
}


@pytest.mark.parametrize(("options", "why"), WRONG.values(), ids=WRONG)
def test_settings_that_cannot_be_are_refused(dataset: ShapeDataset, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ShapeSampler(dataset, **{"batch": 4, **options})


def test_what_is_no_dataset_of_shapes_is_refused(dataset: ShapeDataset) -> None:
    with pytest.raises(UsageError, match="not a Subset"):
        ShapeSampler(Subset(dataset, [0, 1]), 2)  # type: ignore[arg-type]


def test_a_launched_process_without_a_group_is_refused(dataset: ShapeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every rank would train on the same samples."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="init_process_group"):
        ShapeSampler(dataset, 4)
    assert ShapeSampler(dataset, 4, rank=1, ranks=2).ranks == 2
