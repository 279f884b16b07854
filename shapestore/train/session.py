"""`Session`: what surrounds the steps of a run: resuming, the log, validation, checkpoints, settings read back."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Literal

import torch
from torch import Tensor

from shapestore.errors import ShapestoreError, UsageError
from shapestore.store.lock import WriterLock
from shapestore.train.checkpoint import (
    BestSoFar,
    State,
    checkpoint_steps,
    keep_checkpoints,
    read_state,
    read_tensors,
    save_checkpoint,
)
from shapestore.train.log import Log
from shapestore.train.parts import Part, Sampler, Validate
from shapestore.train.progress import Reporter
from shapestore.train.ranks import Ranks
from shapestore.train.readback import require_equal, require_parts, settings_asked, settings_in_effect
from shapestore.train.run import Run, TrainedOn, versions
from shapestore.train.settings import RunConfig
from shapestore.train.trainer import Trainer

NOT_ARRIVED = "Settings did not arrive where they have their effect:"
MEND_THE_PARTS = "What built the parts did not use them. Mend it: no result of this run could be trusted."


class Session:
    """One process's stay in a run. All ranks call the same methods at the same steps; the first one writes."""

    def __init__(
        self,
        config: RunConfig,
        run: Run,
        trainer: Trainer,
        sampler: Sampler,
        parts: Mapping[str, Part],
        validate: Validate | None,
        ranks: Ranks,
    ) -> None:
        require_parts(config, parts)
        if config.train.best is not None and validate is None:
            raise UsageError("train.best names a metric, and there is no validation. Leave it out, or validate.")
        self._config = config
        self._run = run
        self._trainer = trainer
        self._sampler = sampler
        self._parts = parts
        self._validate = validate
        self._ranks = ranks
        self._stack = ExitStack()
        self._since = 0.0
        self._found = False
        self.state = State(step=0)
        """What is to be known of the newest checkpoint, and of a validation since."""

    def begin(self, trained_on: Sequence[TrainedOn], resume: Literal["auto", "never"]) -> int:
        """Make the run, or go on with it; returns the steps that are done."""
        self._settings_that_arrived(0)
        # Whoever looked at a batch before has moved the sampler.
        self._sampler.load_state_dict(self._sampler.state_dict(0))
        self._require_one_run()
        refused = self._enter(trained_on, resume) if self._ranks.first else None
        if self._ranks.any(refused is not None):
            raise refused or UsageError("the first of the processes that train together cannot begin: it says why.")
        if checkpoint_steps(self._run.checkpoints):
            self._load()
        if self._ranks.first:
            self._open_reports()
        self._trainer.model.train()
        self._since = time.perf_counter()
        return self.state.step

    def _require_one_run(self) -> None:
        """All ranks train one model, each on its share of one order."""
        ranks, sampler = self._ranks, self._sampler
        misplaced = (sampler.rank, sampler.ranks) != (ranks.rank, ranks.count)
        if ranks.any(misplaced):
            raise UsageError(
                f"the sampler gives the share of rank {sampler.rank} of {sampler.ranks}, and the loop is rank "
                f"{ranks.rank} of {ranks.count}. Hand both the same: `with launched(device) as ranks`."
                if misplaced
                else "the sampler of another process that trains with this one is not that of its rank: it says so."
            )
        ranks.require_same("settings", self._config.model_dump(mode="json"))
        ranks.require_same("order of samples", sampler.state_dict(0))

    def _enter(self, trained_on: Sequence[TrainedOn], resume: Literal["auto", "never"]) -> ShapestoreError | None:
        """Take the run's folder, made or found; or say why that cannot be, which all ranks must hear of."""
        path = self._run.path
        try:
            self._stack.enter_context(WriterLock(path, path.with_name(f"{path.name}.training")))
            if resume == "auto" and path.exists():
                self._run.require_same(self._config, trained_on)
                self._found = True
            else:
                Run.create(path, self._config, trained_on)
        except ShapestoreError as error:
            return error
        return None

    def log(self, done: int, losses: Mapping[str, Tensor], steps: int, waited: float) -> None:
        """Note the losses of the last step, and how fast the steps were.

        Parameters
        ----------
        steps
            Steps since the last call; what validations and checkpoints between them took is not counted.
        waited
            Seconds of them in which the loader kept the loop waiting.

        Raises
        ------
        ShapestoreError
            The loss or the gradient is not finite.
        """
        values = self._ranks.mean(losses)
        self._require_finite(done, math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]))
        if self._ranks.first:
            values["lr"] = self._trainer.optimiser.param_groups[0]["lr"]
            pace = {"seconds": (time.perf_counter() - self._since) / steps, "data_seconds": waited / steps}
            self._since = time.perf_counter()
            self._log.write(done, train=values, pace=pace)
            self._reporter.update(done, {"loss": values["loss"], "lr": values["lr"]})

    def end_epoch(self, done: int) -> None:
        """Say which order of samples the epoch had."""
        if self._ranks.first:
            epoch = done // len(self._sampler)
            self._reporter.say(f"epoch {epoch} done, order {self._sampler.certificate(epoch, 0)}")

    def validate(self, done: int) -> None:
        """Measure the model; the averaged one, where there is one.

        Raises
        ------
        ShapestoreError
            A weight is not finite.
        UsageError
            What it gives are no numbers by name.
        """
        began = time.perf_counter()
        self._require_finite_weights(done)
        if self._validate is not None and self._ranks.first:
            metrics = _numbers(self._validate(self._trainer.judged.eval(), done))
            self._trainer.model.train()
            self._log.write(done, validation=metrics)
            self._reporter.say(f"step {done}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
            best = self._best(done, finite)
            self.state = self.state.model_copy(update={"metrics": finite, "validated": done, "best": best})
        self._ranks.wait()
        self._since += time.perf_counter() - began

    def save(self, done: int) -> None:
        """Write a checkpoint if there is none of this step, and delete those that are neither new nor the best.

        Raises
        ------
        ShapestoreError
            A weight is not finite.
        """
        if done == self.state.step:
            return
        began = time.perf_counter()
        self._require_finite_weights(done)
        new = {
            "step": done,
            "sampler": self._sampler.state_dict(done),
            "settings": self._settings_that_arrived(done),
            "versions": versions(),
        }
        self.state = self.state.model_copy(update=new)
        if self._ranks.first:
            folder = self._run.checkpoints
            save_checkpoint(folder, self.state, self._trainer.state())
            best = {self.state.best.step} if self.state.best is not None else set()
            keep_checkpoints(folder, best.union(checkpoint_steps(folder)[-self._config.train.keep_last :]))
        self._ranks.wait()
        self._since += time.perf_counter() - began

    def close(self) -> None:
        """Close the log and the progress bar."""
        self._stack.close()

    def _require_finite_weights(self, done: int) -> None:
        weights = self._trainer.model.parameters()
        self._require_finite(done, bool(torch.stack([weight.isfinite().all() for weight in weights]).all()))

    def _require_finite(self, done: int, finite: bool) -> None:
        if not finite:
            raise ShapestoreError(
                f"the run diverged: after step {done} its loss, gradient or weights are not finite. Begin another with "
                f"a lower train.lr, a train.clip or a longer warm-up. What it has is in {self._run.checkpoints}."
            )

    def _load(self) -> None:
        checkpoint = self._run.checkpoint("last")
        self.state = read_state(checkpoint)
        asked = settings_asked(self._config, self._trainer, self._sampler, self.state.step)
        remedy = "Go on with the settings that the run was begun with, or begin another run."
        require_equal(self.state.settings, asked, f"{checkpoint} was trained with other settings:", remedy)
        self._trainer.load_state(read_tensors(checkpoint, self.state))
        self._sampler.load_state_dict(dict(self.state.sampler))
        self._settings_that_arrived(self.state.step)

    def _open_reports(self) -> None:
        settings, done = self._config.train, self.state.step
        self._log = self._stack.enter_context(closing(Log(self._run.path, done)))
        steps = self._trainer.schedule.steps
        self._reporter = self._stack.enter_context(Reporter(done, steps))
        rate = f"{settings.lr:g} * {settings.batch} / {settings.reference_batch} = {self._trainer.schedule.peak:g}"
        self._reporter.say(f"{self._run.path}: step {done:,} of {steps:,}; highest learning rate {rate}")
        if self._found and not done:
            self._reporter.say("there is no checkpoint yet: the run begins anew")
        if not done:
            self._log.write(0, setting={"lr_ratio": settings.lr_ratio, "peak_lr": self._trainer.schedule.peak})

    def _settings_that_arrived(self, done: int) -> dict[str, object]:
        """Every setting as it is in effect, which must be as asked."""
        found = settings_in_effect(self._trainer, self._sampler, self._parts)
        asked = settings_asked(self._config, self._trainer, self._sampler, done)
        require_equal(asked, found, NOT_ARRIVED, MEND_THE_PARTS)
        return found

    def _best(self, done: int, metrics: Mapping[str, float | None]) -> BestSoFar | None:
        """The best validation so far; one that is no number never is."""
        wanted, best = self._config.train.best, self.state.best
        if wanted is None:
            return None
        wanted.require_among(metrics)
        value = metrics[wanted.metric]
        if value is None:
            return best
        sign = 1 if wanted.order == "highest" else -1
        if best is not None and sign * value <= sign * best.value:
            return best
        return BestSoFar(step=done, metric=wanted.metric, value=value)


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """What a validation found, as numbers of Python; arrays and tensors of one value are numbers, too."""
    try:
        return {name: float(value) for name, value in metrics.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"a validation gives numbers by name, not {metrics!r}: {error}") from None
