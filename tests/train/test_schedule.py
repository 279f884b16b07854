"""The learning rate: against torch's own schedulers, and its laws for any setting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from shapestore.errors import UsageError
from shapestore.train.schedule import Schedule
from shapestore.train.settings import TrainSettings
from tests.train.toy import settings


@pytest.mark.parametrize(("warmup", "steps"), [(1, 10), (4, 30), (10, 11)])
def test_it_is_the_rise_and_cosine_of_torch(warmup: int, steps: int) -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    rise = LinearLR(optimiser, 1 / warmup, total_iters=max(warmup - 1, 1)) if warmup > 1 else LinearLR(optimiser, 1.0)
    fall = CosineAnnealingLR(optimiser, T_max=steps - warmup, eta_min=0.01)
    theirs = SequentialLR(optimiser, [rise, fall], milestones=[warmup - 1])
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    ours = Schedule(0.3, 0.01, warmup, steps)
    np.testing.assert_allclose([ours(step) for step in range(steps)], rates, rtol=1e-12)


@given(peak=st.floats(1e-6, 10), share=st.floats(0, 1), warmup=st.integers(0, 50), more=st.integers(0, 50))
def test_it_rises_to_the_peak_then_falls_to_the_floor(peak: float, share: float, warmup: int, more: int) -> None:
    steps = max(warmup + more, 1)
    floor = share * peak
    rates = np.array([Schedule(peak, floor, warmup, steps)(step) for step in range(steps)])
    assert (np.diff(rates[:warmup]) > 0).all()
    assert (np.diff(rates[max(warmup - 1, 0) :]) <= 1e-12 * peak).all()
    assert rates.max() <= peak * (1 + 1e-12)
    if warmup:
        assert rates[warmup - 1] == peak
    if more:
        assert rates[-1] == pytest.approx(floor, rel=1e-9, abs=1e-12 * peak)


def test_the_rate_is_scaled_by_the_batch() -> None:
    assert settings(lr=3e-4, batch=128, reference_batch=32).lr_ratio == 4
    assert Schedule.of(settings(lr=3e-4, batch=128, reference_batch=32), 12).peak == pytest.approx(1.2e-3)


def test_a_rise_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"warmup_steps is 13, and the whole run has 12"):
        Schedule.of(settings(warmup_steps=13), 12)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": None}, "steps or epochs must be given"),
        ({"epochs": 2}, "set one of them to null"),
        ({"min_lr": 0.011}, "min_lr"),
        ({"min_lr": 0.006, "reference_batch": 16}, "min_lr"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"ema": 1.0}, "ema"),
        ({"lrate": 1.0}, "lrate"),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(**changes)


def test_epochs_are_counted_in_steps() -> None:
    assert TrainSettings(epochs=3, batch=4, lr=0.1, reference_batch=4).total_steps(7) == 21
