"""What is kept of a shape: few channels of each latent vector, or all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NormalisedBottleneck(nn.Module):
    """Each latent vector as a few values of mean 0 and variance 1 (Zhang et al., VecSetX, 2025).

    Parameters
    ----------
    width
        Length of the vectors inside the model.
    channels
        Values that are kept of each.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.compress = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.expand = nn.Linear(channels, width)

    def encode(self, vectors: Tensor) -> Tensor:
        """(n, m, width) to the (n, m, channels) that are kept."""
        codes: Tensor = self.norm(self.compress(vectors))
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """(n, m, channels) back to (n, m, width)."""
        vectors: Tensor = self.expand(codes * self.gamma + self.beta)
        return vectors


class NoBottleneck(nn.Module):
    """All of each latent vector is kept."""

    def encode(self, vectors: Tensor) -> Tensor:
        """The vectors themselves."""
        return vectors

    def decode(self, codes: Tensor) -> Tensor:
        """The codes themselves."""
        return codes
