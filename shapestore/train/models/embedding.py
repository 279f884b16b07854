"""Positions, and what is known at them, as vectors: Fourier features and one linear map."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

FREQUENCIES: Final = 8
_FOURIER: Final = 3 * 2 * FREQUENCIES


class PointEmbedding(nn.Module):
    """Sine and cosine of each coordinate at 8 frequencies, the coordinates and further features -> Linear.

    The frequencies are pi * 2^0 .. pi * 2^7 (Mildenhall et al., "NeRF", ECCV 2020, section 5.1; Zhang et al.,
    "3DShape2VecSet", SIGGRAPH 2023): the slowest has one period over the cube [-1, 1].

    Parameters
    ----------
    width
        Length of the vectors.
    features
        Values beside the position, such as a one-hot class.
    """

    def __init__(self, width: int, features: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(_FOURIER + 3 + features, width)
        with torch.no_grad():
            # Each wave starts with the same share of the slope. As large as the others, fast waves would be nearly
            # all of it: noise in the distance, which the eikonal term answers with huge gradients.
            self.linear.weight[:, :_FOURIER] /= self._powers(self.linear.weight).repeat(_FOURIER // FREQUENCIES)

    @property
    def features(self) -> int:
        """Values that are expected beside each position."""
        return self.linear.in_features - _FOURIER - 3

    @property
    def width(self) -> int:
        """Length of the vectors."""
        return self.linear.out_features

    def forward(self, positions: Tensor, *features: Tensor) -> Tensor:
        """(..., 3) positions in normalised units and (..., f) features as (..., width) vectors.

        Angles are multiplied by powers of two, which costs no digit. They are never of 16 bits: a bfloat16
        position is known to 1/256 of its size, which is half a period of the fastest wave.
        """
        angles = ((positions * math.pi)[..., None] * self._powers(positions)).flatten(-2)
        vectors: Tensor = self.linear(torch.cat([angles.sin(), angles.cos(), positions, *features], dim=-1))
        return vectors

    @torch.no_grad()
    def begin_as(self, other: PointEmbedding) -> None:
        """Embed positions as `other` does, of the same width: what it makes of its features is left out."""
        self.linear.weight[:, : _FOURIER + 3].copy_(other.linear.weight[:, : _FOURIER + 3])
        self.linear.bias.copy_(other.linear.bias)

    @staticmethod
    def _powers(like: Tensor) -> Tensor:
        """The frequencies by pi: (8,) powers of two."""
        return torch.arange(FREQUENCIES, device=like.device, dtype=like.dtype).exp2()


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Class codes as (..., classes) float32 rows: code c has a 1 at c - 1, code 0 (no class) has none.

    Raises
    ------
    RuntimeError
        A code is negative or above `classes`.
    """
    return nn.functional.one_hot(labels.long(), classes + 1)[..., 1:].float()
