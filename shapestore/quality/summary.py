"""From measured numbers to findings and to the summary of a check."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shapestore.quality.bounds import bounds_text
from shapestore.quality.check import Check, Measure, Settings, Table
from shapestore.quality.finding import Finding, Severity
from shapestore.quality.measuring import Measured
from shapestore.quality.result import CheckResult, Counts, Distribution, MeasureResult, RowValue
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.store_schema import StoreSchema

BINS: Final = 40
WORST: Final = 12
"""Rows that the summary of a measure names."""

NO_CATEGORY: Final = "(none)"


def table_of(
    check: Check, done: Measured, schema: StoreSchema, recipe: Recipe, index: Mapping[str, NDArray[Any]], valid: int
) -> Table:
    """Everything that one check found, for its judgement over the store; unmeasured rows are left out."""
    kept = ~np.isin(done.rows, np.array(sorted(done.unmeasured.get(check.name, ())), np.int64))
    measured = {
        name: replace(measure, values=measure.values[kept])
        for (owner, name), measure in done.measures.items()
        if owner == check.name
    }
    facts = {name: values for (owner, name), (_, values) in done.facts.items() if owner == check.name}
    about = {name: values[kept] for name, values in index.items()}
    return Table(schema, recipe, done.rows[kept], about, measured, facts, valid)


def row_findings(check: Check, table: Table, store: str) -> Iterator[Finding]:
    """One finding for every row and measure that is out of bounds."""
    shape_ids = table.index["shape_id"]
    for measure in table.measured.values():
        array = measure.arrays[0] if measure.arrays else ""
        expected = f"expected {measure.name} {bounds_text(measure.low, measure.high)}"
        for position in np.flatnonzero(measure.broken).tolist():
            value, shape_id = float(measure.values[position]), str(shape_ids[position])
            yield Finding(
                severity=measure.severity or check.severity,
                check=check.name,
                message=measure.wrong or f"{expected}, got {value:.6g} {measure.unit}".rstrip(),
                place=array,
                row=int(table.rows[position]),
                shape_id=shape_id,
                measure=measure.name,
                value=_finite(value),
                low=_finite(measure.low),
                high=_finite(measure.high),
                remedy=measure.remedy,
                look=look_command(store, shape_id, array if _is_drawn(table.schema, array) else ""),
            )


def store_findings(check: Check, settings: Settings, table: Table, store: str) -> Iterator[Finding]:
    """What a check finds in the store as a whole; what names a shape gets the command that shows it."""
    for finding in check.overall(table, settings) if check.overall is not None else ():
        shown = finding.shape_id and not finding.look
        yield finding.model_copy(update={"look": look_command(store, finding.shape_id, "")}) if shown else finding


def look_command(store: str, shape_id: str, array: str) -> str:
    """The command that shows a shape."""
    words = ["shapestore", "show", store, shape_id, *(["--array", array] if array else []), "--picture", "look.png"]
    return shlex.join(words)


def summarise(
    check: Check, settings: Settings, table: Table | None, findings: Sequence[Finding], skipped: str
) -> CheckResult:
    """The summary of one check; `findings` are all of the validation, `table` is None where the check did not run."""
    own = [finding.severity for finding in findings if finding.check == check.name and not finding.waived]
    thresholds = settings.model_dump(mode="json", exclude={"gate"})
    return CheckResult(
        name=check.name,
        about=check.about,
        severity=check.severity,
        gate=settings.gate,
        thresholds=thresholds,
        skipped=skipped,
        measures=tuple(_measure_result(check, each, table) for each in table.measured.values()) if table else (),
        errors=own.count("error"),
        warnings=own.count("warning"),
    )


def summarise_built_in(name: str, about: str, findings: Sequence[Finding], skipped: str) -> CheckResult:
    """The summary of what is looked at before any check is run."""
    own = [finding.severity for finding in findings if finding.check == name and not finding.waived]
    return CheckResult(
        name=name,
        about=about,
        severity="error",
        gate=False,
        thresholds={},
        skipped=skipped,
        measures=(),
        errors=own.count("error"),
        warnings=own.count("warning"),
    )


def _measure_result(check: Check, measure: Measure, table: Table) -> MeasureResult:
    severity: Severity = measure.severity or check.severity
    has = ~np.isnan(measure.values)
    return MeasureResult(
        name=measure.name,
        unit=measure.unit,
        arrays=measure.arrays,
        severity=severity,
        low=_finite(measure.low),
        high=_finite(measure.high),
        rows=int(has.sum()),
        broken=int(measure.broken.sum()),
        distribution=_distribution(measure.values[np.isfinite(measure.values)]),
        worst=_worst(measure, table),
        categories=_categories(measure, table, has),
    )


def _distribution(values: NDArray[np.float64]) -> Distribution | None:
    if len(values) == 0:
        return None
    p01, median, p99 = np.quantile(values, (0.01, 0.5, 0.99)).tolist()
    counts, _ = np.histogram(values, bins=BINS, range=(values.min(), _above(values.min(), values.max())))
    return Distribution(
        mean=float(values.mean()),
        deviation=float(values.std()),
        least=float(values.min()),
        p01=p01,
        median=median,
        p99=p99,
        greatest=float(values.max()),
        histogram=tuple(counts.tolist()),
    )


def _above(least: float, greatest: float) -> float:
    """The upper end of a histogram: a range of no width, or of a few roundings, cannot be cut into bins."""
    return max(greatest, least + BINS * float(np.spacing(max(abs(least), abs(greatest)))))


def _worst(measure: Measure, table: Table) -> tuple[RowValue, ...]:
    """Rows by their distance beyond the nearest bound, or to it; without a bound there are none."""
    values = np.where(np.isnan(measure.values), 0.0, measure.values)
    beyond = np.maximum(
        np.full(len(values), -np.inf) if math.isinf(measure.low) else measure.low - values,
        np.full(len(values), -np.inf) if math.isinf(measure.high) else values - measure.high,
    )
    beyond[~np.isfinite(measure.values)] = -np.inf
    order = np.argsort(-beyond, kind="stable")[:WORST]
    return tuple(
        RowValue(row=int(table.rows[i]), shape_id=str(table.index["shape_id"][i]), value=float(measure.values[i]))
        for i in order.tolist()
        if beyond[i] > -np.inf
    )


def _categories(measure: Measure, table: Table, has: NDArray[np.bool_]) -> dict[str, Counts]:
    names, inverse = np.unique(table.index["category"].astype(str), return_inverse=True)
    rows = np.bincount(inverse, weights=has, minlength=len(names))
    broken = np.bincount(inverse, weights=measure.broken, minlength=len(names))
    return {
        name or NO_CATEGORY: Counts(rows=int(rows[i]), broken=int(broken[i]))
        for i, name in enumerate(names.tolist())
        if rows[i]
    }


def _is_drawn(schema: StoreSchema, array: str) -> bool:
    return array in {spec.name for spec in schema.data_arrays}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
