"""FpsOrder: a farthest-point order over a pool of points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import PositiveInt

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, order_prefix


class FpsOrder(Family):
    """Indices into a pool, farthest point first, so that every prefix covers the shape evenly.

    The order starts at the point farthest from the centroid; each next one is farthest from those before it
    (Eldar et al., 1997).
    """

    family: Literal["fps_order"] = "fps_order"
    order: ArraySpec
    """(k,) int32 in [0, pool_size): different indices; its `pool` names the array that it orders."""
    pool_size: PositiveInt
    """Number of points in the pool."""

    @property
    def pool(self) -> str:
        """Name of the array that is ordered."""
        assert self.order.pool is not None, "checked when the model was made"  # noqa: S101
        return self.order.pool

    def arrays(self) -> tuple[ArraySpec, ...]:
        """The order."""
        return (self.order,)

    def rules(self) -> tuple[Rule, ...]:
        """A duplicate-free prefix over the pool."""
        return (order_prefix(self.order.name, self.pool_size, self.pool),)

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.order, (None,), "int32")
        if self.order.pool is None:
            yield f"{self.order.name}: an order must name the pool that it orders"
        if self.order.shape and self.order.shape[0] > self.pool_size:
            yield f"{self.order.name}: {self.order.shape[0]} indices into {self.pool_size} points must repeat some"
