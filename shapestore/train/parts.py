"""What the loop asks of the parts that it trains with: their interfaces, and nothing of what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from shapestore.schemas.base import Strict
from shapestore.train.data.batched import Batch

Validate = Callable[[nn.Module, int], Mapping[str, float]]
"""Metrics by name of a model in evaluation mode, after so many steps. It runs in the first rank alone."""


class Part(Protocol):
    """Something built from a section of the configuration, that tells which settings are really in effect in it."""

    @property
    def settings(self) -> Strict:
        """Settings that the part was really built from."""
        ...


class Objective(Part, Protocol):
    """What is minimised. It has no state: what is trained, or changes from step to step, belongs into the model."""

    def __call__(self, model: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Scalars by name, each a mean over the samples; `loss` is the one that is minimised.

        `grad_norm` and `lr` are names of the loop's own.
        """
        ...


class Sampler(Protocol):
    """Which samples each step gets; every iteration of its loader is what is left of an epoch, at least one batch."""

    @property
    def batch(self) -> int:
        """Samples of one step, over all ranks."""
        ...

    @property
    def rank(self) -> int:
        """Whose share of the samples this is."""
        ...

    @property
    def ranks(self) -> int:
        """Among how many they are shared."""
        ...

    def __len__(self) -> int:
        """Steps of one epoch."""
        ...

    def state_dict(self, steps: int) -> dict[str, Any]:
        """Plain values from which the order goes on after that many steps of the run."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken; UsageError where the order so far would have been another."""
        ...

    def certificate(self, epoch: int, step: int) -> str:
        """Hash of the order of all samples of the earlier epochs, and of the first steps of this one."""
        ...
