"""The families of arrays that a store may hold, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shapestore.schemas.families.base import Family
from shapestore.schemas.families.fps_order import FpsOrder
from shapestore.schemas.families.grids import LabelGrid, OccupancyGrid, SdfGrid, UdfGrid
from shapestore.schemas.families.labels import LabelCounts, Labels
from shapestore.schemas.families.mesh_facts import MeshFacts, SignFacts
from shapestore.schemas.families.points import Points
from shapestore.schemas.families.query_pool import QueryPool
from shapestore.schemas.families.ray_pool import RayPool, RayReturns
from shapestore.schemas.families.sdf_samples import SdfSamples

AnyFamily = Annotated[
    Points
    | FpsOrder
    | QueryPool
    | RayPool
    | UdfGrid
    | SdfGrid
    | OccupancyGrid
    | LabelGrid
    | SdfSamples
    | Labels
    | LabelCounts
    | MeshFacts
    | SignFacts,
    Field(discriminator="family"),
]

__all__ = [
    "AnyFamily",
    "Family",
    "FpsOrder",
    "LabelCounts",
    "LabelGrid",
    "Labels",
    "MeshFacts",
    "OccupancyGrid",
    "Points",
    "QueryPool",
    "RayPool",
    "RayReturns",
    "SdfGrid",
    "SdfSamples",
    "SignFacts",
    "UdfGrid",
]
