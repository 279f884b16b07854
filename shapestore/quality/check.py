"""`Check`: one thing that is measured of rows, and the bounds within which its numbers are sound.

A check measures numbers, not verdicts: one number a row, with the bounds that it should keep. What breaks a bound is
a finding, and the numbers themselves make the report's histograms, its worst shapes and the comparison of two stores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from shapestore.quality.finding import Finding, Severity
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict
from shapestore.schemas.families import (
    FpsOrder,
    Labels,
    MeshFacts,
    Points,
    QueryPool,
    RayPool,
    SdfGrid,
    SdfSamples,
    SignFacts,
    UdfGrid,
)
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.store_schema import StoreSchema

Array = NDArray[Any]

AnyFamilyClass = TypeVar("AnyFamilyClass")

Scope = Literal["content", "source"]
"""What a check looks at: a row's own arrays and index values, or also the raw file that it came from."""


class Settings(Strict):
    """Thresholds of a check, each with the reason of its default; a recipe changes them under `checks.<name>`."""

    gate: bool = False
    """Whether ingest quarantines a record that breaks the check."""


@dataclass(frozen=True)
class Measure:
    """One number of every row of a batch."""

    name: str
    """What is measured, with the array where there are several: `share of near_sdf that is positive`."""
    values: NDArray[np.float64]
    """(n,) the numbers; NaN where a row has nothing to measure."""
    low: float = -math.inf
    """Least sound number."""
    high: float = math.inf
    """Largest sound number."""
    unit: str = ""
    """What the number counts or measures, as a phrase after it."""
    arrays: tuple[str, ...] = ()
    """The arrays that it was measured on; the first is the one to look at."""
    remedy: str = ""
    """What a person can do about a row that is out of bounds."""
    severity: Severity | None = None
    """Where it differs from the check's."""
    wrong: str = ""
    """What is wrong with such a row, of a yes or no; empty where number and bounds say it."""

    @property
    def broken(self) -> NDArray[np.bool_]:
        """(n,) True where the number is out of bounds."""
        return (self.values < self.low) | (self.values > self.high)


@dataclass(frozen=True)
class Fact:
    """What a check needs to know of every row to judge the whole store: a descriptor, a hash, a count a class."""

    name: str
    values: Array
    """(n, ...) of any type."""


@dataclass(frozen=True)
class Batch:
    """Rows of one store, or one record on its way into it."""

    schema: StoreSchema
    recipe: Recipe
    rows: NDArray[np.int64]
    """(n,) row numbers; -1 for a record that has none yet."""
    index: Mapping[str, Array]
    """Index arrays by name, (n, ...) each: `shape_id`, `category`, `split` as texts, `shift`, `scale`, `seed`, ..."""
    arrays: Mapping[str, Array]
    """Data arrays by name, (n, ...) each; read when they are asked for."""
    source_kind: str = ""
    """Kind of source that the rows come from."""
    raw: Path | None = None
    """Root of the raw files, for checks of scope `source`."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Table:
    """What was measured of all checked rows, for the judgement over the whole store."""

    schema: StoreSchema
    recipe: Recipe
    rows: NDArray[np.int64]
    """(m,) all rows that were checked, ascending."""
    index: Mapping[str, Array]
    """Index arrays of these rows, as in `Batch`."""
    measured: Mapping[str, Measure]
    """The check's measures by name, over all these rows."""
    facts: Mapping[str, Array] = field(default_factory=dict)
    """The check's facts by name, (m, ...) each."""
    store_rows: int = 0
    """Valid rows of the store; more than m in a sample."""


@dataclass(frozen=True)
class Check:
    """One check. An entry point of the group `shapestore.checks` names it; the entry's name is `name`."""

    name: str
    """Words with hyphens, such as `sign-balance`."""
    about: str
    """What it measures and why, in one or two sentences."""
    severity: Severity
    """`error`: training on such rows gives wrong results. `warning`: somebody should look."""
    settings: type[Settings]
    """Model of its thresholds."""
    applies: Callable[[StoreSchema, Recipe], str | None]
    """None where the store holds what it measures; else why it does not, for the result."""
    measure: Callable[[Batch, Any], Iterable[Measure | Fact]]
    """Measure a batch of rows with the given settings. Deterministic, and independent of how rows are batched."""
    overall: Callable[[Table, Any], Iterable[Finding]] | None = None
    """Judge the store as a whole."""
    scope: Scope = "content"
    """What it looks at."""


def families(schema: StoreSchema, kind: type[AnyFamilyClass]) -> tuple[AnyFamilyClass, ...]:
    """The families of one kind that a store holds."""
    return tuple(family for family in schema.families if isinstance(family, kind))


def always(schema: StoreSchema, recipe: Recipe) -> str | None:
    """`applies` of a check that every store has something for."""
    del schema, recipe
    return None


KNOWN_AS: Mapping[type[Any], str] = {
    FpsOrder: "farthest-point order",
    Labels: "labels",
    MeshFacts: "facts of meshes such as mesh_faces",
    Points: "surface points",
    QueryPool: "query pool",
    RayPool: "ray pool",
    SdfGrid: "signed grid",
    SdfSamples: "volume, near or surface samples",
    SignFacts: "sign_confidence",
    UdfGrid: "distance grid",
}
"""Families as users of a store know them: by recipe part or array."""


def needs(*kinds: type[Any]) -> Callable[[StoreSchema, Recipe], str | None]:
    """`applies` of a check that measures any of these families."""

    def applies(schema: StoreSchema, recipe: Recipe) -> str | None:
        del recipe
        if any(families(schema, kind) for kind in kinds):
            return None
        *others, last = (KNOWN_AS.get(kind, kind.__name__) for kind in kinds)
        return f"the store holds no {', '.join(others)}{' or ' if others else ''}{last}"

    return applies


def filled(spec: ArraySpec, count: ArraySpec | None, batch: Batch) -> NDArray[np.bool_]:
    """(n, k) which entries of an array with a variable count hold data."""
    if count is None:
        return np.ones((len(batch), spec.shape[0]), bool)
    return np.arange(spec.shape[0]) < np.asarray(batch.index[count.name])[:, None]


def chosen(seeds: Sequence[int] | Array, size: int, count: int) -> NDArray[np.int64]:
    """(n, min(count, size)) positions within rows of `size` entries, drawn without replacement by each row's seed.

    A row's draw depends on its own seed alone, so a check measures the same whatever the batch.
    """
    if count >= size:
        return np.broadcast_to(np.arange(size), (len(seeds), size)).copy()
    draws = [np.random.default_rng([int(seed), size]).choice(size, count, replace=False) for seed in seeds]
    return np.stack(draws) if draws else np.zeros((0, count), np.int64)
