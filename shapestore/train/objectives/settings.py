"""Settings of the objectives."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from shapestore.schemas.base import Strict

Where = Literal["vol", "near", "surface"]
"""Queries of a batch by where they lie: anywhere in the volume, near the surface, or on it."""


class Bce(Strict):
    """Binary cross-entropy of each class on its own."""

    kind: Literal["bce"] = "bce"
    class_weights: dict[PositiveInt, NonNegativeFloat] = Field(default_factory=dict)
    """Factor of the loss of a class, by its code; 1 where none is given."""


class Focal(Strict):
    """Binary cross-entropy that counts less where the answer is right already."""

    kind: Literal["focal"] = "focal"
    class_weights: dict[PositiveInt, NonNegativeFloat] = Field(default_factory=dict)
    """Factor of the loss of a class, by its code; 1 where none is given."""
    gamma: NonNegativeFloat = 2.0
    """How fast it falls: the factor is (1 - probability of the right answer) ** gamma."""


class Weights(Strict):
    """Factors of the terms in the loss; a term of factor 0 is not computed."""

    vol: NonNegativeFloat = 1.0
    """L1 of the distance at volume queries."""
    near: NonNegativeFloat = 0.5
    """L1 of the distance at queries near the surface."""
    surface: NonNegativeFloat = 0.5
    """Absolute distance at surface points."""
    eikonal: NonNegativeFloat = 0.001
    """Squared difference of the length of the distance's gradient from 1."""
    classes: NonNegativeFloat = 5.0
    """Class loss at all queries."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        """Something is minimised."""
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0, so that nothing is minimised: give one of them a positive value")
        return self


class LabelledSdfSettings(Strict):
    """Signed distance to the union, and class; defaults: those of the source."""

    kind: Literal["labelled-sdf"] = "labelled-sdf"
    weights: Weights = Weights()
    """Factors of the terms."""
    eikonal_at: Annotated[tuple[Where, ...], Field(min_length=1)] = ("vol",)
    """Queries at which the eikonal term is taken."""
    classes_at: Annotated[tuple[Where, ...], Field(min_length=1)] = ("vol", "near", "surface")
    """Queries at which the class term is taken."""
    class_loss: Annotated[Bce | Focal, Field(discriminator="kind")] = Bce()
    """How the classes are judged."""
