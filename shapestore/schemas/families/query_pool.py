"""QueryPool: positions in space and their unsigned distances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, finite, non_negative, within_cube


class QueryPool(Family):
    """Query positions, uniform and near the surface, with one or several unsigned distances each."""

    family: Literal["query_pool"] = "query_pool"
    points: ArraySpec
    """(n, 3) float32 in [-1, 1]: query positions."""
    distances: tuple[ArraySpec, ...] = ()
    """Each (n,) float32, >= 0, normalised units: distance to the surface, to the cloud, or read from the grid."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Positions, then distances."""
        return (self.points, *self.distances)

    def rules(self) -> tuple[Rule, ...]:
        """Finite, within the cube, distances not negative."""
        rules = [finite(self.points.name), within_cube(self.points.name)]
        for distance in self.distances:
            rules += [finite(distance.name), non_negative(distance.name)]
        return tuple(rules)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.points, (None, 3), "float32")
        for distance in self.distances:
            yield from misfit(distance, self.points.shape[:1], "float32")
