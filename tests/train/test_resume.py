"""Killed, stopped and resumed: the same losses as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from shapestore.errors import StoppedEarly, StoreDamaged, UsageError, WorkMismatch
from shapestore.train.batches import Batches
from shapestore.train.checkpoint import checkpoint_steps, read_state, read_tensors, save_checkpoint
from shapestore.train.run import Run
from tests.train.processes import kill, said, start, wait_for_step
from tests.train.toy import ToyConfig, ToySettings, losses, make_store, run_toy, settings

CONFIG = ToyConfig(
    train=settings(
        steps=40, ema=0.9, clip=1.0, validate_every=8, checkpoint_every=5, best={"metric": "error", "order": "lowest"}
    ),
    model=ToySettings(dropout=0.3),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, toy_store: Path) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_toy(toy_store, folder, CONFIG)
    return folder


def assert_same(run: Path, whole: Path) -> None:
    """Log, certificates and tensors are those of the whole run, to the last bit."""
    assert losses(run) == losses(whole)
    for which in ("last", "best"):
        ours, theirs = (Run(folder).checkpoint(which) for folder in (run, whole))  # type: ignore[arg-type]
        assert read_state(ours).model_dump(exclude={"sha256"}) == read_state(theirs).model_dump(exclude={"sha256"})
        for file in theirs.glob("*.pt"):
            left, right = (torch.load(folder / file.name, weights_only=True) for folder in (ours, theirs))
            torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize(("steps", "workers"), [((3, 17), 2), ((26,), 0)])
def test_a_run_that_is_killed_again_and_again_is_the_whole_run(
    toy_store: Path, tmp_path: Path, whole: Path, steps: tuple[int, ...], workers: int
) -> None:
    """The exact step and moment are up to the machine; in the end it goes on with another number of workers."""
    folder = tmp_path / "run"
    for step in steps:
        process = start(toy_store, folder, CONFIG, workers=1 - workers // 2, seconds=0.01)
        wait_for_step(process, folder, step)
        kill(process)
    run_toy(toy_store, folder, CONFIG, workers=workers, resume="auto")
    assert_same(folder, whole)


@pytest.mark.parametrize(
    ("number", "workers", "context"),
    [
        (signal.SIGTERM, 0, "fork"),
        (signal.SIGTERM, 1, "fork"),
        (signal.SIGINT, 1, "fork"),
        pytest.param(signal.SIGTERM, 1, "spawn", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_all_processes_finishes_the_step_and_keeps_it(
    toy_store: Path, tmp_path: Path, whole: Path, number: signal.Signals, workers: int, context: str
) -> None:
    folder = tmp_path / "run"
    process = start(toy_store, folder, CONFIG, workers=workers, context=context, seconds=0.01)
    wait_for_step(process, folder, 6)
    assert process.pid is not None
    os.killpg(process.pid, number)
    process.join()
    assert process.exitcode == 5
    assert "Run the same command again with --resume auto" in said(folder)
    kept = checkpoint_steps(folder / "checkpoints")[-1]
    assert 6 <= kept < 40
    run_toy(toy_store, folder, CONFIG, resume="auto")
    assert_same(folder, whole)


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    toy_store: Path, tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    Run.create(folder, CONFIG, [])
    (folder / "run.json").write_bytes((whole / "run.json").read_bytes())
    begun = (whole / "log.jsonl").read_bytes()
    (folder / "log.jsonl").write_bytes(begun[: len(begun) // 5])
    run_toy(toy_store, folder, CONFIG, resume="auto")
    assert "there is no checkpoint yet: the run begins anew" in capsys.readouterr().err
    assert_same(folder, whole)


def test_a_run_that_is_stopped_before_every_step_is_the_whole_run(
    toy_store: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped anywhere, at validations and ends of epochs too; no worker, so that it is quick."""
    folder = tmp_path / "run"
    stops = iter(range(1000))
    real = Batches.take
    monkeypatch.setattr(Batches, "take", lambda self: None if next(stops) % 2 else real(self))
    for step in range(1, 40):
        with pytest.raises(StoppedEarly, match=rf"stopped after step {step} of 40"):
            run_toy(toy_store, folder, CONFIG, resume="auto")
    run_toy(toy_store, folder, CONFIG, resume="auto")
    assert_same(folder, whole)


def test_a_finished_run_has_nothing_left_to_do(toy_store: Path, whole: Path) -> None:
    before = (whole / "log.jsonl").read_bytes()
    assert run_toy(toy_store, whole, CONFIG, resume="auto").step == 40
    assert (whole / "log.jsonl").read_bytes() == before


def test_a_folder_that_is_there_is_not_written_over(toy_store: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="--resume auto"):
        run_toy(toy_store, whole, CONFIG)


def test_other_settings_are_refused_by_name(toy_store: Path, whole: Path) -> None:
    other = CONFIG.model_copy(update={"train": settings(steps=40, lr=0.02, ema=0.9), "model": ToySettings(dropout=0.2)})
    with pytest.raises(WorkMismatch, match=r"model.dropout: expected 0.3, got 0.2(.|\n)*train.lr: expected 0.01, got"):
        run_toy(toy_store, whole, other, resume="auto")


def test_settings_that_come_back_with_the_tensors_are_read_back_too(
    toy_store: Path, tmp_path: Path, whole: Path
) -> None:
    """An optimiser keeps its own, and takes them over from a checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    checkpoint = Run(folder).checkpoint("last")
    state = read_state(checkpoint)
    tensors = read_tensors(checkpoint, state)
    tensors["optimiser"]["param_groups"][0]["betas"] = (0.5, 0.9)
    shutil.rmtree(checkpoint)
    save_checkpoint(folder / "checkpoints", state, tensors)
    with pytest.raises(WorkMismatch, match=r"did not arrive(.|\n)*betas: expected \[0.9, 0.999\], got \[0.5, 0.9\]"):
        run_toy(toy_store, folder, CONFIG, resume="auto")


def test_another_store_is_refused(tmp_path: Path, whole: Path) -> None:
    other = make_store(tmp_path / "other.zarr", shapes=21)
    with pytest.raises(WorkMismatch, match=r"store 0: commit"):
        run_toy(other, whole, CONFIG, resume="auto")


def test_the_same_store_elsewhere_is_the_same(tmp_path: Path, whole: Path) -> None:
    assert run_toy(make_store(tmp_path / "copy.zarr"), whole, CONFIG, resume="auto").step == 40


def test_another_order_is_refused(toy_store: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="order seed"):
        run_toy(toy_store, whole, CONFIG, resume="auto", seed=1)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_goes_on(
    toy_store: Path, tmp_path: Path, whole: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    weights = Run(folder).checkpoint("last") / "weights.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StoreDamaged, match="Delete its folder"):
        run_toy(toy_store, folder, CONFIG, resume="auto")
    shutil.rmtree(weights.parent)
    run_toy(toy_store, folder, CONFIG, resume="auto")
    assert_same(folder, whole)
