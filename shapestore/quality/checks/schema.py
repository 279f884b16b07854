"""schema: the rules that the writer holds every record to, by the same code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shapestore.quality.check import Batch, Check, Measure, Settings, always


def _measure(batch: Batch, settings: Settings) -> Iterator[Measure]:
    del settings
    values = {name: batch.index[name] if name in batch.index else batch.arrays[name] for name in _read(batch)}
    for rule in batch.schema.rules:
        measured = np.asarray(rule.measure(values), np.float64)
        yield Measure(
            name=f"{rule.name} of {rule.arrays[0]}",
            # A rule that cannot be measured is broken; as a measure, NaN would say that there is nothing to measure.
            values=np.where(np.isnan(measured), np.inf, measured),
            high=rule.limit,
            unit=rule.unit,
            arrays=rule.arrays,
            remedy=rule.remedy,
        )


def _read(batch: Batch) -> set[str]:
    return {name for rule in batch.schema.rules for name in rule.arrays}


CHECK = Check(
    name="schema",
    about="The rules of the schema: finite values, declared codes, unit vectors, labels that agree with signs.",
    severity="error",
    settings=Settings,
    applies=always,
    measure=_measure,
)
