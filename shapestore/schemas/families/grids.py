"""UdfGrid, SdfGrid, OccupancyGrid, LabelGrid: fields on a regular grid over [-1, 1]^3.

All grids share one convention: indices are (x, y, z), and cell i of G has its centre at -1 + (i + 0.5) * 2 / G.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, declared_codes, finite, non_negative

FIELD_DTYPES = ("float32", "float16")


class UdfGrid(Family):
    """Unsigned distance to the surface at the cell centres."""

    family: Literal["udf_grid"] = "udf_grid"
    grid: ArraySpec
    """(G, G, G) float32, or float16 where packed: >= 0, in normalised units."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The grid."""
        return (self.grid,)

    def rules(self) -> tuple[Rule, ...]:
        """Finite and not negative."""
        return (finite(self.grid.name), non_negative(self.grid.name))

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.grid, (None, None, None), *FIELD_DTYPES)


class SdfGrid(Family):
    """Signed distance to the surface at the cell centres, negative inside."""

    family: Literal["sdf_grid"] = "sdf_grid"
    grid: ArraySpec
    """(G, G, G) float32, or float16 where packed: < 0 inside, in normalised units."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The grid."""
        return (self.grid,)

    def rules(self) -> tuple[Rule, ...]:
        """Finite."""
        return (finite(self.grid.name),)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.grid, (None, None, None), *FIELD_DTYPES)


class LabelGrid(Family):
    """The raw label map at the cell centres: class of the voxel that holds each."""

    family: Literal["label_grid"] = "label_grid"
    grid: ArraySpec
    """(G, G, G) int8: declared codes; 0 outside all classes."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The grid."""
        return (self.grid,)

    def rules(self) -> tuple[Rule, ...]:
        """Only declared codes."""
        return (declared_codes(self.grid.name, (code.value for code in self.grid.codes)),)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.grid, (None, None, None), "int8")
        if not self.grid.codes:
            yield f"{self.grid.name}: labels must declare their codes"


class OccupancyGrid(Family):
    """Which cells the shape occupies."""

    family: Literal["occupancy_grid"] = "occupancy_grid"
    grid: ArraySpec
    """(G, G, G) uint8: 1 where the cell is occupied, else 0."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The grid."""
        return (self.grid,)

    def rules(self) -> tuple[Rule, ...]:
        """Only 0 and 1."""
        return (declared_codes(self.grid.name, (0, 1)),)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.grid, (None, None, None), "uint8")
