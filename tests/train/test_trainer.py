"""One step: the gradient of an accumulated batch, clipping, AdamW and what is drawn, against their definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shapestore.errors import UsageError
from shapestore.train.ranks import Ranks
from shapestore.train.schedule import Schedule
from shapestore.train.trainer import Trainer
from tests.train.toy import Toy, ToyObjective, ToyObjectiveSettings, ToySettings, settings


def trainer(dropout: float = 0.0, ranks: Ranks | None = None, **changes: Any) -> Trainer:
    asked = settings(**changes)
    model = Toy(ToySettings(dropout=dropout))
    objective = ToyObjective(ToyObjectiveSettings())
    return Trainer(model, objective, asked, Schedule.of(asked, 12), ranks or Ranks())


def batch(count: int = 8, scale: float = 1.0) -> dict[str, Tensor]:
    return {"pc_xyz": scale * torch.randn(count, 5, 3, generator=torch.Generator().manual_seed(1))}


def gradient(of: Trainer) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in of.model.parameters() if weight.grad is not None])


def weights(of: Trainer) -> Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in of.model.parameters()])


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_an_accumulated_gradient_is_that_of_the_whole_batch(parts: int) -> None:
    whole, split = trainer(), trainer(accumulation=parts)
    of_whole, of_split = whole.step(0, batch()), split.step(0, batch())
    torch.testing.assert_close(gradient(split), gradient(whole), rtol=1e-5, atol=1e-7)
    assert of_whole.keys() == of_split.keys() == {"loss", "fit", "smooth", "grad_norm"}
    for name in of_whole:
        torch.testing.assert_close(of_split[name], of_whole[name])


def test_a_long_gradient_is_shortened_to_the_clip_and_keeps_its_direction() -> None:
    free, clipped = trainer(), trainer(clip=0.1)
    norm = free.step(0, batch())["grad_norm"]
    assert clipped.step(0, batch())["grad_norm"] == norm
    expected = gradient(free) * 0.1 / torch.sqrt((gradient(free) ** 2).sum())
    torch.testing.assert_close(gradient(clipped), expected, rtol=1e-4, atol=1e-8)


def test_a_short_gradient_is_left_as_it_is() -> None:
    free, clipped = trainer(), trainer(clip=100.0)
    free.step(0, batch())
    clipped.step(0, batch())
    assert torch.equal(gradient(clipped), gradient(free))


def test_a_step_is_that_of_adamw() -> None:
    """Algorithm 2 of Loshchilov and Hutter (2019), written out, at a scheduled rate."""
    betas, decay = (0.8, 0.95), 0.3
    ours = trainer(betas=betas, weight_decay=decay)
    theirs = weights(ours).double()
    mean, square = torch.zeros_like(theirs), torch.zeros_like(theirs)
    for step in range(5):
        ours.step(step, batch(scale=1 + step))
        found = gradient(ours).double()
        mean = betas[0] * mean + (1 - betas[0]) * found
        square = betas[1] * square + (1 - betas[1]) * found**2
        rate = ours.schedule(step)
        theirs = theirs * (1 - rate * decay)
        unbiased = mean / (1 - betas[0] ** (step + 1)), square / (1 - betas[1] ** (step + 1))
        theirs = theirs - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        torch.testing.assert_close(weights(ours).double(), theirs, rtol=1e-5, atol=1e-6)


def test_what_is_drawn_follows_from_seed_step_and_rank_alone() -> None:
    def fit(seed: int, step: int, rank: int, before: int) -> float:
        one = trainer(dropout=0.5, seed=seed, ranks=Ranks(rank=rank))
        torch.rand(before)
        return float(one.step(step, batch())["fit"])

    with torch.random.fork_rng():
        assert fit(1, 2, 0, before=0) == fit(1, 2, 0, before=9)
        assert len({fit(*which, before=0) for which in [(1, 2, 0), (2, 2, 0), (1, 3, 0), (1, 2, 1)]}) == 4


def test_bf16_computes_in_bf16_and_keeps_float32() -> None:
    full, half = trainer(), trainer(precision="bf16")
    seen = []
    half.model.first.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))  # type: ignore[union-attr]
    losses = {"full": full.step(0, batch())["loss"], "half": half.step(0, batch())["loss"]}
    assert set(seen) == {torch.bfloat16}
    assert gradient(half).dtype == torch.float32
    assert 0 < abs(losses["full"] - losses["half"]) < 0.05


def test_the_average_follows_the_weights_and_is_what_is_judged() -> None:
    plain, averaged = trainer(), trainer(ema=0.5)
    before = weights(averaged)
    averaged.step(0, batch())
    assert plain.judged is plain.model
    found = torch.cat([weight.flatten() for weight in averaged.judged.parameters()])
    torch.testing.assert_close(found, (before + weights(averaged)) / 2)


@pytest.mark.parametrize(("size", "ranks", "parts"), [(8, 3, 1), (8, 1, 3), (12, 2, 4)])
def test_a_batch_that_is_not_shared_equally_is_refused(size: int, ranks: int, parts: int) -> None:
    with pytest.raises(UsageError, match=rf"train.batch is {size}"):
        trainer(batch=size, accumulation=parts, ranks=Ranks(count=ranks))


def test_a_loader_of_other_batches_is_refused() -> None:
    with pytest.raises(UsageError, match="pc_xyz of a batch holds 6 samples"):
        trainer().step(0, batch(6))


def test_an_objective_with_weights_is_refused() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

    asked = settings()
    with pytest.raises(UsageError, match=r"a state of its own, factor, .* Put it into the model"):
        Trainer(Toy(ToySettings()), Learned(), asked, Schedule.of(asked, 12), Ranks())  # type: ignore[arg-type]


def test_a_model_without_weights_that_are_trained_is_refused() -> None:
    model, objective, asked = Toy(ToySettings()), ToyObjective(ToyObjectiveSettings()), settings()
    with pytest.raises(UsageError, match="no weights that are trained"):
        Trainer(model.requires_grad_(False), objective, asked, Schedule.of(asked, 12), Ranks())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: None, "scalars by name, `loss` among them, not None"),
        (lambda found: found["loss"], "scalars by name, `loss` among them, not tensor"),
        (lambda found: {"fit": found["fit"]}, "scalars by name, `loss` among them"),
        (lambda found: found | {"fit": 0.5}, "fit of the objective is no scalar tensor: 0.5"),
        (lambda found: found | {"loss": found["loss"][None]}, "loss of the objective is no scalar tensor"),
        (lambda found: found | {"lr": found["fit"]}, "lr of the objective has a name of the loop's own"),
        (lambda found: found | {"loss": found["loss"].detach()}, "it was detached on its way"),
    ],
)
def test_what_is_no_loss_is_told(change: Callable[[dict[str, Tensor]], Any], why: str) -> None:
    class Changed(ToyObjective):
        def __call__(self, model: Toy, batch: Mapping[str, Tensor]) -> Any:
            return change(super().__call__(model, batch))

    asked = settings()
    of = Trainer(Toy(ToySettings()), Changed(ToyObjectiveSettings()), asked, Schedule.of(asked, 12), Ranks())
    with pytest.raises(UsageError, match=why):
        of.step(0, batch())


def test_frozen_weights_stay() -> None:
    asked = settings()
    model = Toy(ToySettings()).requires_grad_(False)
    model.last.requires_grad_(True)
    one = Trainer(model, ToyObjective(ToyObjectiveSettings()), asked, Schedule.of(asked, 12), Ranks())
    before = model.first.weight.clone(), model.last.weight.clone()
    one.step(0, batch())
    assert torch.equal(model.first.weight, before[0])
    assert not torch.equal(model.last.weight, before[1])
