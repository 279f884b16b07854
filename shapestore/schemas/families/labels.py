"""Labels: a code for every point of another array; LabelCounts: how much of each class a shape has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, declared_codes, non_negative


class Labels(Family):
    """One code a point of `pool`, such as object or background."""

    family: Literal["labels"] = "labels"
    labels: ArraySpec
    """(n,) int8: declared codes; its `pool` names the points that they belong to."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The codes."""
        return (self.labels,)

    def rules(self) -> tuple[Rule, ...]:
        """Only declared codes."""
        return (declared_codes(self.labels.name, (code.value for code in self.labels.codes)),)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.labels, (None,), "int8")
        if not self.labels.codes:
            yield f"{self.labels.name}: labels must declare their codes"
        if self.labels.pool is None:
            yield f"{self.labels.name}: labels must name the points that they belong to"


class LabelCounts(Family):
    """How many voxels of each declared class the raw label map holds; 0 says that the class is absent."""

    family: Literal["label_counts"] = "label_counts"
    counts: ArraySpec
    """(C,) int32 >= 0, in the order of the declared classes."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The counts."""
        return (self.counts,)

    def rules(self) -> tuple[Rule, ...]:
        """Not negative."""
        return (non_negative(self.counts.name),)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.counts, (None,), "int32")
