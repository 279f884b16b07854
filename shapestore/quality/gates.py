"""Gates: checks that a record must pass on its way into a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import Problem
from shapestore.quality.bounds import bounds_text
from shapestore.quality.check import Batch, Check, Measure, Settings
from shapestore.quality.registry import installed_checks, settings_of
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.record import ShapeRecord
from shapestore.schemas.store_schema import StoreSchema


@dataclass(frozen=True)
class Gates:
    """The gates of one recipe: given a record, they say what is wrong with it. Sent to workers with every task."""

    recipe: Recipe
    source_kind: str

    def __post_init__(self) -> None:
        settings_of(self.recipe)  # a misspelt check is refused before any work

    def __call__(self, record: ShapeRecord, schema: StoreSchema) -> list[Problem]:
        """Every measure of a gate that is out of bounds.

        Warnings pass: a gate is for what would give wrong results.
        """
        batch = record_batch(record, schema, self.recipe, self.source_kind)
        return [
            Problem(
                f"{record.shape_id}/{measure.arrays[0] if measure.arrays else check.name}",
                f"{measure.name} {bounds_text(measure.low, measure.high)} [{check.name}]",
                f"{measure.values[0]:.6g} {measure.unit}".rstrip(),
                measure.remedy,
            )
            for check, settings in _gates(self.recipe)
            if check.applies(schema, self.recipe) is None
            for measure in check.measure(batch, settings)
            if isinstance(measure, Measure) and (measure.severity or check.severity) == "error" and measure.broken[0]
        ]


def _gates(recipe: Recipe) -> list[tuple[Check, Settings]]:
    settings = settings_of(recipe)
    return [
        (check, settings[check.name])
        for check in installed_checks()
        if settings[check.name].gate and check.scope == "content"
    ]


def record_batch(record: ShapeRecord, schema: StoreSchema, recipe: Recipe, source_kind: str) -> Batch:
    """One record as a batch of one row."""
    origin = record.provenance
    index: dict[str, Any] = {
        "shape_id": record.shape_id,
        "category": record.category,
        "split": record.split,
        "group": record.group,
        "source": origin.source,
        "source_sha256": origin.source_sha256,
        "shift": origin.shift,
        "scale": origin.scale,
        "seed": origin.seed,
    }
    arrays = {name: np.asarray(value)[np.newaxis] for name, value in record.arrays.items()}
    index = {name: _one(value) for name, value in index.items()}
    index |= {spec.name: arrays[spec.name] for spec in schema.index_arrays}
    return Batch(schema, recipe, np.array([-1]), index, arrays, source_kind)


def _one(value: Any) -> NDArray[Any]:
    return np.array([value], dtype=object if isinstance(value, str) else None)
