"""Two ranks in two processes: together they are one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from shapestore.errors import UsageError
from shapestore.train.checkpoint import checkpoint_steps
from shapestore.train.ranks import launched
from shapestore.train.run import Run
from tests.train.processes import said, start_ranks, wait_for_step
from tests.train.toy import NamedObjective, ToyConfig, ToySettings, losses, run_toy, settings

CONFIG = ToyConfig(
    train=settings(steps=20, accumulation=2, clip=1.0, ema=0.9, validate_every=10), model=ToySettings(dropout=0.0)
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, toy_store: Path) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run_toy(toy_store, folder, CONFIG)
    return folder


def assert_near(run: Path, alone: Path) -> None:
    """The same numbers in the log but for rounding, and the same samples in the same order."""
    ours, theirs = losses(run), losses(alone)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for left, right in zip(ours, theirs, strict=True):
        assert left == pytest.approx(right, rel=1e-5, abs=1e-6)
    left, right = (Run(folder).checkpoint("last") for folder in (run, alone))
    weights = [torch.load(folder / "average.pt", weights_only=True) for folder in (left, right)]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_two_ranks_reach_the_losses_of_one_process(toy_store: Path, tmp_path: Path, alone: Path) -> None:
    folder = tmp_path / "run"
    for rank in start_ranks(2, toy_store, folder, CONFIG):
        rank.join()
        assert rank.exitcode == 0
    assert_near(folder, alone)


@pytest.mark.parametrize("which", [0, 1])
def test_a_signal_to_one_rank_stops_both_and_one_process_goes_on(
    toy_store: Path, tmp_path: Path, alone: Path, which: int
) -> None:
    folder = tmp_path / "run"
    ranks = start_ranks(2, toy_store, folder, CONFIG, seconds=0.02)
    wait_for_step(ranks[0], folder, 3)
    ranks[which].terminate()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 5
    assert 3 <= checkpoint_steps(folder / "checkpoints")[-1] < 20
    run_toy(toy_store, folder, CONFIG, resume="auto")
    assert_near(folder, alone)


def test_what_the_first_rank_refuses_ends_them_all_as_it_does(toy_store: Path, tmp_path: Path, alone: Path) -> None:
    ranks = start_ranks(2, toy_store, alone, CONFIG, resume="never")
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 2
    assert "is there already" in said(alone)


@pytest.mark.parametrize(
    ("each", "what"),
    [
        ([{}, {"config": CONFIG.model_copy(update={"model": ToySettings(dropout=0.5)})}], "settings"),
        ([{"seed": 0}, {"seed": 1}], "order of samples"),
        ([{"objective": NamedObjective()}, {"objective": NamedObjective("more")}], "scalars of the objective"),
    ],
    ids=["settings", "order", "scalars"],
)
def test_ranks_that_do_not_train_one_model_end_before_they_drift_apart(
    toy_store: Path, tmp_path: Path, each: list[dict[str, Any]], what: str
) -> None:
    for rank in start_ranks(2, toy_store, tmp_path / "run", CONFIG, each):
        rank.join()
        assert rank.exitcode == 2
    assert f"do not have the same {what}" in said(tmp_path / "run")
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == []


def test_two_ranks_with_the_share_of_one_end_before_the_first_step(toy_store: Path, tmp_path: Path) -> None:
    for rank in start_ranks(2, toy_store, tmp_path / "run", CONFIG, [{"share": 0}, {"share": 0}]):
        rank.join()
        assert rank.exitcode == 2
    assert "is not that of its rank" in said(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scalars_are_told_by_name_whatever_their_order(toy_store: Path, tmp_path: Path, alone: Path) -> None:
    for rank in start_ranks(2, toy_store, tmp_path / "run", CONFIG, [{}, {"objective": NamedObjective()}]):
        rank.join()
        assert rank.exitcode == 0
    assert_near(tmp_path / "run", alone)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_so() -> None:
    with pytest.raises(UsageError, match="finds 0 GPUs"), launched("cuda"):
        pass


def test_a_process_alone_is_the_first_of_one() -> None:
    assert "WORLD_SIZE" not in os.environ
    with launched("cpu") as ranks:
        assert (ranks.rank, ranks.count, ranks.first, ranks.device) == (0, 1, True, torch.device("cpu"))
        assert [ranks.any(flag) for flag in (False, True)] == [False, True]
        assert ranks.mean({"a": torch.tensor(1.5)}) == {"a": 1.5}
