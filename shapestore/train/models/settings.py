"""Settings of the models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from shapestore.schemas.base import Strict


class Normalised(Strict):
    """A few normalised channels of each latent vector are kept."""

    kind: Literal["normalised"] = "normalised"
    channels: Annotated[int, Field(ge=2)] = 16
    """Values that are kept of each latent vector. One alone would be 0 for every shape: a normalised value less its own
    mean."""


class Whole(Strict):
    """No bottleneck: each latent vector is kept whole."""

    kind: Literal["none"] = "none"


class VecSetSettings(Strict):
    """A set of latent vectors that is asked for distance and class at any position; defaults: the paper's."""

    kind: Literal["vecset"] = "vecset"
    classes: Annotated[int, Field(ge=1, le=127)] = 10
    """Codes 1 to this many are classes; 0 is none of them."""
    start: Literal["learnable", "fps"] = "learnable"
    """What the latent vectors start from: learned vectors, or farthest points of the input."""
    latents: PositiveInt = 1024
    """Number of latent vectors."""
    width: PositiveInt = 1024
    """Length of the vectors inside the model."""
    heads: PositiveInt = 16
    """Heads of every attention, each of width / heads channels."""
    depth: PositiveInt = 24
    """Self-attention blocks between the bottleneck and the queries."""
    bottleneck: Annotated[Normalised | Whole, Field(discriminator="kind")] = Normalised()
    """What is kept of the latent vectors."""
    decoder: Literal["attention", "block"] = "attention"
    """What answers queries: one cross-attention alone, or with residual connection and feed-forward layer."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        """Heads share the width equally."""
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads: make it a multiple")
        return self
