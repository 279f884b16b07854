"""`ShapeDataset`: the shapes of one store as samples, with points drawn from its pools."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import digest
from shapestore.schemas.families import SdfSamples
from shapestore.schemas.seeding import Streams
from shapestore.store.columns import Column
from shapestore.store.reader import RowNumbers, Store, open_store
from shapestore.train.data.batched import BatchedDataset
from shapestore.train.data.buffers import Slot
from shapestore.train.data.draw import BaseDraw, Draw, Random
from shapestore.train.data.rotation import random_rotation
from shapestore.train.data.visit import Visit

ROW = "row"
"""Field of every batch: the row of the sample in its store, int64."""

_streams = Streams()


class ShapeDataset(BatchedDataset):
    """The shapes of a store as samples. A pickled one carries row numbers, and no data.

    A sample is a function of `seed`, the visit's epoch and repeat, and the shape's id. It is the same in any process,
    in any batch and at any row.

    Parameters
    ----------
    store
        An open store, or the path of one.
    fields
        Arrays that come whole, and index arrays such as `category`. Strings cannot be tensors: look them up by `row`.
    draws
        How points are picked from pools: settings of `draw.py`.
    rows, split
        The shapes: rows as `Store.rows` gives them, or all of one split; all that hold data if neither is given.
    seed
        Names the draws.
    rotation
        Largest angle, degrees, by which each sample is turned about the origin, another way at each visit: all arrays
        whose last dimension is `xyz`, positions and directions. Whoever has seen a position at the corner of the cube
        may see it outside. Grids and `shift` do not turn, and are refused.

    Raises
    ------
    UsageError
        The store lacks a field (the message lists those that there are), or a draw does not fit its pool.
    """

    def __init__(
        self,
        store: Store | str | Path,
        fields: Sequence[str] = (),
        *,
        draws: Sequence[Draw] = (),
        rows: RowNumbers | None = None,
        split: str | None = None,
        seed: int = 0,
        rotation: float = 0.0,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, Store) else open_store(store)
        if isinstance(fields, str):
            raise UsageError(f"fields are a list such as [{fields!r}].")
        if not all(isinstance(draw, BaseDraw) for draw in draws):
            raise UsageError('draws are a list such as [RandomDraw(arrays=("pc_xyz",), count=1024)].')
        self.fields = tuple(fields)
        self.draws: tuple[Draw, ...] = tuple(draws)
        self.seed = seed
        self.rotation = float(rotation)
        if not 0 <= rotation <= 180:
            raise UsageError(f"rotations are by 0 to 180 degrees, not {rotation}.")
        if rows is not None and split is not None:
            raise UsageError("the shapes of a dataset are named by rows or by a split, not by both.")
        chosen = self.store.rows(**({} if split is None else {"split": split})) if rows is None else np.asarray(rows)
        self.store.read(chosen, [])  # refuses what is no row, or holds no data
        self.rows: NDArray[np.int64] = chosen.astype(np.int64).reshape(-1)
        """(n,) row of each sample."""
        if problem := next(self._problems(), None):
            raise UsageError(f"{self.store.path}: {problem}")

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def layout(self) -> Mapping[str, Slot]:
        """Shape, without the sample's axis, and dtype of every field of a batch."""
        slots: dict[str, Slot] = {}
        for name in self.fields:
            found = self._columns.get(name) or self._specs[name]
            slots[name] = (found.shape, found.numpy_dtype)
        for draw in self.draws:
            for name in draw.arrays:
                slots[name] = ((draw.size, *self._specs[name].shape[1:]), self._specs[name].numpy_dtype)
        return {**slots, ROW: ((), np.dtype(np.int64))}

    @cached_property
    def meanings(self) -> Mapping[str, Mapping[int, str]]:
        """What the codes of a field mean, for every field of codes."""
        named = {name: dict(enumerate(names)) for name, names in self.store.root.codes.items()}
        named |= {name: {code.value: code.name for code in spec.codes} for name, spec in self._specs.items()}
        return {name: named[name] for name in self.layout if named.get(name)}

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) shape ids."""
        found: NDArray[Any] = self.store.index("shape_id")[self.rows]
        return found

    @property
    def weights(self) -> None:
        """Each shape comes once an epoch."""
        return

    def balanced(self, column: str) -> NDArray[np.float64]:
        """(n,) weights, of sum 1, by which all values of an index array are drawn equally often.

        Raises
        ------
        UsageError
            There is no such index array, or some shapes have no value in it.
        """
        known = [name for name, found in self._columns.items() if not found.shape]
        if column not in known:
            raise UsageError(f"{self.store.path}: nothing to balance by is {column!r}, but: {', '.join(known)}.")
        values = self.store.index(column)[self.rows]
        missing = values == "" if values.dtype == object else (values < 0) & (column in self.store.root.codes)
        if missing.any():
            raise UsageError(
                f"{self.store.path}: {missing.sum()} shapes, such as {self.ids[missing][0]!r}, have no {column} to "
                "balance by."
            )
        _, kind, counts = np.unique(values, return_inverse=True, return_counts=True)
        weights: NDArray[np.float64] = 1 / (len(counts) * counts[kind])
        return weights

    def identity(self) -> dict[str, str]:
        """Digests of all that a sample depends on but its visit, by what they are of."""
        return {
            "content": self._content_digest(),
            "shapes": digest(self.ids.tolist()),
            "fields": digest(self.fields),
            "draws": digest([draw.model_dump(mode="json") for draw in self.draws]),
            "dataset seed": str(self.seed),
            "rotation": str(self.rotation),
        }

    def fill(self, visits: Sequence[Visit], out: Mapping[str, NDArray[Any]]) -> None:
        """Gather samples into arrays; see `BatchedDataset.fill`."""
        rows = self.rows[[visit.index for visit in visits]]
        if self.fields:
            self.store.read(rows, self.fields, out={name: out[name] for name in self.fields})
        for draw in self.draws:
            picks = np.empty((len(visits), draw.size), np.intp)
            for position, (visit, row) in enumerate(zip(visits, rows.tolist(), strict=True)):
                picks[position] = self._pick(draw, visit, row)
            self.store.read(rows, draw.arrays, out={name: out[name] for name in draw.arrays}, at=picks)
        out[ROW][...] = rows
        if self.rotation:
            self._turn(visits, rows, out)

    def _turn(self, visits: Sequence[Visit], rows: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        """Turn every sample in place."""
        turned = [name for name in out if name in self._specs and self._specs[name].dims[-1:] == ("xyz",)]
        for position, (visit, row) in enumerate(zip(visits, rows.tolist(), strict=True)):
            rotation = random_rotation(self._random(visit, "rotation", row)(), self.rotation)
            for name in turned:
                out[name][position] = out[name][position] @ rotation.T

    def _random(self, visit: Visit, use: str, row: int) -> Random:
        """Generator of one visit for one use."""
        # The id comes last: it may hold any character, and the name of an array may not.
        shape_id = self.store.index("shape_id")[row]
        return partial(_streams, self.seed, f"{visit.epoch}\0{visit.repeat}\0{use}\0{shape_id}")

    def _pick(self, draw: BaseDraw, visit: Visit, row: int) -> NDArray[np.intp]:
        """Entries of the pool of one draw that one sample has."""
        count = self._counts[draw.arrays[0]]
        random = self._random(visit, draw.arrays[0], row)
        filled = self._specs[draw.arrays[0]].shape[0] if count is None else int(self.store.index(count)[row])
        guide = draw.guide
        try:
            if guide is None:
                return draw.pick(random, filled, None, None)
            return draw.pick(random, filled, self.store.row(guide, row), self._specs[guide])
        except UsageError as error:
            shape_id = self.store.index("shape_id")[row]
            raise UsageError(f"{self.store.path}: shape {shape_id!r}: {error}") from None

    def _problems(self) -> Iterator[str]:
        """What is wrong with what was asked for."""
        drawn = [name for draw in self.draws for name in draw.arrays]
        guides = [draw.guide for draw in self.draws if draw.guide is not None]
        has = f"The store has: {', '.join(sorted({*self._specs, *self._columns}))}."
        if lacking := [name for name in self.fields if name not in self._specs and name not in self._columns]:
            yield f"it has no {', '.join(lacking)}. {has}"
        if lacking := [name for name in [*drawn, *guides] if name not in self._specs]:
            yield f"it has no pool {', '.join(lacking)} to draw from. {has}"
        if strings := [name for name in self.fields if name in self._columns and self._columns[name].dtype == "string"]:
            yield f"{strings[0]} is text: look it up with store.index({strings[0]!r})[batch['row']]."
        asked = [*self.fields, *drawn, ROW]
        if twice := sorted({name for name in asked if asked.count(name) > 1}):
            yield f"{', '.join(twice)} would be twice in a batch."
        if len(asked) == 1:
            yield f"a sample without fields and draws. {has}"
        if not len(self.rows) or len(np.unique(self.rows)) < len(self.rows):
            yield "the shapes of a dataset are different rows, at least one."
        if self.rotation and (fixed := [name for name in asked if name == "shift" or self._is_grid(name)]):
            yield f"{fixed[0]} does not turn with the points. Leave it out, or the rotation."
        for draw in self.draws:
            yield from draw.problems(self._specs)
            if count := self._counts[draw.arrays[0]]:
                filled = self.store.index(count)[self.rows]
                short = self.rows[filled < draw.fewest()]
                if len(short):
                    yield (
                        f"{len(short)} shapes, such as {self.store.index('shape_id')[short[0]]!r}, have fewer than "
                        f"{draw.fewest()} entries of {draw.arrays[0]} filled."
                    )

    def _is_grid(self, name: str) -> bool:
        """Whether an array has a value for each cell of a cube, along axes that do not turn."""
        return name in self._specs and {"x", "y", "z"} <= set(self._specs[name].dims)

    def _content_digest(self) -> str:
        """Digest of what the store holds of these rows, by the digests that its commit keeps of the shards."""
        hashed = hashlib.sha256()
        size, sha256 = self.store.root.integrity_columns
        names: list[str] = size.attributes["arrays"]
        groups = np.unique(self.rows // self.store.root.rows_per_shard)
        for name in sorted(self._read):
            hashed.update(name.encode())
            if name in self._columns:
                hashed.update(self.store.index(name)[self.rows].tobytes())
            else:
                hashed.update(self.store.index(sha256.path)[groups, names.index(name)].tobytes())
        return hashed.hexdigest()

    @property
    def _read(self) -> set[str]:
        """All arrays that samples depend on."""
        guides = [draw.guide for draw in self.draws]
        helpers = {name for name in [*guides, *self._counts.values()] if name is not None}
        return {*self.fields, *helpers, *(name for draw in self.draws for name in draw.arrays)}

    @cached_property
    def _counts(self) -> dict[str, str | None]:
        """For the first array of each draw, the index array that says how many entries of its pool are filled."""
        counts = {
            spec.name: family.count.name
            for family in self.store.root.content.families
            if isinstance(family, SdfSamples) and family.count
            for spec in family.arrays()
        }
        return {draw.arrays[0]: counts.get(draw.arrays[0]) for draw in self.draws}

    @cached_property
    def _specs(self) -> dict[str, ArraySpec]:
        """Data arrays by name."""
        return {spec.name: spec for spec in self.store.root.content.data_arrays}

    @cached_property
    def _columns(self) -> dict[str, Column]:
        """Index arrays by name."""
        return {column.path: column for column in self.store.root.row_columns}
