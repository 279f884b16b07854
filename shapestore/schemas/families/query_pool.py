"""QueryPool: positions in space and their distances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, differs_in_sign_only, finite, non_negative, within_cube


class QueryPool(Family):
    """Query positions, uniform and near the surface, with one or several unsigned distances each."""

    family: Literal["query_pool"] = "query_pool"
    points: ArraySpec
    """(n, 3) float32 in [-1, 1]: query positions."""
    distances: tuple[ArraySpec, ...] = ()
    """Each (n,) float32, >= 0, normalised units: distance to the surface, to the cloud, or read from the grid."""
    signed: ArraySpec | None = None
    """(n,) float32, normalised units: the first of the distances, negative inside."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Positions, then distances, the signed one last."""
        return (self.points, *self.distances, *filter(None, [self.signed]))

    def rules(self) -> tuple[Rule, ...]:
        """Finite, within the cube, distances not negative, the signed one as large as the first of them."""
        rules = [finite(self.points.name), within_cube(self.points.name)]
        for distance in self.distances:
            rules += [finite(distance.name), non_negative(distance.name)]
        if self.signed is not None:
            rules += [finite(self.signed.name), differs_in_sign_only(self.signed.name, self.distances[0].name)]
        return tuple(rules)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.points, (None, 3), "float32")
        for distance in (*self.distances, *filter(None, [self.signed])):
            yield from misfit(distance, self.points.shape[:1], "float32")
        if self.signed is not None and not self.distances:
            yield f"{self.signed.name}: a signed distance needs the unsigned one beside it"
