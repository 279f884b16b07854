"""A system as small as can be: it draws points, drops out and needs second derivatives, as real ones do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import shapestore
from shapestore.schemas.base import Strict
from shapestore.train.checkpoint import State
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import RandomDraw
from shapestore.train.data.loader import loader
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.loop import train
from shapestore.train.ranks import launched
from shapestore.train.run import TrainedOn
from shapestore.train.settings import RunConfig, TrainSettings
from tests.store.conftest import new_writer, write_rows

SHAPES = 20
DRAWN = 8


class ToySettings(Strict):
    width: int = 16
    dropout: float = 0.1


class ToyObjectiveSettings(Strict):
    smooth: float = 0.1


class ToyConfig(RunConfig):
    model: ToySettings = ToySettings()
    objective: ToyObjectiveSettings = ToyObjectiveSettings()


class Toy(nn.Module):
    def __init__(self, settings: ToySettings) -> None:
        super().__init__()
        with torch.random.fork_rng():
            self.first = nn.Linear(3, settings.width)
            self.last = nn.Linear(settings.width, 1)
        self.drop = nn.Dropout(settings.dropout)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        draws = torch.Generator().manual_seed(5)
        for weight in self.parameters():
            weight.data.uniform_(-0.3, 0.3, generator=draws)

    @property
    def settings(self) -> ToySettings:
        return ToySettings(width=self.first.out_features, dropout=self.drop.p)

    def distance(self, points: Tensor) -> Tensor:
        return self.last(self.drop(torch.tanh(self.first(points))))[..., 0]


class ToyObjective:
    """Distances at points, and a gradient of length 1; the model is called by another name than `forward`."""

    def __init__(self, settings: ToyObjectiveSettings, seconds: float = 0.0) -> None:
        self.settings = settings
        self.seconds = seconds
        """How long a step takes, so that a signal comes in the middle of a run."""

    def __call__(self, model: Toy, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        points = batch["pc_xyz"].clone().requires_grad_()
        found = model.distance(points)
        (slope,) = torch.autograd.grad(found.sum(), points, create_graph=True)
        fit = (found - points.detach().norm(dim=-1)).abs().mean()
        smooth = (slope.norm(dim=-1) - 1).square().mean()
        return {"loss": fit + self.settings.smooth * smooth, "fit": fit, "smooth": smooth}


class NamedObjective(ToyObjective):
    """Its scalars come in another order, with one more."""

    def __init__(self, *more: str) -> None:
        super().__init__(ToyObjectiveSettings())
        self.more = more

    def __call__(self, model: Toy, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().__call__(model, batch)
        return dict(reversed(found.items())) | {name: found["fit"].detach() for name in self.more}


def make_store(path: Path, shapes: int = SHAPES) -> Path:
    write_rows(new_writer(path), range(shapes))
    return path


def settings(**changes: Any) -> TrainSettings:
    given = {"steps": 12, "batch": 8, "lr": 0.01, "reference_batch": 8, "log_every": 1, "warmup_steps": 3, **changes}
    return TrainSettings.model_validate(given)


def distance_error(model: nn.Module, step: int) -> dict[str, float]:
    """A validation: how far the model is off at fixed points, and a metric that rises."""
    assert not model.training
    points = torch.linspace(-1, 1, 30).reshape(10, 3)
    with torch.no_grad():
        return {"error": float((model.distance(points) - points.norm(dim=-1)).abs().mean()), "step": float(step)}  # type: ignore[operator]


def run_toy(
    store: Path,
    folder: Path,
    config: ToyConfig,
    *,
    workers: int = 0,
    context: Literal["fork", "spawn"] = "fork",
    seed: int = 0,
    seconds: float = 0.0,
    share: int | None = None,
    **options: Any,
) -> State:
    """Train as a command would: each part built from its own section, ranks from the environment."""
    options = {"validate": distance_error, **options}
    torch.set_num_threads(1)
    with launched("cpu") as ranks:
        opened = shapestore.open(store)
        draw = RandomDraw(arrays=("pc_xyz",), count=DRAWN)
        dataset = ShapeDataset(opened, draws=[draw], seed=seed)
        rank = ranks.rank if share is None else share
        sampler = ShapeSampler(dataset, config.train.batch, seed=seed, rank=rank, ranks=ranks.count)
        options = {
            "loader": loader(dataset, sampler, workers=workers, context=context),
            "objective": ToyObjective(config.objective, seconds),
            "sampler": sampler,
            "trained_on": [TrainedOn(opened, dataset.rows)],
            **options,
        }
        return train(
            config,
            folder,
            model=Toy(config.model),
            ranks=ranks,
            **options,
        )


def losses(folder: Path) -> list[dict[str, float]]:
    """All lines of the log, without what depends on the machine."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("pace/")} for line in lines]
