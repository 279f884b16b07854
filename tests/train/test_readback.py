"""A setting that does not arrive where it has its effect is an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from shapestore.errors import UsageError, WorkMismatch
from shapestore.train import session
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.readback import flat, require_equal
from shapestore.train.settings import TrainSettings
from shapestore.train.trainer import Trainer
from tests.train import toy
from tests.train.toy import (
    Toy,
    ToyConfig,
    ToyObjective,
    ToyObjectiveSettings,
    ToySettings,
    losses,
    run_toy,
    settings,
)

BASE = {"steps": 12, "validate_every": 6, "checkpoint_every": 4, "keep_last": 2}

CHANGES: dict[str, dict[str, Any]] = {
    "steps": {"steps": 11},
    "epochs": {"steps": None, "epochs": 2},
    "batch": {"batch": 4},
    "accumulation": {"accumulation": 2},
    "lr": {"lr": 0.02},
    "reference_batch": {"reference_batch": 16},
    "min_lr": {"min_lr": 0.001},
    "warmup_steps": {"warmup_steps": 4},
    "betas": {"betas": (0.8, 0.999)},
    "weight_decay": {"weight_decay": 0.5},
    "clip": {"clip": 0.01},
    "precision": {"precision": "bf16"},
    "ema": {"ema": 0.5},
    "seed": {"seed": 1},
    "log_every": {"log_every": 2},
    "validate_every": {"validate_every": 5},
    "checkpoint_every": {"checkpoint_every": 3},
    "keep_last": {"keep_last": 1},
    "best": {"best": {"metric": "step", "order": "lowest"}},
}


def outcome(store: Path, folder: Path, **changes: Any) -> Any:
    """All that a run leaves which its settings have a say in."""
    config = ToyConfig(train=settings(**{**BASE, **changes}))
    state = run_toy(store, folder, config)
    return losses(folder), state.best, sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, toy_store: Path) -> Any:
    return outcome(toy_store, tmp_path_factory.mktemp("base") / "run")


def test_no_setting_is_left_out_here() -> None:
    assert CHANGES.keys() == TrainSettings.model_fields.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_run(toy_store: Path, tmp_path: Path, base: Any, name: str) -> None:
    assert outcome(toy_store, tmp_path / "run", **CHANGES[name]) != base


def test_equal_settings_give_equal_runs(toy_store: Path, tmp_path: Path, base: Any) -> None:
    assert outcome(toy_store, tmp_path / "run") == base


def _group(name: str, value: Any) -> Callable[[Trainer], None]:
    return lambda trainer: trainer.optimiser.param_groups[0].update({name: value})


def _fewer(trainer: Trainer) -> None:
    trainer.optimiser.param_groups[0]["params"].pop()


def _more(trainer: Trainer) -> None:
    trainer.optimiser.add_param_group({"params": [nn.Parameter(trainer.model.first.bias.detach())], "lr": 1.0})  # type: ignore[union-attr, operator]


def _schedule(trainer: Trainer) -> None:
    trainer.schedule = replace(trainer.schedule, peak=99.0)
    trainer.optimiser.param_groups[0]["lr"] = trainer.schedule(0)


def _decay(trainer: Trainer) -> None:
    assert trainer.ema is not None
    trainer.ema.decay = 0.5


def _dropout(trainer: Trainer) -> None:
    trainer.model.drop.p = 0.0  # type: ignore[union-attr, assignment]


def _precision(trainer: Trainer) -> None:
    trainer.loss.precision = "bf16"


@pytest.mark.parametrize(
    ("name", "lose"),
    [
        ("train.lr", _group("lr", 0.5)),
        ("train.betas", _group("betas", (0.1, 0.2))),
        ("train.weight_decay", _group("weight_decay", 0.0)),
        ("weights that are trained", _fewer),
        ("train.lr", _more),
        ("train.lr", _schedule),
        ("train.ema", _decay),
        ("train.precision", _precision),
        ("model.dropout", _dropout),
    ],
)
def test_a_setting_that_was_lost_is_named(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lose: Callable[[Trainer], None]
) -> None:
    def losing(self: session.Session, *given: Any, **options: Any) -> int:
        lose(self._trainer)
        return real(self, *given, **options)

    real = session.Session.begin
    monkeypatch.setattr(session.Session, "begin", losing)
    with pytest.raises(WorkMismatch, match=rf"did not arrive(.|\n)*{name}: expected .*, got"):
        run_toy(toy_store, tmp_path / "run", ToyConfig(train=settings(ema=0.9)))
    assert not (tmp_path / "run").exists()


def test_a_setting_that_is_lost_on_the_way_stops_the_next_checkpoint(toy_store: Path, tmp_path: Path) -> None:
    def forgetting(model: nn.Module, step: int) -> dict[str, float]:
        model.drop.p = 0.0  # type: ignore[union-attr, assignment]
        return {}

    with pytest.raises(WorkMismatch, match=r"model.dropout: expected 0.1, got 0.0"):
        run_toy(toy_store, tmp_path / "run", ToyConfig(train=settings()), validate=forgetting)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_sampler_of_other_batches_is_named(toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "ShapeSampler", lambda dataset, _batch, **given: ShapeSampler(dataset, 4, **given))
    with pytest.raises(WorkMismatch, match=r"train.batch: expected 8, got 4"):
        run_toy(toy_store, tmp_path / "run", ToyConfig(train=settings()))


@pytest.mark.parametrize("part", ["model", "objective"])
def test_a_part_built_with_its_defaults_is_named(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """What happened to the seeds: a flag of the command that the constructor never got."""
    if part == "model":
        monkeypatch.setattr(toy, "Toy", lambda _settings: Toy(ToySettings()))
    else:
        monkeypatch.setattr(toy, "ToyObjective", lambda _settings, _s: ToyObjective(ToyObjectiveSettings()))
    asked = ToyConfig(train=settings(), model=ToySettings(width=8), objective=ToyObjectiveSettings(smooth=0.5))
    with pytest.raises(WorkMismatch, match=rf"{part}\.\w+: expected"):
        run_toy(toy_store, tmp_path / "run", asked)


def test_a_section_that_nothing_is_built_from_is_refused(toy_store: Path, tmp_path: Path) -> None:
    class More(ToyConfig):
        extra: ToySettings = ToySettings()

    config = More(train=settings())
    with pytest.raises(UsageError, match="section extra"):
        run_toy(toy_store, tmp_path / "run", config)
    assert run_toy(toy_store, tmp_path / "run", config, built={"extra": Toy(config.extra)}).step == 12


@pytest.mark.parametrize("told", [None, {"width": 16, "dropout": 0.1}])
def test_a_part_that_does_not_tell_its_settings_is_refused(toy_store: Path, tmp_path: Path, told: Any) -> None:
    objective = SimpleNamespace() if told is None else SimpleNamespace(settings=told)
    with pytest.raises(UsageError, match="from the section objective does not tell its settings"):
        run_toy(toy_store, tmp_path / "run", ToyConfig(train=settings()), objective=objective)


def test_differences_are_told_all_at_once() -> None:
    with pytest.raises(WorkMismatch) as caught:
        require_equal({"a": 1, "b": [2], "c": 3}, {"a": 1, "b": [4], "d": None}, "what", "remedy")
    assert str(caught.value).splitlines() == [
        "what",
        "  - b: expected [2], got [4].",
        "  - c: expected 3, got None.",
        "remedy",
    ]


def test_nested_values_are_told_by_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": [{"f": 2}], "g": {}}, "x.") == {
        "x.a.b": 1,
        "x.a.c.d": None,
        "x.e": [{"f": 2}],
        "x.g": {},
    }
