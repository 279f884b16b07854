"""`Trainer`: a model, its optimiser and its average, and what one step does to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from shapestore.errors import UsageError
from shapestore.schemas.seeding import row_seed
from shapestore.train.data.batched import Batch
from shapestore.train.data.loader import to_device
from shapestore.train.ema import Ema
from shapestore.train.parts import Objective
from shapestore.train.ranks import Ranks
from shapestore.train.schedule import Schedule
from shapestore.train.settings import TrainSettings

RESERVED = ("grad_norm", "lr")
"""Names in the log that are not the objective's."""


class Trainer:
    """The state that training changes; `model` is moved to the device of the rank.

    Raises
    ------
    UsageError
        The batch does not fall into equal parts for the ranks and the accumulation, the objective has a state, or the
        model none that is trained.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, settings: TrainSettings, schedule: Schedule, ranks: Ranks
    ) -> None:
        self._part, odd = divmod(settings.batch, ranks.count * settings.accumulation)
        if odd:
            raise UsageError(
                f"train.batch is {settings.batch}, no multiple of {ranks.count} rank(s) times "
                f"train.accumulation {settings.accumulation}. Choose one."
            )
        self.model = model.to(ranks.device)
        self.loss = _Loss(self.model, objective, settings.precision)
        if isinstance(objective, nn.Module) and objective.state_dict():
            raise UsageError(
                f"the objective has a state of its own, {', '.join(objective.state_dict())}, which would be neither "
                "trained nor kept. Put it into the model."
            )
        if not any(weight.requires_grad for weight in model.parameters()):
            raise UsageError("the model has no weights that are trained.")
        self.schedule = schedule
        self.optimiser = AdamW(
            (weight for weight in model.parameters() if weight.requires_grad),
            lr=schedule(0),
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.ema = None if settings.ema is None else Ema(self.model, settings.ema)
        self._parallel = DistributedDataParallel(self.loss) if ranks.count > 1 else None
        self._settings = settings
        self._ranks = ranks

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and used: that of the averages where there is one."""
        return self.model if self.ema is None else self.ema.model

    def step(self, number: int, batch: Batch) -> dict[str, Tensor]:
        """Update the weights once.

        Parameters
        ----------
        number
            Steps before this one. Rate and random draws are functions of it, so that a resumed run has the same.
        batch
            This rank's share of the step's samples.

        Returns
        -------
        dict
            The objective's scalars, as means over this rank's samples, and `grad_norm`, the norm before clipping.
        """
        torch.manual_seed(row_seed(self._settings.seed, f"step {number} rank {self._ranks.rank}"))
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule(number)
        self.optimiser.zero_grad()
        means: dict[str, Tensor] = {}
        for part, is_last in self._parts(batch):
            # Ranks exchange gradients once a step, with the last part.
            with nullcontext() if is_last or self._parallel is None else self._parallel.no_sync():
                losses = (self._parallel or self.loss)(part)
                (losses["loss"] / self._settings.accumulation).backward()
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / self._settings.accumulation
        weights = self.optimiser.param_groups[0]["params"]
        means["grad_norm"] = clip_grad_norm_(weights, self._settings.clip or float("inf"))
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update(self.model)
        return means

    def state(self) -> dict[str, dict[str, object]]:
        """All tensors of which the run goes on, by the name of their file."""
        state = {"weights": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state if self.ema is None else state | {"average": self.ema.model.state_dict()}

    def load_state(self, state: dict[str, dict[str, object]]) -> None:
        """Go on from a `state`."""
        self.model.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.ema is not None:
            self.ema.model.load_state_dict(state["average"])

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """Equal parts of the batch, on the device, and whether each is the last."""
        count = self._settings.accumulation
        for name, values in batch.items():
            if len(values) != self._part * count:
                raise UsageError(
                    f"{name} of a batch holds {len(values)} samples; train.batch {self._settings.batch} gives each of "
                    f"{self._ranks.count} rank(s) {self._part * count}. Give the sampler the same batch and ranks."
                )
        for number in range(count):
            chosen = slice(number * self._part, (number + 1) * self._part)
            part = {name: values[chosen] for name, values in batch.items()}
            yield to_device(part, self._ranks.device), number == count - 1


class _Loss(nn.Module):
    """Model and objective as one module, so that gradients are exchanged however the objective calls the model."""

    def __init__(self, model: nn.Module, objective: Objective, precision: str) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.precision = precision

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        device = next(iter(batch.values())).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return _scalars(self.objective(self.model, batch))


def _scalars(found: Any) -> dict[str, Tensor]:
    """What an objective gives, refused where it is not as `Objective` says."""
    if not isinstance(found, Mapping) or "loss" not in found:
        raise UsageError(f"an objective gives scalars by name, `loss` among them, not {found!r}.")
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.ndim:
            raise UsageError(f"{name} of the objective is no scalar tensor: {value!r}. Give its mean over the samples.")
        if name in RESERVED:
            raise UsageError(f"{name} of the objective has a name of the loop's own. Call it something else.")
    if not found["loss"].requires_grad and torch.is_grad_enabled():
        raise UsageError("the loss does not depend on any weight that is trained: it was detached on its way.")
    return dict(found)
