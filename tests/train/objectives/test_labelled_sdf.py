from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from shapestore.errors import UsageError
from shapestore.train.models.settings import VecSetSettings
from shapestore.train.models.vecset import VecSet
from shapestore.train.objectives.labelled_sdf import LabelledSdf
from shapestore.train.objectives.presets import OBJECTIVE_PRESETS, objective_preset
from shapestore.train.objectives.settings import Bce, Focal, LabelledSdfSettings, Weights

CLASSES = 3
TERMS = ("vol", "near", "surface", "eikonal", "classes")
POSITIVE = st.floats(0, 10, allow_subnormal=False)


class Field(nn.Module):
    """Answers by a formula; `asked` keeps what the objective asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64))

    def forward(self, points: Tensor, labels: Tensor, queries: Tensor, sloped: Tensor | None = None) -> Tensor:
        del points, labels
        self.asked = queries.shape[1], 0 if sloped is None else sloped.shape[1]
        everywhere = queries if sloped is None else torch.cat([sloped, queries], dim=1)
        distance = (everywhere * self.slope).sum(-1, keepdim=True)
        return torch.cat([distance, everywhere.flip(-1) * 3], dim=-1)


class Sphere(Field):
    """Signed distance of a sphere of radius 0.5."""

    def forward(self, points: Tensor, labels: Tensor, queries: Tensor, sloped: Tensor | None = None) -> Tensor:
        answers = super().forward(points, labels, queries, sloped)
        everywhere = queries if sloped is None else torch.cat([sloped, queries], dim=1)
        distance = everywhere.norm(dim=-1, keepdim=True) - 0.5 + 0 * self.slope.sum()
        return torch.cat([distance, answers[..., 1:]], dim=-1)


def batch(seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for name, count in (("surface", 5), ("vol", 8), ("near", 3)):
        made[f"{name}_points"] = rng.uniform(-1, 1, (2, count, 3))
        made[f"{name}_labels"] = rng.integers(0, CLASSES + 1, (2, count)).astype(np.int8)
        made[f"{name}_sdf"] = rng.normal(0, 0.3, (2, count))
    del made["surface_sdf"]
    return {name: torch.from_numpy(values) for name, values in made.items()}


def by_hand(of: dict[str, Tensor], settings: LabelledSdfSettings) -> dict[str, float]:
    """The terms of `Field` by numpy, from their definitions."""
    values = {name: tensor.numpy() for name, tensor in of.items()}
    slope = np.array([1.0, 2.0, -2.0])
    losses = np.concatenate(
        [cross_entropies(values, name, settings.class_loss).ravel() for name in settings.classes_at]
    )
    return {
        "vol": np.abs(values["vol_points"] @ slope - values["vol_sdf"]).mean(),
        "near": np.abs(values["near_points"] @ slope - values["near_sdf"]).mean(),
        "surface": np.abs(values["surface_points"] @ slope).mean(),
        "eikonal": (3.0 - 1) ** 2,
        "classes": losses.mean(),
    }


def cross_entropies(values: dict[str, NDArray[Any]], name: str, settings: Bce | Focal) -> NDArray[np.float64]:
    """-w * (1 - p_t)^gamma * log(p_t) of each query and class, p_t the probability of the right answer."""
    probability = 1 / (1 + np.exp(-values[f"{name}_points"][..., ::-1] * 3))
    is_class = values[f"{name}_labels"][..., None] == np.arange(1, CLASSES + 1)
    right = np.where(is_class, probability, 1 - probability)
    weights = [settings.class_weights.get(code, 1.0) for code in range(1, CLASSES + 1)]
    gamma = settings.gamma if isinstance(settings, Focal) else 0
    return -np.array(weights) * (1 - right) ** gamma * np.log(right)


@pytest.mark.parametrize(
    "class_loss", [Bce(), Bce(class_weights={2: 3.0}), Focal(), Focal(gamma=1.5, class_weights={1: 0.0, 3: 2.0})]
)
@pytest.mark.parametrize("places", [("vol",), ("near", "surface"), ("surface", "vol", "near")])
def test_each_term_is_its_definition(class_loss: Bce | Focal, places: tuple[Any, ...]) -> None:
    asked = LabelledSdfSettings(class_loss=class_loss, eikonal_at=places, classes_at=places[::-1])
    found = LabelledSdf(asked)(Field(), batch())
    expected = by_hand(batch(), asked)
    assert {name: found[name].item() for name in TERMS} == pytest.approx(expected, rel=1e-9)


@given(st.fixed_dictionaries(dict.fromkeys(TERMS, POSITIVE)).filter(lambda weights: any(weights.values())))
@settings(max_examples=40)
def test_weights_reach_the_loss_and_a_weight_of_zero_computes_nothing(weights: dict[str, float]) -> None:
    of, model = batch(), Field()
    asked = LabelledSdfSettings(weights=Weights(**weights))
    if not weights["vol"] + weights["eikonal"] + weights["classes"]:
        of = {name: tensor for name, tensor in of.items() if not name.startswith("vol")}
    if not weights["near"] + weights["classes"]:
        of = {name: tensor for name, tensor in of.items() if not name.startswith("near")}
    if not weights["classes"]:
        of.pop("vol_labels", None)
    found = LabelledSdf(asked)(model, of)
    assert found.keys() == {"loss", *(name for name in TERMS if weights[name])}
    terms = by_hand(batch(), asked)
    assert found["loss"].item() == pytest.approx(sum(weights[name] * terms[name] for name in TERMS), rel=1e-9)
    kinds = {
        "vol": 8 * bool(weights["vol"] or weights["classes"]),
        "near": 3 * bool(weights["near"] or weights["classes"]),
        "surface": 5 * bool(weights["surface"] or weights["classes"]),
    }
    sloped = 8 * bool(weights["eikonal"])
    assert model.asked == (sum(kinds.values()) - (kinds["vol"] if sloped else 0), sloped)


def test_classes_are_asked_for_only_where_they_are_judged() -> None:
    model, of = Field(), batch()
    del of["near_labels"]
    LabelledSdf(LabelledSdfSettings(weights=Weights(surface=0, eikonal=0), classes_at=("vol",)))(model, of)
    assert model.asked == (8 + 3, 0)


def test_the_slope_of_a_distance_is_one() -> None:
    found = LabelledSdf(LabelledSdfSettings())(Sphere(), batch())
    assert found["eikonal"].item() == pytest.approx(0, abs=1e-24)


def test_the_eikonal_term_reaches_the_weights() -> None:
    """d/ds (|s| - 1)^2 = 2 (|s| - 1) s / |s|, at s = (1, 2, -2): 4/3 s."""
    model = Field()
    only = LabelledSdfSettings(weights=Weights(vol=0, near=0, surface=0, eikonal=1, classes=0))
    LabelledSdf(only)(model, batch())["loss"].backward()
    assert model.slope.grad is not None
    torch.testing.assert_close(model.slope.grad, 4 / 3 * model.slope.detach())


def test_background_is_a_target_of_zero_for_every_class() -> None:
    of = batch() | {
        f"{name}_labels": torch.zeros_like(batch()[f"{name}_labels"]) for name in ("vol", "near", "surface")
    }
    logits = torch.cat([of[f"{name}_points"].flip(-1) * 3 for name in ("vol", "near", "surface")], dim=1)
    found = LabelledSdf(LabelledSdfSettings())(Field(), of)
    assert found["classes"].item() == pytest.approx(nn.functional.softplus(logits).mean().item())


def test_terms_are_taken_by_name() -> None:
    of = batch()
    expected = LabelledSdf(LabelledSdfSettings())(Field(), of)
    backwards = dict(reversed(of.items())) | {"row": torch.arange(2)}
    assert LabelledSdf(LabelledSdfSettings())(Field(), backwards) == expected


def test_nothing_is_left_on_the_batch_and_terms_hold_no_graph() -> None:
    of = batch()
    found = LabelledSdf(LabelledSdfSettings())(Field(), of)
    assert not any(tensor.requires_grad or tensor.grad is not None for tensor in of.values())
    assert [name for name, tensor in found.items() if tensor.requires_grad] == ["loss"]


def test_without_gradients_the_values_are_the_same() -> None:
    expected = LabelledSdf(LabelledSdfSettings())(Field(), batch())
    with torch.no_grad():
        found = LabelledSdf(LabelledSdfSettings())(Field(), batch())
    assert found == expected
    assert not found["loss"].requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near_sdf": None}, "the batch has no near_sdf, only surface_points"),
        ({"vol_sdf": torch.zeros(2, 8, 1)}, r"vol_sdf has the shape \(2, 8, 1\), but its points \(2, 8, 3\)"),
        ({"near_labels": torch.zeros(2, 4, dtype=torch.int8)}, r"near_labels has the shape \(2, 4\)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change: dict[str, Tensor | None], message: str) -> None:
    of = {name: tensor for name, tensor in (batch() | change).items() if tensor is not None}
    with pytest.raises(UsageError, match=message):
        LabelledSdf(LabelledSdfSettings())(Field(), of)


def test_a_weight_for_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="class_weights names class 10, but the model has classes 1 to 3"):
        LabelledSdf(objective_preset("focal"))(Field(), batch())


def test_presets_are_the_variants_that_the_system_had() -> None:
    weights = {name: tuple(preset.weights.model_dump().values()) for name, preset in OBJECTIVE_PRESETS.items()}
    assert weights == {
        "source": (1, 0.5, 0.5, 0.001, 5),
        "upstream": (1, 10, 1, 0.001, 0),
        "seed-8.5": (1, 10, 10, 0.001, 0),
        "seed-15.5": (1, 10, 3, 0.001, 5),
        "focal": (1, 0.5, 0.5, 0.001, 5),
    }
    focal = objective_preset("focal").class_loss
    assert focal == Focal(class_weights={6: 2, 7: 2, 9: 2, 10: 2})
    assert objective_preset("source") == LabelledSdfSettings()


def test_settings_survive_json() -> None:
    for preset in OBJECTIVE_PRESETS.values():
        assert LabelledSdfSettings.model_validate_json(preset.model_dump_json()) == preset


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no objective is called 'best'. Choose one of source"):
        objective_preset("best")
    with pytest.raises(ValidationError, match="nothing is minimised"):
        Weights(vol=0, near=0, surface=0, eikonal=0, classes=0)


def test_settings_are_what_is_in_effect() -> None:
    objective = LabelledSdf(LabelledSdfSettings())
    before = objective(Field(), batch())
    objective.settings = LabelledSdfSettings(weights=Weights(vol=2))
    after = objective(Field(), batch())
    assert after["loss"].item() == pytest.approx((before["loss"] + before["vol"]).item())


@pytest.mark.parametrize("name", OBJECTIVE_PRESETS)
@pytest.mark.parametrize("start", ["learnable", "fps"])
def test_every_preset_moves_a_model_from_its_silent_start(name: str, start: Any) -> None:
    """The head is zero at first, and so is the slope, whose length has no derivative there."""
    model = VecSet(VecSetSettings(latents=3, width=8, heads=2, depth=1, start=start)).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(2):
        optimiser.zero_grad()
        LabelledSdf(objective_preset(name))(model, batch())["loss"].backward()
        optimiser.step()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() and gradient.any() for gradient in gradients)
