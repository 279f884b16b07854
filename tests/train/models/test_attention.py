from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from shapestore.train.models.attention import Attention, Block, attend


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_numpy(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    scores = np.einsum("nhqd,nhkd->nhqk", query, key) / math.sqrt(query.shape[-1])
    weights = np.exp(scores)
    return np.einsum("nhqk,nhkd->nhqd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize("second_order", [False, True])
def test_attention_is_its_definition(second_order: bool) -> None:
    query, key, value = drawn(2, 3, 5, 4), drawn(2, 3, 7, 4, seed=1), drawn(2, 3, 7, 4, seed=2)
    found = attend(query, key, value, second_order=second_order).numpy()
    np.testing.assert_allclose(found, by_numpy(query.numpy(), key.numpy(), value.numpy()), rtol=1e-12)


def test_gradients_of_both_kinds_are_right_and_those_of_one_can_be_differentiated() -> None:
    inputs = [drawn(1, 2, 3, 2, seed=seed).requires_grad_() for seed in range(3)]
    assert gradcheck(lambda *tensors: attend(*tensors), inputs)
    assert gradcheck(lambda *tensors: attend(*tensors, second_order=True), inputs)
    assert gradgradcheck(lambda *tensors: attend(*tensors, second_order=True), inputs)


def test_the_kind_is_chosen_call_by_call() -> None:
    """The fused kernel keeps no matrix of scores and refuses a second derivative; it is what other calls still get."""
    query, key, value = (drawn(1, 2, 3, 2, seed=seed).requires_grad_() for seed in range(3))
    attend(query, key, value, second_order=True)
    (slope,) = torch.autograd.grad(attend(query, key, value).sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        slope.square().sum().backward()


def test_heads_are_apart_and_attend_to_their_own_channels() -> None:
    attention = Attention(6, heads=2).double()
    vectors, context = drawn(2, 5, 6), drawn(2, 7, 6, seed=1)
    maps = (attention.to_query, attention.to_key, attention.to_value)
    query, key, value = (
        linear(source).detach().numpy() for linear, source in zip(maps, (vectors, context, context), strict=True)
    )
    heads = [
        by_numpy(*(each[:, None, :, 3 * head : 3 * head + 3] for each in (query, key, value)))[:, 0]
        for head in range(2)
    ]
    expected = attention.to_out(torch.from_numpy(np.concatenate(heads, axis=-1)))
    torch.testing.assert_close(attention(vectors, context), expected)


def test_a_block_is_pre_norm_attention_and_gated_feed_forward_beside_residuals() -> None:
    block = Block(4, heads=2).double()
    vectors, context = drawn(2, 5, 4), drawn(2, 7, 4, seed=1) * 3
    with torch.no_grad():
        block.attention_norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        normed = block.attention_norm(vectors)
        for given in (context, None):
            between = vectors + block.attention(normed, normed if given is None else given)
            inner, gate = block.feed_forward.to_inner(block.feed_forward_norm(between)).split(16, dim=-1)
            gated = inner * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
            torch.testing.assert_close(block(vectors, given), between + block.feed_forward.to_out(gated))
