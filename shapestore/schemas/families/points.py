"""Points: a cloud on the surface of the shape, with normals where the raw data has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, finite, unit_vectors, within_cube


class Points(Family):
    """Surface points in normalised coordinates."""

    family: Literal["points"] = "points"
    points: ArraySpec
    """(n, 3) float32 in [-1, 1]: positions, right-handed axes."""
    normals: ArraySpec | None = None
    """(n, 3) float32: unit normals of the surface at the points."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Positions, then normals."""
        return (self.points,) if self.normals is None else (self.points, self.normals)

    def rules(self) -> tuple[Rule, ...]:
        """Finite, within the cube, unit normals."""
        rules = [finite(self.points.name), within_cube(self.points.name)]
        if self.normals is not None:
            rules += [finite(self.normals.name), unit_vectors(self.normals.name)]
        return tuple(rules)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.points, (None, 3), "float32")
        if self.normals is not None:
            yield from misfit(self.normals, self.points.shape, "float32")
