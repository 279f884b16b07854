"""`train`: the loop that serves every system, from built parts to a trained and kept model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from shapestore.errors import StoppedEarly, UsageError
from shapestore.preprocess.interrupts import interrupts
from shapestore.train.batches import Batches
from shapestore.train.checkpoint import State
from shapestore.train.data.batched import Batch
from shapestore.train.parts import Objective, Part, Sampler, Validate
from shapestore.train.ranks import Ranks
from shapestore.train.run import Run, TrainedOn
from shapestore.train.schedule import Schedule
from shapestore.train.session import Session
from shapestore.train.settings import RunConfig
from shapestore.train.trainer import Trainer

ALONE = Ranks()


def train(
    config: RunConfig,
    folder: str | Path,
    *,
    model: nn.Module,
    objective: Objective,
    loader: Iterable[Batch],
    sampler: Sampler,
    trained_on: Sequence[TrainedOn],
    validate: Validate | None = None,
    built: Mapping[str, Part] | None = None,
    ranks: Ranks = ALONE,
    resume: Literal["auto", "never"] = "never",
) -> State:
    """Train a model, and keep it in the folder of a run.

    The caller's random state is not touched. Equal inputs give equal losses on equal machines, interrupted or not.

    Parameters
    ----------
    config
        All settings; every section but `train` is compared with the `settings` of what was built from it.
    folder
        Where the run is kept; made here.
    model
        With the section `model` of the configuration as its `settings`; it is moved to the device of `ranks`.
    objective
        What is minimised; read back as the section `objective`.
    loader
        This rank's batches, in the order of `sampler`: one iteration is the rest of an epoch.
    sampler
        What the loader takes its order from.
    trained_on
        The rows of each store: a run goes on only on the same content, and its shapes are never judged as unseen.
    validate
        Metrics of the model after so many steps, called in the first rank.
    built
        What was built from other sections of the configuration, by the section's name.
    ranks
        The processes that train together, from `launched`.
    resume
        `auto`: go on from the newest checkpoint, or begin where there is none. `never`: the folder must be a new one.

    Returns
    -------
    State
        What is to be known of the last checkpoint.

    Raises
    ------
    StoppedEarly
        SIGTERM or SIGINT: the step was finished and a checkpoint written.
    WorkMismatch
        A setting did not arrive where it has its effect, or the run was begun with other settings or other content.
    UsageError
        The folder is there already, parts do not fit each other, or the loader gives no batches.
    StoreLocked
        Another process trains in this folder.
    StoreDamaged
        The checkpoint to go on from is damaged.
    ShapestoreError
        The loss is no number any more.
    """
    settings = config.train
    if resume not in ("auto", "never"):
        raise UsageError(f"resume is 'auto' or 'never', not {resume!r}.")
    _require_order_of(sampler, loader)
    if not all(isinstance(each, TrainedOn) for each in trained_on) or not any(len(rows) for _, rows in trained_on):
        raise UsageError(
            "trained_on is a list such as [TrainedOn(store, dataset.rows)], with the shapes of each store: without it "
            "the run could not tell later which it has not seen."
        )
    steps = settings.total_steps(len(sampler))
    trainer = Trainer(model, objective, settings, Schedule.of(settings, steps), ranks)
    parts = {"model": cast("Part", model), "objective": objective, **(built or {})}
    session = Session(config, Run(Path(folder)), trainer, sampler, parts, validate, ranks)

    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with (
        interrupts() as stopped,
        torch.random.fork_rng(devices),
        closing(session),
        closing(Batches(loader, stopped)) as batches,
    ):
        done = session.begin(trained_on, resume)
        while done < steps:
            batch = batches.take()
            if ranks.any(batch is None) or batch is None:
                session.save(done)
                raise StoppedEarly(
                    f"stopped after step {done} of {steps}. Run the same command again with --resume auto: {folder}"
                )
            losses = trainer.step(done, batch)
            done += 1
            if _due(done, settings.log_every, steps):
                session.log(done, losses, *batches.pace())
            if done % len(sampler) == 0:
                session.end_epoch(done)
            if validating := _due(done, settings.validate_every, steps):
                session.validate(done)
            if validating or _due(done, settings.checkpoint_every, steps):
                session.save(done)
    return session.state


def _require_order_of(sampler: Sampler, loader: Iterable[Batch]) -> None:
    """Where a loader tells what it takes its order from, that is what the run certifies."""
    orders = [each for name in ("batch_sampler", "sampler") if (each := getattr(loader, name, None)) is not None]
    if orders and sampler not in orders:
        raise UsageError("the loader takes its order from another sampler: the run would certify what it did not read.")


def _due(done: int, every: int, steps: int) -> bool:
    """Whether something is to be done after this step: every so many steps, and after the last one."""
    return done % every == 0 or done == steps
