from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from shapestore.train.models.embedding import one_hot
from shapestore.train.models.latents import farthest_points
from shapestore.train.models.settings import Normalised, VecSetSettings, Whole
from shapestore.train.models.vecset import VecSet
from shapestore.train.reconstruction import read_config

SMALL = VecSetSettings(classes=3, latents=5, width=8, heads=2, depth=2, bottleneck=Normalised(channels=4))
VARIANTS = [
    SMALL,
    SMALL.model_copy(update={"start": "fps"}),
    SMALL.model_copy(update={"bottleneck": Whole()}),
    SMALL.model_copy(update={"start": "fps", "bottleneck": Whole()}),
    SMALL.model_copy(update={"start": "fps", "bottleneck": Whole(), "decoder": "block"}),
]


def spoken(settings: VecSetSettings, seed: int = 0) -> VecSet:
    """A model whose head is not zero."""
    model = VecSet(settings, seed)
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed))
    return model


def surface(shapes: int = 2, points: int = 40, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    positions = torch.rand(shapes, points, 3, generator=generator) * 2 - 1
    return positions, torch.randint(0, classes + 1, (shapes, points), generator=generator).to(torch.int8)


@pytest.mark.parametrize("settings", VARIANTS)
def test_shapes_and_settings_of_every_variant(settings: VecSetSettings) -> None:
    model = VecSet(settings)
    points, labels = surface()
    latents = model.encode(points, labels)
    assert latents.shape == (2, 5, 4 if isinstance(settings.bottleneck, Normalised) else 8)
    assert model.decode(latents, points[:, :7]).shape == (2, 7, 4)
    assert model.settings == settings


@pytest.mark.parametrize("settings", VARIANTS)
def test_an_untrained_model_says_exactly_zero(settings: VecSetSettings) -> None:
    points, labels = surface()
    assert VecSet(settings)(points, labels, points).abs().max() == 0


def test_a_model_of_points_begins_by_looking_around_each_query() -> None:
    settings = VecSetSettings(start="fps", latents=128, width=128, heads=4, depth=2, bottleneck=Whole())
    model = VecSet(settings)
    points, labels = surface(points=600, classes=10)
    queries = points[:, :300].flip(2)
    with torch.no_grad():
        vectors = model.expand(model.encode(points, labels))
        attention, split = model.decoder.attention, model.decoder.attention._split
        asked = model.decoder.attention_norm(model.query_embedding(queries))
        alike = split(attention.to_query(asked)) @ split(attention.to_key(vectors)).transpose(-1, -2)
        weights = (alike / (settings.width // settings.heads) ** 0.5).softmax(-1).mean(1)
    latents = torch.take_along_dim(points, farthest_points(points, 128)[..., None], 1)
    torch.testing.assert_close(vectors, model.latents(points, model.point_embedding(points, one_hot(labels, 10))))
    away = torch.cdist(queries, latents)
    assert (weights * away).sum(-1).mean() < 0.6 * away.mean()


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_order_of_the_points_means_nothing(settings: VecSetSettings) -> None:
    model = spoken(settings).double()
    points, labels = surface()
    points = points.double()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    expected = model(points, labels, points)
    torch.testing.assert_close(model(points[:, order], labels[:, order], points), expected)
    assert expected.std() > 0.1


@pytest.mark.parametrize("settings", VARIANTS)
def test_shapes_queries_and_their_kinds_do_not_touch_each_other(settings: VecSetSettings) -> None:
    model = spoken(settings).double()
    points, labels = surface()
    points = points.double()
    whole = model(points, labels, points[:, 10:], points[:, :10])
    torch.testing.assert_close(whole[1:], model(points[1:], labels[1:], points[1:]))
    torch.testing.assert_close(whole[:, -1:], model(points, labels, points[:, -1:]))


def test_classes_of_the_points_reach_the_answer() -> None:
    model = spoken(SMALL)
    points, labels = surface()
    assert not torch.equal(model(points, labels, points), model(points, labels.clamp(max=2), points))


def test_the_bottleneck_keeps_normalised_values_and_restores_the_learned_latents() -> None:
    model = spoken(SMALL)
    codes = model.encode(*surface())
    torch.testing.assert_close(codes.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(codes.var(-1, unbiased=False), torch.ones(2, 5), atol=1e-3, rtol=0)
    model.blocks = nn.ModuleList()
    model.bottleneck.gamma.data.uniform_(0.5, 2)
    model.bottleneck.beta.data.normal_()
    scaled = codes * model.bottleneck.gamma + model.bottleneck.beta
    torch.testing.assert_close(model.expand(codes), model.bottleneck.expand(scaled) + model.latents.vectors)


@pytest.mark.parametrize("settings", VARIANTS)
def test_weights_come_from_the_seed_alone(settings: VecSetSettings) -> None:
    before = torch.random.get_rng_state()
    first = VecSet(settings, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    again, other = VecSet(settings, seed=3).state_dict(), VecSet(settings, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def without_a_block(model: VecSet) -> None:
    model.blocks = model.blocks[:-1]


def with_more_latents(model: VecSet) -> None:
    model.latents.vectors = nn.Parameter(torch.zeros(6, 8))


def with_other_heads(model: VecSet) -> None:
    for part in [model.gather, *model.blocks]:
        part.attention.heads = 4
    model.decoder.attention.heads = 4


def without_bottleneck(model: VecSet) -> None:
    model.bottleneck = VecSet(VARIANTS[2]).bottleneck


def from_farthest_points(model: VecSet) -> None:
    model.latents = VecSet(VARIANTS[1]).latents


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (without_a_block, "depth", 1),
        (with_more_latents, "latents", 6),
        (with_other_heads, "heads", 4),
        (without_bottleneck, "bottleneck", Whole()),
        (from_farthest_points, "start", "fps"),
    ],
)
def test_settings_tell_what_the_modules_are(change: Callable[[VecSet], None], field: str, value: object) -> None:
    model = VecSet(SMALL)
    change(model)
    assert model.settings == SMALL.model_copy(update={field: value})


def test_a_model_whose_parts_disagree_has_no_settings() -> None:
    model = VecSet(SMALL)
    model.decoder.attention.heads = 4
    with pytest.raises(ValueError, match=r"differ in heads: \[2, 4\]"):
        _ = model.settings


def test_second_derivatives_at_queries_are_right() -> None:
    model = spoken(SMALL.model_copy(update={"width": 4, "latents": 2, "depth": 1})).double()
    points, labels = surface(1, 6)
    points = points.double()
    # Waves of 128 pi are too fast for finite differences; the others are as good a test.
    with torch.no_grad():
        model.query_embedding.linear.weight[:, :48].mul_(torch.tensor([1.0, 1.0, *[0.0] * 6] * 6))
    vectors = model.expand(model.encode(points, labels)).detach().requires_grad_()
    queries = points[:, :2].clone().requires_grad_()

    def slope(vectors: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        answers = model.read(vectors, queries, second_order=True)
        return torch.autograd.grad(answers[..., 0].sum(), queries, create_graph=True)[0]

    assert torch.autograd.gradcheck(slope, (vectors, queries))


def test_under_autocast_answers_stay_close() -> None:
    model = spoken(read_config("vecset-tiny").model)
    points, labels = surface(points=300, classes=10)
    expected = model(points, labels, points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(points, labels, points)
    assert (found - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("vecset-tiny", 0.5e6, 1.5e6), ("vecset-small", 8e6, 15e6), ("vecset-paper", 425e6 * 0.98, 425e6 * 1.02)],
)
def test_the_built_in_recipes_have_models_of_these_sizes(name: str, least: float, most: float) -> None:
    settings = read_config(name).model
    with torch.device("meta"):
        model = VecSet(settings)
    assert least <= sum(parameter.numel() for parameter in model.parameters()) <= most
    assert model.settings == settings


def test_every_weight_of_the_paper_s_model_is_trained() -> None:
    """At reduced sizes; after one step, since the head is zero at first."""
    model = spoken(read_config("vecset-paper").model.model_copy(update={"latents": 6, "width": 32, "depth": 3}))
    points, labels = surface(classes=10)
    model(points, labels, points).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="width 10 cannot be shared by 4 heads"):
        VecSetSettings(width=10, heads=4)


def test_a_bottleneck_of_one_channel_is_refused_as_nothing_passes_it() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Normalised(channels=1)
    codes = VecSet(SMALL.model_copy(update={"bottleneck": Normalised(channels=2)})).encode(*surface())
    assert codes.any()
