"""Class losses in any precision: their values, and their gradients where an answer is as sure as can be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shapestore.train.objectives.class_loss import class_loss
from shapestore.train.objectives.settings import Bce, Focal

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
PRECISIONS = (torch.float32, torch.bfloat16)


def by_definition(settings: Bce | Focal, logit: Tensor, label: int) -> Tensor:
    """-(1 - p_t)^gamma log(p_t) in float64, p_t the probability of the right answer."""
    towards = logit if label else -logit
    gamma = settings.gamma if isinstance(settings, Focal) else 0
    return (1 / (1 + towards.exp())) ** gamma * (-towards).exp().log1p()


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", [Bce(), *(Focal(gamma=gamma) for gamma in GAMMAS)])
def test_each_value_and_slope_is_that_of_the_definition(
    settings: Bce | Focal, precision: torch.dtype, label: int
) -> None:
    """One logit at a time: in a mean, large losses would hide small ones."""
    for value in torch.linspace(-16, 16, 41).tolist():
        logit = torch.tensor([[value]], dtype=precision, requires_grad=True)
        exact = logit.detach().double().requires_grad_()
        found, expected = class_loss(settings, logit, torch.tensor([label])), by_definition(settings, exact, label)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=2e-6)
        (slope,) = torch.autograd.grad(found, logit)
        (expected_slope,) = torch.autograd.grad(expected.sum(), exact)
        rounded = 1e-5 if precision == torch.float32 else 2**-8
        assert slope.item() == pytest.approx(expected_slope.item(), rel=rounded, abs=2e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", [Bce(), *(Focal(gamma=gamma) for gamma in GAMMAS)])
def test_loss_and_gradient_are_finite_however_sure_an_answer_is(settings: Bce | Focal, precision: torch.dtype) -> None:
    values = torch.cat([torch.linspace(-200, 200, 401), torch.linspace(-1, 1, 21)]).to(precision)
    for label in (0, 1):
        logits = values[:, None].clone().requires_grad_()
        loss = class_loss(settings, logits, torch.full(values.shape, label))
        (slopes,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert slopes.isfinite().all()
