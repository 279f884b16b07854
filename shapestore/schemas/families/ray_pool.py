"""RayPool: rays and what they hit first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, declared_codes, finite, hit_has_depth, unit_vectors


class RayReturns(Strict):
    """What one representation of the shape (its mesh, its cloud) answers to the rays."""

    hit: ArraySpec
    """(n,) uint8: 1 where the ray meets the shape, else 0."""
    depth: ArraySpec
    """(n,) float32 >= 0: t of the first hit at origin + t * direction; 0 where there is none."""
    normals: ArraySpec | None = None
    """(n, 3) float32: unit normal at the hit; 0 where there is none."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Hit, depth, normals."""
        return (self.hit, self.depth) if self.normals is None else (self.hit, self.depth, self.normals)

    def rules(self) -> tuple[Rule, ...]:
        """Hits are 0 or 1, a hit has a depth, its normal is a unit vector."""
        hit, depth = self.hit.name, self.depth.name
        rules = [declared_codes(hit, (0, 1)), finite(depth), hit_has_depth(hit, depth)]
        if self.normals is not None:
            rules += [finite(self.normals.name), unit_vectors(self.normals.name, where=hit)]
        return tuple(rules)


class RayPool(Family):
    """Rays from cameras around the shape. Origins lie outside the cube of normalised coordinates."""

    family: Literal["ray_pool"] = "ray_pool"
    origins: ArraySpec
    """(n, 3) float32: where rays start, in normalised coordinates."""
    directions: ArraySpec
    """(n, 3) float32: unit vectors."""
    returns: tuple[RayReturns, ...]
    """One set of answers for each representation of the shape."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Origins, directions, then every set of answers."""
        return (self.origins, self.directions, *(spec for part in self.returns for spec in part.arrays()))

    def rules(self) -> tuple[Rule, ...]:
        """Finite origins, unit directions, and the rules of the answers."""
        rules = [finite(self.origins.name), finite(self.directions.name), unit_vectors(self.directions.name)]
        return (*rules, *(rule for part in self.returns for rule in part.rules()))

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.origins, (None, 3), "float32")
        yield from misfit(self.directions, self.origins.shape, "float32")
        count = self.origins.shape[:1]
        for part in self.returns:
            yield from misfit(part.hit, count, "uint8")
            yield from misfit(part.depth, count, "float32")
            if part.normals is not None:
                yield from misfit(part.normals, (*count, 3), "float32")
