"""The exponential average of a model's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


class Ema:
    """A second model whose weights are averages: average = decay * average + (1 - decay) * weight, once a step.

    It starts with the weights as they are. Buffers are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        """The model with the averages, in evaluation mode."""
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one more step."""
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - self.decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
