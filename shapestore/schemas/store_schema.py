"""`StoreSchema`: everything that one store holds, and the check of records and rows against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from shapestore.errors import Problem, RecordInvalid
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict
from shapestore.schemas.families import AnyFamily, FpsOrder, Labels
from shapestore.schemas.record import ShapeRecord
from shapestore.schemas.rules import Rule

MAX_SHARD_BYTES = 64 * 2**20
"""Size that the largest shard of a row group stays below: a worker and a reader handle it with ease."""

MAX_ROWS_PER_SHARD = 4096
"""Most rows of a row group, so that a shard's index stays small and a lost shard costs little."""

RESERVED_NAMES = frozenset(
    {
        "shape_id", "valid", "split", "category", "group", "source", "source_sha256", "shift", "scale", "seed",
        "quarantine", "integrity", "provenance",
    }
)  # fmt: skip
"""Names of the index arrays and groups that every store has."""


class StoreSchema(Strict):
    """The families of arrays in a store."""

    families: tuple[AnyFamily, ...]
    """All families; together they own every array of the store but the built-in index arrays."""

    @cached_property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """Every array, in the order of the families."""
        return tuple(spec for family in self.families for spec in family.arrays())

    @cached_property
    def by_name(self) -> Mapping[str, ArraySpec]:
        """Every array by its name."""
        return {spec.name: spec for spec in self.arrays}

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule of every family."""
        return tuple(rule for family in self.families for rule in family.rules())

    @property
    def data_arrays(self) -> tuple[ArraySpec, ...]:
        """The arrays that lie in shards: mapped and packed ones."""
        return tuple(spec for spec in self.arrays if spec.kind != "index")

    @property
    def index_arrays(self) -> tuple[ArraySpec, ...]:
        """The declared arrays of one value a row, such as counts."""
        return tuple(spec for spec in self.arrays if spec.kind == "index")

    def rows_per_shard(self) -> int:
        """The largest power of two whose rows take at most 64 MiB uncompressed, at most 4096."""
        largest = max((spec.row_bytes for spec in self.data_arrays), default=1)
        fitting = max(1, min(MAX_ROWS_PER_SHARD, MAX_SHARD_BYTES // largest))
        return 1 << (fitting.bit_length() - 1)

    def problems(self, rows: Mapping[str, NDArray[Any]], places: Sequence[str]) -> list[Problem]:
        """All broken rules of a batch of rows.

        Parameters
        ----------
        rows
            Every array of the schema by name, (n, ...) each.
        places
            n names of the rows, for the messages.
        """
        return [problem for rule in self.rules for problem in rule.problems(rows, places)]

    def require(self, record: ShapeRecord) -> None:
        """Raise `RecordInvalid` with every problem of a record; return if it has none."""
        problems = list(self._layout_problems(record))
        amiss = {problem.place.removeprefix(f"{record.shape_id}/") for problem in problems}
        rows = {name: np.asarray(value)[np.newaxis] for name, value in record.arrays.items() if name not in amiss}
        for rule in self.rules:
            if rows.keys() >= set(rule.arrays):
                problems += rule.problems(rows, [record.shape_id])
        if problems:
            raise RecordInvalid(f"record {record.shape_id}", problems)

    def _layout_problems(self, record: ShapeRecord) -> Iterable[Problem]:
        """Arrays that are missing, not declared, or not of the declared shape and dtype."""
        for name in sorted(record.arrays.keys() - self.by_name.keys()):
            yield Problem(
                f"{record.shape_id}/{name}",
                "an array of the schema",
                "one that is not declared",
                "Add it to the recipe.",
            )
        for name, spec in self.by_name.items():
            place = f"{record.shape_id}/{name}"
            if name not in record.arrays:
                yield Problem(place, f"{spec.dtype} {spec.shape}", "no such array", "The source did not compute it.")
                continue
            value = record.arrays[name]
            if value.shape != spec.shape or value.dtype != spec.numpy_dtype:
                yield Problem(place, f"{spec.dtype} {spec.shape} [shape-and-dtype]", f"{value.dtype} {value.shape}")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        """No two arrays have the same name."""
        counts = Counter(spec.name for spec in self.arrays)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"declared twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _pools_exist(self) -> Self:
        """Every order and every label array belongs to an array of the schema, of the declared size."""
        for family in self.families:
            if not isinstance(family, FpsOrder | Labels):
                continue
            spec = family.arrays()[0]
            pool = self.by_name.get(spec.pool or "")
            if pool is None:
                raise ValueError(f"{spec.name}: its pool {spec.pool} is not in the schema")
            size = family.pool_size if isinstance(family, FpsOrder) else spec.shape[0]
            if pool.shape[:1] != (size,):
                raise ValueError(
                    f"{spec.name}: its pool {pool.name} has a row of shape {pool.shape}, not {size} points"
                )
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        """No array has the name of a built-in index array or group."""
        taken = [spec.name for spec in self.arrays if spec.name in RESERVED_NAMES]
        if taken:
            raise ValueError(f"built-in names: {', '.join(taken)}")
        return self

    @model_validator(mode="after")
    def _dimensions_have_one_size(self) -> Self:
        """A dimension's name stands for one size in the whole store, as labelled arrays need."""
        sizes = {"xyz": 3}
        for spec in self.arrays:
            for name, size in zip(spec.dims, spec.shape, strict=True):
                if sizes.setdefault(name, size) != size:
                    raise ValueError(f"{spec.name}: dimension {name} has size {size} here and {sizes[name]} elsewhere")
        return self
