"""`Validation`: what a validation found, for people and for programs. Its JSON form is versioned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from shapestore.quality.compare import Comparison
from shapestore.quality.finding import Finding, Severity
from shapestore.quality.moved import Moved
from shapestore.quality.waivers import Waiver
from shapestore.schemas.base import Strict

Level = Literal["metadata", "sample", "full"]

VERSION: Literal[1] = 1
"""Of the JSON form; a field that changes its meaning, or goes, counts it up."""


class RowValue(Strict):
    """One measured row."""

    row: int
    shape_id: str
    value: float


class Counts(Strict):
    """Rows of one category."""

    rows: int
    """Rows that were measured."""
    broken: int
    """Rows that are out of bounds, waived ones included."""


class Distribution(Strict):
    """The numbers of one measure over all checked rows that have one."""

    mean: float
    deviation: float
    """Standard deviation."""
    least: float
    p01: float
    """Quantiles: 1, 50 and 99 in a hundred rows have at most this."""
    median: float
    p99: float
    greatest: float
    histogram: tuple[int, ...]
    """Rows in equal bins from `least` to `greatest`."""


class MeasureResult(Strict):
    """One measure over all checked rows."""

    name: str
    unit: str
    arrays: tuple[str, ...]
    """The arrays that it was measured on."""
    severity: Severity
    low: float | None
    """Least sound number; None: there is no such bound."""
    high: float | None
    """Largest sound number."""
    rows: int
    """Rows that were measured."""
    broken: int
    """Rows that are out of bounds, waived ones included."""
    distribution: Distribution | None
    """None where no row has a number."""
    worst: tuple[RowValue, ...]
    """The rows that are farthest out of bounds; where none is, those that come nearest to one."""
    categories: Mapping[str, Counts]
    """Category to its rows."""


class CheckResult(Strict):
    """One check over the store."""

    name: str
    about: str
    severity: Severity
    gate: bool
    """Whether records that break it are quarantined at ingest."""
    thresholds: Mapping[str, float | int | str]
    """Its thresholds, by name."""
    skipped: str
    """Why it was not run; empty where it was."""
    measures: tuple[MeasureResult, ...]
    errors: int
    """Its findings that are errors, waived ones left out."""
    warnings: int
    """Its findings that are warnings, waived ones left out."""


class Compared(Strict):
    """What changed against another store."""

    outcome: str
    """What the same validation found in the other store, on one line."""
    stores: Comparison
    """What differs: `a` is the other store, `b` the validated one."""
    moved: tuple[Moved, ...]
    """Measures that are distributed otherwise, the widest gap first."""


class Validation(Strict):
    """What a validation found."""

    version: Literal[1] = VERSION
    passed: bool
    """No finding is an error that counts."""
    outcome: str
    """One line on what was found, such as `2 errors, 1 warning`."""
    store: str
    level: Level
    commit: str
    """Identity of the commit that was validated."""
    recipe: str
    """Digest of the recipe."""
    rows: int
    """Valid rows of the store."""
    checked: int
    """Rows that were measured."""
    quarantined: int
    """Empty rows of the store."""
    seconds: float
    guarantee: str
    """What the absence of a finding means."""
    checks: tuple[CheckResult, ...]
    findings: tuple[Finding, ...]
    """Everything that is wrong, the worst first; waived findings last."""
    unused_waivers: tuple[Waiver, ...]
    """Waivers that no finding needs."""
    compared: Compared | None = None
    """What changed against another store, where one was named."""
    unrecorded: str = ""
    """Why the outcome could not be kept in the store; empty where it was."""


def outcome_of(findings: Sequence[Finding]) -> tuple[bool, str]:
    """Whether no finding is an error that counts, and one line on what was found."""
    counted = [finding for finding in findings if not finding.waived]
    errors = sum(finding.severity == "error" for finding in counted)
    parts = (
        (errors, "error"),
        (len(counted) - errors, "warning"),
        (len(findings) - len(counted), "waived finding"),
    )
    said = [f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in parts if count]
    return errors == 0, ", ".join(said) or "nothing wrong"
