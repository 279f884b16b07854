"""The average of the weights, against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shapestore.train.ema import Ema


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_it_is_the_weighted_sum_of_all_weights_so_far(decay: float) -> None:
    draws = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 2).double()
    states = [model.weight.detach().clone()]
    ema = Ema(model, decay)
    for _ in range(7):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=draws, dtype=torch.float64))
        states.append(model.weight.detach().clone())
        ema.update(model)
    count = len(states) - 1
    shares = [decay**count] + [(1 - decay) * decay ** (count - i) for i in range(1, count + 1)]
    expected = sum(share * state for share, state in zip(shares, states, strict=True))
    torch.testing.assert_close(ema.model.get_parameter("weight"), expected, check_dtype=False)


def test_buffers_are_copied_and_nothing_is_trained() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, 0.9)
    model(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))
    ema.update(model)
    torch.testing.assert_close(ema.model.running_mean, model.running_mean, rtol=0, atol=0)
    assert ema.model.num_batches_tracked == 1
    assert not ema.model.training
    assert not any(weight.requires_grad for weight in ema.model.parameters())
    assert model.training
    assert model.weight.requires_grad
