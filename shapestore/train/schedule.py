"""The learning rate of every step: a linear rise, then half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from shapestore.errors import UsageError
from shapestore.train.settings import TrainSettings


@dataclass(frozen=True)
class Schedule:
    """Learning rate as a function of the step alone.

    With k = step + 1: peak * (k / warmup) up to k = warmup, then floor + (peak - floor) * (1 + cos(pi * t)) / 2 with
    t = (k - warmup) / (steps - warmup) (Loshchilov and Hutter, 2017), so that the last step has the rate `floor`.
    """

    peak: float
    floor: float
    warmup: int
    steps: int

    @classmethod
    def of(cls, settings: TrainSettings, steps: int) -> Self:
        """The schedule of a run of `steps` steps.

        Raises
        ------
        UsageError
            The rise takes more steps than there are.
        """
        if settings.warmup_steps > steps:
            raise UsageError(
                f"train.warmup_steps is {settings.warmup_steps}, and the whole run has {steps} steps. Make the rise "
                "shorter or the run longer."
            )
        return cls(settings.lr * settings.lr_ratio, settings.min_lr, settings.warmup_steps, steps)

    def __call__(self, step: int) -> float:
        """Rate of a step, counted from 0."""
        done = step + 1
        if done <= self.warmup:
            return self.peak * (done / self.warmup)
        share = (done - self.warmup) / (self.steps - self.warmup)
        return self.floor + (self.peak - self.floor) * (1 + math.cos(math.pi * share)) / 2
