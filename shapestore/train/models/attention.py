"""Multi-head attention and feed-forward layers; attention can be made differentiable twice, call by call."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import gelu, scaled_dot_product_attention


def attend(query: Tensor, key: Tensor, value: Tensor, *, second_order: bool = False) -> Tensor:
    """Scaled dot-product attention (Vaswani et al., "Attention is all you need", NeurIPS 2017).

    Parameters
    ----------
    query, key, value
        (n, heads, q, d), (n, heads, k, d), (n, heads, k, d).
    second_order
        Whether a gradient of the result will itself be differentiated. The fused kernels cannot do that and keep
        no (q, k) matrix; torch's composite implementation can, and keeps it.

    Returns
    -------
    (n, heads, q, d) Tensor
    """
    if second_order:
        with sdpa_kernel(SDPBackend.MATH):
            return scaled_dot_product_attention(query, key, value)
    return scaled_dot_product_attention(query, key, value)


class Attention(nn.Module):
    """Multi-head attention from some vectors to others; without biases but at the output.

    Parameters
    ----------
    width
        Length of all vectors.
    heads
        Number of heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(width, width, bias=False)
        self.to_value = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    @torch.no_grad()
    def begin_alike(self, gain: float) -> None:
        """Let vectors attend to those that they resemble: queries and keys become the same random rotation.

        Parameters
        ----------
        gain
            Factor of both: the larger, the fewer vectors are attended to.
        """
        nn.init.orthogonal_(self.to_query.weight, gain)
        self.to_key.weight.copy_(self.to_query.weight)

    def forward(self, vectors: Tensor, context: Tensor, *, second_order: bool = False) -> Tensor:
        """What (n, q, width) `vectors` gather from (n, k, width) `context`: (n, q, width)."""
        query, key, value = self.to_query(vectors), self.to_key(context), self.to_value(context)
        gathered = attend(self._split(query), self._split(key), self._split(value), second_order=second_order)
        out: Tensor = self.to_out(gathered.transpose(1, 2).flatten(-2))
        return out

    def _split(self, vectors: Tensor) -> Tensor:
        """(n, q, width) as (n, heads, q, width / heads)."""
        shape = (*vectors.shape[:2], self.heads, vectors.shape[2] // self.heads)
        return vectors.reshape(shape).transpose(1, 2)


class FeedForward(nn.Module):
    """Gated linear unit with GELU, four times as wide inside (Shazeer, "GLU variants improve Transformer", 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_inner = nn.Linear(width, 2 * 4 * width)
        self.to_out = nn.Linear(4 * width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        inner, gate = self.to_inner(vectors).chunk(2, dim=-1)
        out: Tensor = self.to_out(inner * gelu(gate))
        return out


class CrossAttention(nn.Module):
    """Attention after a LayerNorm, and nothing else: what was asked with is not part of the answer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)

    def forward(self, vectors: Tensor, context: Tensor, *, second_order: bool = False) -> Tensor:
        """(n, q, width), with a context of (n, k, width), to (n, q, width)."""
        out: Tensor = self.attention(self.attention_norm(vectors), context, second_order=second_order)
        return out


class Block(nn.Module):
    """Attention and feed-forward, each after a LayerNorm and beside a residual connection.

    Vectors attend to a context that is taken as it is, or, without one, to their own normalised selves.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    @torch.no_grad()
    def begin_as_identity(self) -> None:
        """Let vectors pass unchanged until training has its say."""
        for layer in (self.attention.to_out, self.feed_forward.to_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor, context: Tensor | None = None, *, second_order: bool = False) -> Tensor:
        """(n, q, width), with a context of (n, k, width), to (n, q, width)."""
        normed = self.attention_norm(vectors)
        context = normed if context is None else context
        vectors = vectors + self.attention(normed, context, second_order=second_order)
        out: Tensor = vectors + self.feed_forward(self.feed_forward_norm(vectors))
        return out
