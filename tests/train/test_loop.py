"""What happens beside the steps: validation, the best checkpoint, divergence, and the caller's random state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shapestore.errors import ShapestoreError, StoreLocked, UsageError
from shapestore.train import session
from shapestore.train.checkpoint import checkpoint_steps, read_state
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import RandomDraw
from shapestore.train.data.loader import loader
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.run import Run
from shapestore.train.trainer import Trainer
from tests.train import toy
from tests.train.toy import Toy, ToyConfig, losses, run_toy, settings


def config(**changes: Any) -> ToyConfig:
    return ToyConfig(train=settings(**changes))


def follow(values: dict[int, float], seen: list[int] | None = None) -> Any:
    """A validation that finds the given values."""

    def validate(model: nn.Module, step: int) -> dict[str, float]:
        if seen is not None:
            seen.append(step)
        return {"iou": values[step]}

    return validate


def test_it_learns(toy_store: Path, tmp_path: Path) -> None:
    run_toy(toy_store, tmp_path / "run", config(steps=80, lr=0.03))
    fits = [line["train/fit"] for line in losses(tmp_path / "run") if "train/fit" in line]
    assert sum(fits[-10:]) < 0.5 * sum(fits[:10])


@pytest.mark.parametrize(("order", "best"), [("highest", 8), ("lowest", 10)])
def test_the_best_and_the_newest_are_kept(toy_store: Path, tmp_path: Path, order: str, best: int) -> None:
    values = {2: 0.5, 4: math.nan, 6: 0.2, 8: 0.9, 10: 0.1, 12: 0.9, 14: 0.3, 16: 0.4}
    seen: list[int] = []
    asked = config(steps=16, validate_every=2, keep_last=2, best={"metric": "iou", "order": order})
    run_toy(toy_store, tmp_path / "run", asked, validate=follow(values, seen))
    assert seen == list(values)
    run = Run(tmp_path / "run")
    assert checkpoint_steps(run.checkpoints) == [best, 14, 16]
    state = read_state(run.checkpoint("best"))
    assert (state.step, state.metrics) == (best, {"iou": values[best]})


def test_without_a_best_only_the_newest_are_kept(toy_store: Path, tmp_path: Path) -> None:
    run_toy(toy_store, tmp_path / "run", config(checkpoint_every=5, keep_last=2))
    run = Run(tmp_path / "run")
    assert checkpoint_steps(run.checkpoints) == [10, 12]
    with pytest.raises(UsageError, match="no best checkpoint"):
        run.checkpoint("best")


def test_without_a_validation_there_is_none(toy_store: Path, tmp_path: Path) -> None:
    state = run_toy(toy_store, tmp_path / "run", config(), validate=None)
    assert (state.step, state.metrics, state.validated) == (12, {}, None)
    with pytest.raises(UsageError, match=r"train.best names a metric"):
        run_toy(toy_store, tmp_path / "other", config(best={"metric": "iou", "order": "highest"}), validate=None)


def test_a_best_that_the_validation_does_not_give_is_named(toy_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train.best is 'dice', and the validation gives error, step"):
        run_toy(toy_store, tmp_path / "run", config(best={"metric": "dice", "order": "highest"}))


def test_an_error_of_the_validation_is_not_swallowed(toy_store: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        run_toy(toy_store, tmp_path / "run", config(), validate=follow({}))


def test_what_would_be_certified_and_is_not_read_is_refused(toy_store: Path, tmp_path: Path) -> None:
    dataset = ShapeDataset(toy_store, draws=[RandomDraw(arrays=("pc_xyz",), count=toy.DRAWN)])
    for workers in (0, 2):
        other = loader(dataset, ShapeSampler(dataset, 8, seed=1), workers=workers)
        with pytest.raises(UsageError, match="takes its order from another sampler"):
            run_toy(toy_store, tmp_path / "run", config(), loader=other)
    for trained_on in ([], [dataset.store]):
        with pytest.raises(UsageError, match="could not tell later which it has not seen"):
            run_toy(toy_store, tmp_path / "run", config(), trained_on=trained_on)
    share = ShapeSampler(dataset, 8, rank=0, ranks=2)
    with pytest.raises(UsageError, match="rank 0 of 2, and the loop is rank 0 of 1"):
        run_toy(toy_store, tmp_path / "run", config(), sampler=share, loader=loader(dataset, share))
    with pytest.raises(UsageError, match="resume is 'auto' or 'never', not 'always'"):
        run_toy(toy_store, tmp_path / "run", config(), resume="always")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("looks", [1, 2, 3])
def test_whoever_looks_at_batches_before_changes_nothing(
    toy_store: Path, tmp_path: Path, workers: int, looks: int
) -> None:
    dataset = ShapeDataset(toy_store, draws=[RandomDraw(arrays=("pc_xyz",), count=toy.DRAWN)])
    sampler = ShapeSampler(dataset, 8)
    batches = loader(dataset, sampler, workers=workers)
    for _ in range(looks):
        next(iter(batches))
    list(batches)
    run_toy(toy_store, tmp_path / "looked", config(), sampler=sampler, loader=batches)
    run_toy(toy_store, tmp_path / "run", config())
    assert losses(tmp_path / "looked") == losses(tmp_path / "run")
    states = [read_state(Run(tmp_path / name).checkpoint("last")) for name in ("looked", "run")]
    assert states[0].sampler == states[1].sampler


@pytest.mark.parametrize("value", [torch.tensor(0.5), np.float32(0.5), np.array(0.5)])
def test_a_metric_is_a_number_whatever_holds_it(toy_store: Path, tmp_path: Path, value: Any) -> None:
    state = run_toy(toy_store, tmp_path / "run", config(), validate=lambda model, step: {"iou": value})
    assert state.metrics == {"iou": 0.5}


@pytest.mark.parametrize("found", [None, 0.5, {"iou": None}, {"iou": torch.zeros(2)}, {"iou": "high"}])
def test_what_is_no_metric_is_told(toy_store: Path, tmp_path: Path, found: Any) -> None:
    with pytest.raises(UsageError, match="a validation gives numbers by name"):
        run_toy(toy_store, tmp_path / "run", config(), validate=lambda model, step: found)


def test_two_runs_do_not_write_to_one_folder(toy_store: Path, tmp_path: Path) -> None:
    def second(model: nn.Module, step: int) -> dict[str, float]:
        with pytest.raises(StoreLocked, match=r"run is being written to by process \d+"):
            run_toy(toy_store, tmp_path / "run", config(), resume="auto")
        return {}

    run_toy(toy_store, tmp_path / "run", config(), validate=second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    "changes", [{}, {"log_every": 12}, {"log_every": 12, "checkpoint_every": 6}, {"log_every": 12, "validate_every": 6}]
)
def test_a_run_that_diverges_stops_and_keeps_nothing_of_it(
    toy_store: Path, tmp_path: Path, changes: dict[str, int]
) -> None:
    def judged(model: nn.Module, step: int) -> dict[str, float]:
        raise AssertionError("a model that diverged is judged")

    with pytest.raises(ShapestoreError, match=r"the run diverged"):
        run_toy(toy_store, tmp_path / "run", config(lr=1e30, warmup_steps=0, **changes), validate=judged)
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == []


def test_the_callers_random_state_is_neither_used_nor_touched(toy_store: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        run_toy(toy_store, tmp_path / "one", config())
        after = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(torch.rand(1), after)
        torch.manual_seed(2)
        run_toy(toy_store, tmp_path / "two", config())
    assert losses(tmp_path / "one") == losses(tmp_path / "two")


def test_workers_change_nothing(toy_store: Path, tmp_path: Path) -> None:
    run_toy(toy_store, tmp_path / "none", config())
    run_toy(toy_store, tmp_path / "two", config(), workers=2)
    assert losses(tmp_path / "none") == losses(tmp_path / "two")


def test_the_model_learns_in_training_mode_after_a_validation(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[bool] = []
    real = Toy.distance

    def noted(model: Toy, points: torch.Tensor) -> torch.Tensor:
        modes.append(model.training)
        return real(model, points)

    monkeypatch.setattr(Toy, "distance", noted)
    run_toy(toy_store, tmp_path / "run", config(steps=3, validate_every=1))
    assert modes == [True, False] * 3


def test_the_learning_rate_is_told_as_a_number(
    toy_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(toy_store, tmp_path / "run", config(lr=0.01, reference_batch=2))
    assert "highest learning rate 0.01 * 8 / 2 = 0.04" in capsys.readouterr().err
    lines = losses(tmp_path / "run")
    assert lines[0] == {"step": 0, "setting/lr_ratio": 4.0, "setting/peak_lr": 0.04}
    assert max(line.get("train/lr", 0) for line in lines) == pytest.approx(0.04)


def test_no_step_waits_longer_for_its_data_than_it_takes(toy_store: Path, tmp_path: Path) -> None:
    run_toy(toy_store, tmp_path / "run", config(steps=20, log_every=5))
    lines = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    paced = [line for line in lines if "pace/seconds" in line]
    assert [line["step"] for line in paced] == [5, 10, 15, 20]
    assert all(0 < line["pace/data_seconds"] <= line["pace/seconds"] for line in paced)


def test_the_pace_is_that_of_the_steps_alone(toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of each step, ten of each validation, a hundred of each checkpoint, by a clock that only these move."""
    now = 0.0

    def taking(seconds: float, real: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*given: Any) -> Any:
            nonlocal now
            now += seconds
            return real(*given)

        return slow

    monkeypatch.setattr(session, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(session, "save_checkpoint", taking(100, session.save_checkpoint))
    monkeypatch.setattr(session, "read_tensors", taking(1000, session.read_tensors))
    monkeypatch.setattr(Trainer, "step", taking(1, Trainer.step))
    asked = config(steps=20, log_every=4, validate_every=3, checkpoint_every=5)
    stopping = follow({3: 0.0})
    with pytest.raises(KeyError):
        run_toy(toy_store, tmp_path / "run", asked, validate=taking(10, stopping))
    run_toy(toy_store, tmp_path / "run", asked, validate=taking(10, toy.distance_error), resume="auto")
    lines = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert {line["pace/seconds"] for line in lines if "pace/seconds" in line} == {1.0}


def test_the_order_is_certified_at_the_end_of_epochs(
    toy_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = run_toy(toy_store, tmp_path / "run", config(steps=6))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split(",")[0] for line in said] == ["epoch 1 done", "epoch 2 done"]
    assert said[-1].endswith(state.sampler["certificate"])


def test_epochs_are_as_long_as_the_sampler_says(toy_store: Path, tmp_path: Path) -> None:
    assert run_toy(toy_store, tmp_path / "run", config(steps=None, epochs=2)).step == 2 * -(-toy.SHAPES // 8)
