"""SdfSamples: points with signed distances and class labels, on the surface, in the volume, or near the surface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import (
    Rule,
    count_within,
    declared_codes,
    finite,
    labelled_where_inside,
    within_cube,
)


class SdfSamples(Family):
    """Sampled points of a shape of one or several classes.

    The signed distance is the least over all classes, negative inside. Surface samples have no `sdf`: it is 0 by
    definition.
    """

    family: Literal["sdf_samples"] = "sdf_samples"
    where: Literal["surface", "volume", "near"]
    """Where the points lie: on the class surfaces, anywhere in the cube, or within a small offset of the surfaces."""
    points: ArraySpec
    """(n, 3) float32 in [-1, 1]: positions."""
    sdf: ArraySpec | None = None
    """(n,) float32: signed distance in normalised units, negative inside."""
    labels: ArraySpec | None = None
    """(n,) int8: class code; 0 is outside all classes."""
    count: ArraySpec | None = None
    """() int32 index: how many of the n entries are filled, where that differs between rows."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Positions, distances, labels, count: those that are declared."""
        return tuple(spec for spec in (self.points, self.sdf, self.labels, self.count) if spec is not None)

    def rules(self) -> tuple[Rule, ...]:
        """Finite, within the cube, declared codes, and labels that agree with the sign."""
        count = self.count.name if self.count is not None else None
        rules = [finite(self.points.name, count), within_cube(self.points.name, count)]
        if self.sdf is not None:
            rules.append(finite(self.sdf.name, count))
        if self.labels is not None:
            rules.append(declared_codes(self.labels.name, (code.value for code in self.labels.codes), count))
        if self.sdf is not None and self.labels is not None:
            rules.append(labelled_where_inside(self.labels.name, self.sdf.name, count))
        if count is not None:
            rules.append(count_within(count, self.points.shape[0]))
        return tuple(rules)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.points, (None, 3), "float32")
        if self.sdf is not None:
            yield from misfit(self.sdf, self.points.shape[:1], "float32")
        if self.labels is not None:
            yield from misfit(self.labels, self.points.shape[:1], "int8")
            if not self.labels.codes:
                yield f"{self.labels.name}: labels must declare their codes"
            if self.labels.pool != self.points.name:
                yield f"{self.labels.name}: labels of {self.points.name} must name it as their pool"
        if self.count is not None:
            yield from misfit(self.count, (), "int32")
        if (self.where == "surface") != (self.sdf is None):
            yield f"{self.points.name}: volume and near samples have an sdf, surface samples have none"
