"""`TrainSettings`: how a model is trained, whatever the model is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from shapestore.errors import UsageError
from shapestore.schemas.base import Strict
from shapestore.schemas.recipe import Seed

Decay = Annotated[float, Field(ge=0, lt=1)]
"""Share of the past that an exponential average keeps each step."""


class Best(Strict):
    """Which checkpoint is the best one."""

    metric: str
    """Name of a metric of the validation."""
    order: Literal["highest", "lowest"]
    """Which of its values is the best."""

    def require_among(self, metrics: Iterable[str]) -> None:
        """Raise `UsageError` where the validation gives no such metric."""
        known = tuple(metrics)
        if self.metric not in known:
            raise UsageError(f"train.best is {self.metric!r}, and the validation gives {', '.join(known)}.")


class TrainSettings(Strict):
    """How long, how fast and how exactly a model is trained. A step is one update of the weights."""

    steps: PositiveInt | None = None
    """Steps in all; either these or `epochs`."""
    epochs: PositiveInt | None = None
    """Passes over the data in all; either these or `steps`."""
    batch: PositiveInt
    """Samples of one step, over all ranks and all parts of an accumulated gradient."""
    accumulation: PositiveInt = 1
    """Parts in which a rank's share of the batch goes through the model, one after the other, to save memory."""
    lr: PositiveFloat
    """Learning rate at its highest, for a batch of `reference_batch` samples."""
    reference_batch: PositiveInt = 256
    """Batch that `lr` is meant for: the rate is scaled by batch / reference_batch (Goyal et al., 2017)."""
    min_lr: NonNegativeFloat = 0.0
    """Learning rate of the last step; not scaled."""
    warmup_steps: NonNegativeInt = 0
    """Steps in which the rate rises to its highest."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of AdamW's averages of the gradient and of its square."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay of AdamW, for all parameters."""
    clip: PositiveFloat | None = None
    """Greatest norm of the gradient over all parameters: a longer one is shortened to it. None: never."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: the forward pass under torch's autocast; weights, gradients and the optimiser stay in float32."""
    ema: Decay | None = None
    """Decay of the exponential average of the weights that is validated and kept beside them. None: no average."""
    seed: Seed = 0
    """Seed of what the model draws while it trains, such as dropout."""
    log_every: PositiveInt = 10
    """Steps between two lines of the log."""
    validate_every: PositiveInt = 1000
    """Steps between two validations; there is always one after the last step."""
    checkpoint_every: PositiveInt = 1000
    """Steps between two checkpoints; there is always one after a validation and after the last step."""
    keep_last: PositiveInt = 2
    """Newest checkpoints that are kept, beside the best one."""
    best: Best | None = None
    """Which checkpoint is the best one; None: only the newest are kept."""

    @property
    def lr_ratio(self) -> float:
        """What `lr` is multiplied with: batch / reference_batch."""
        return self.batch / self.reference_batch

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole run, where a pass over the data takes `steps_per_epoch`."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        """The length is given once."""
        if self.steps is None and self.epochs is None:
            raise ValueError("steps or epochs must be given")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs cannot both be given: set one of them to null")
        return self

    @model_validator(mode="after")
    def _rate_falls(self) -> Self:
        """The rate never ends above its highest."""
        if self.min_lr > self.lr * self.lr_ratio:
            raise ValueError(f"min_lr {self.min_lr} is above lr * batch / reference_batch = {self.lr * self.lr_ratio}")
        return self


class RunConfig(Strict):
    """All settings of a run; a system adds a section for each of its parts, such as `model` and `objective`."""

    train: TrainSettings
    """How it is trained."""
