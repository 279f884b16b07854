"""Draws: how points are picked from the pools of a shape. Settings, and what they pick."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from shapestore.errors import UsageError
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict

Picks = NDArray[np.intp]
Random = Callable[[], np.random.Generator]
"""Makes the generator of one draw of one visit, for the draws that need one."""


class BaseDraw(Strict):
    """Picks entries of one pool: of arrays that share their first axis, the same entries of each."""

    arrays: tuple[str, ...] = Field(min_length=1)
    """Arrays of the pool that the batch gets, under their own names."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Entries of every sample."""

    @property
    def guide(self) -> str | None:
        """Array that is read whole for every sample to pick by."""
        return None

    def problems(self, specs: Mapping[str, ArraySpec]) -> Iterator[str]:
        """What keeps these settings from being drawn from a store that has all the arrays, `specs` by name."""
        axes = {name: specs[name].dims[:1] for name in self.arrays}
        if len(set(axes.values())) > 1 or () in axes.values():
            found = ", ".join(f"{name} has {axis[0] if axis else 'none'}" for name, axis in axes.items())
            yield f"arrays of one draw share their first axis: {found}"
        else:
            yield from self._misfits(specs)

    @abstractmethod
    def _misfits(self, specs: Mapping[str, ArraySpec]) -> Iterator[str]:
        """What does not fit the pool, where there is one."""

    def fewest(self) -> int:
        """Entries that a pool must have filled."""
        return 1

    @abstractmethod
    def pick(self, random: Random, filled: int, guide: NDArray[Any] | None, spec: ArraySpec | None) -> Picks:
        """Entries of one sample.

        Parameters
        ----------
        random
            Gives the sample's own generator.
        filled
            Entries of the pool that hold something, > 0; they lie at its start.
        guide, spec
            The row of `guide`, and what the store says of that array.

        Returns
        -------
        (size,) intp in [0, filled).
        """


class RandomDraw(BaseDraw):
    """Entries drawn uniformly, in random order."""

    how: Literal["random"] = "random"
    count: PositiveInt
    """Entries of every sample."""
    replace: bool = False
    """Whether an entry may come more than once in a sample."""

    @property
    def size(self) -> int:
        """Entries of every sample."""
        return self.count

    def _misfits(self, specs: Mapping[str, ArraySpec]) -> Iterator[str]:
        """More entries are asked for than there are."""
        pool = specs[self.arrays[0]]
        if self.fewest() > pool.shape[0]:
            yield f"{self.count} of the {pool.shape[0]} entries of {pool.name} need `replace: true`"

    def fewest(self) -> int:
        """All that are drawn, unless some may be drawn twice."""
        return 1 if self.replace else self.count

    def pick(self, random: Random, filled: int, guide: NDArray[Any] | None, spec: ArraySpec | None) -> Picks:
        """Entries of one sample, (count,) intp."""
        from shapestore.train.data.picks import choose  # compiled: loaded with the first draw

        del guide, spec
        return choose(random(), filled, self.count, self.replace)


class PrefixDraw(BaseDraw):
    """The first entries of a farthest-point order: they cover the shape evenly, and are the same at every visit."""

    how: Literal["prefix"] = "prefix"
    order: str
    """Array of the order."""
    count: PositiveInt
    """Entries of every sample."""

    @property
    def size(self) -> int:
        """Entries of every sample."""
        return self.count

    @property
    def guide(self) -> str:
        """The order."""
        return self.order

    def _misfits(self, specs: Mapping[str, ArraySpec]) -> Iterator[str]:
        """It is no order of this pool, or a shorter one."""
        order, pool = specs[self.order], specs[self.arrays[0]]
        if order.role != "fps_order" or order.pool is None:
            yield f"{self.order} is no farthest-point order"
        elif specs[order.pool].dims[:1] != pool.dims[:1]:
            yield f"{self.order} orders {order.pool}, not {pool.name}"
        elif self.count > order.shape[0]:
            yield f"{self.order} has {order.shape[0]} entries, not {self.count}"

    def pick(self, random: Random, filled: int, guide: NDArray[Any] | None, spec: ArraySpec | None) -> Picks:
        """Entries of one sample, (count,) intp.

        Raises
        ------
        UsageError
            One of them is not filled.
        """
        del random, spec
        assert guide is not None, "read because it is named"  # noqa: S101
        picks = guide[: self.count].astype(np.intp)
        if picks.max() >= filled:
            raise UsageError(f"{self.order} names entry {picks.max()} of a pool of which {filled} are filled")
        return picks


class StratifiedDraw(BaseDraw):
    """A fixed number of entries from every stratum: inside and outside, or classes.

    The strata lie one after another in the sample: inside, outside; or the classes in the order of their codes. A
    stratum that has fewer entries than are asked for is drawn with replacement.
    """

    how: Literal["stratified"] = "stratified"
    by: str
    """Signed distances (strata `inside`, where they are negative, and `outside`), or labels (strata are the names of
    their codes)."""
    counts: Mapping[str, PositiveInt] = Field(min_length=1)
    """Entries of every stratum, by its name."""
    replace: bool = False
    """Whether an entry may come more than once in a sample, though its stratum has enough."""
    missing: Literal["error", "others"] = "error"
    """What becomes of a stratum that a shape has no entry of: an error, or the other strata fill up, each with an
    equal share, the first of them with what is left."""

    @property
    def size(self) -> int:
        """Entries of every sample."""
        return sum(self.counts.values())

    @property
    def guide(self) -> str:
        """The distances or labels."""
        return self.by

    def _misfits(self, specs: Mapping[str, ArraySpec]) -> Iterator[str]:
        """These are no distances or labels of this pool, or a stratum is unknown."""
        by, pool = specs[self.by], specs[self.arrays[0]]
        known = _strata(by)
        if by.dims != pool.dims[:1]:
            yield f"{self.by} has not one value for every entry of {pool.name}"
        elif unknown := [name for name in self.counts if name not in known]:
            yield f"{self.by} has no stratum {unknown[0]!r}; it has: {', '.join(known) or 'none, for want of codes'}"

    def pick(self, random: Random, filled: int, guide: NDArray[Any] | None, spec: ArraySpec | None) -> Picks:
        """Entries of one sample, (size,) intp.

        Raises
        ------
        UsageError
            A stratum is empty.
        """
        from shapestore.train.data.picks import choose_members, count_members

        assert guide is not None, "read because it is named"  # noqa: S101
        assert spec is not None, "as the array is"  # noqa: S101
        values = guide[:filled]
        keys = (values < 0).view(np.uint8) if values.dtype.kind == "f" else values
        strata = {name: key for name, key in _strata(spec).items() if name in self.counts}
        codes = np.array(list(strata.values()), keys.dtype)
        members = count_members(keys, codes)
        shares = self._shares(dict(zip(strata, members[:, -1].tolist(), strict=True)))
        counts = np.array([shares.get(name, 0) for name in strata])
        return choose_members(random().random(counts.sum()), keys, codes, members, counts, self.replace)

    def _shares(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Entries to draw from every stratum that has any."""
        present = [name for name, size in sizes.items() if size]
        empty = [name for name in sizes if name not in present]
        if empty and (self.missing == "error" or not present):
            remedy = "" if not present else " To have the other strata fill up, draw with `missing: others`."
            raise UsageError(f"no entry is {' or '.join(empty)} by {self.by}.{remedy}")
        more, rest = divmod(sum(self.counts[name] for name in empty), len(present))
        return {name: self.counts[name] + more + (rest if i == 0 else 0) for i, name in enumerate(present)}


Draw = Annotated[RandomDraw | PrefixDraw | StratifiedDraw, Field(discriminator="how")]
"""One draw, told apart by `how`."""


def _strata(spec: ArraySpec) -> dict[str, int]:
    """Names of the strata of an array; each with its code, or for distances with 1 where they are negative."""
    if np.dtype(spec.dtype).kind == "f":
        return {"inside": 1, "outside": 0}
    return {code.name: code.value for code in spec.codes}
