"""Which shapes to draw: the worst of every check, as different from each other as they can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shapestore.quality.finding import Finding, Severity
from shapestore.quality.report.findings import counted
from shapestore.quality.result import CheckResult, MeasureResult, RowValue, Validation

BROKEN: Final = 4
"""Shapes of a check that found something wrong with more of them."""


@dataclass(frozen=True)
class Reason:
    """Why a shape is to be looked at."""

    check: str
    severity: Severity
    says: str
    """The measure, or the message of a finding that has none."""
    array: str
    """The array that was measured; empty where the finding names none."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class WorstShape:
    """One shape that is to be looked at, with everything it was chosen for."""

    row: int
    shape_id: str
    reasons: tuple[Reason, ...]

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays in question, each once."""
        return tuple(dict.fromkeys(reason.array for reason in self.reasons))


def broken_shapes(validation: Validation) -> tuple[WorstShape, ...]:
    """The shapes that every check found worst, each once, the worst first."""
    units = {(check.name, measure.name): measure.unit for check in validation.checks for measure in check.measures}
    by_check: dict[str, list[Finding]] = {}
    for finding in counted(validation):
        if finding.row is not None:
            by_check.setdefault(finding.check, []).append(finding)
    chosen = {finding.row for findings in by_check.values() for finding in _varied(findings)}
    return _by_row(
        (
            finding.row,
            finding.shape_id,
            Reason(
                check=finding.check,
                severity=finding.severity,
                says=finding.measure if finding.value is not None else finding.message,
                array=finding.place,
                value=finding.value,
                low=finding.low,
                high=finding.high,
                unit=units.get((finding.check, finding.measure), ""),
            ),
        )
        for findings in by_check.values()
        for finding in findings
        if finding.row is not None and finding.row in chosen
    )


def nearest_shapes(validation: Validation) -> tuple[WorstShape, ...]:
    """For every check that found nothing wrong, the shape that comes nearest to a bound."""
    wrong = {finding.check for finding in counted(validation)}
    near = [found for check in validation.checks if check.name not in wrong for found in _nearest(check)]
    return _by_row(near)


def _varied(findings: Iterable[Finding]) -> list[Finding]:
    """The worst of every measure, then the second of every measure, and so on; no shape twice."""
    seen: dict[str, int] = {}
    ranked = []
    for order, finding in enumerate(findings):
        seen[finding.measure] = seen.get(finding.measure, 0) + 1
        ranked.append((seen[finding.measure], order, finding))
    kept: dict[int | None, Finding] = {}
    for _, _, finding in sorted(ranked, key=lambda each: each[:2]):
        kept.setdefault(finding.row, finding)
    return list(kept.values())[:BROKEN]


def _by_row(found: Iterable[tuple[int, str, Reason]]) -> tuple[WorstShape, ...]:
    shapes: dict[int, tuple[str, list[Reason]]] = {}
    for row, shape_id, reason in found:
        shapes.setdefault(row, (shape_id, []))[1].append(reason)
    return tuple(WorstShape(row, shape_id, tuple(reasons)) for row, (shape_id, reasons) in shapes.items())


def _nearest(check: CheckResult) -> list[tuple[int, str, Reason]]:
    """The row nearest to a bound, of the measures whose numbers differ between rows; none where no measure does."""
    spread = [
        each for each in check.measures if each.distribution and each.distribution.least < each.distribution.greatest
    ]
    near = [(_excess(measure, row), measure, row) for measure in spread for row in measure.worst]
    if not near:
        return []
    _, measure, row = max(near, key=lambda each: each[0])
    array = measure.arrays[0] if measure.arrays else ""
    reason = Reason(
        check.name, measure.severity, measure.name, array, row.value, measure.low, measure.high, measure.unit
    )
    return [(row.row, row.shape_id, reason)]


def _excess(measure: MeasureResult, row: RowValue) -> float:
    """How far beyond the nearest bound, relative to the larger bound; negative within."""
    low = [] if measure.low is None else [(measure.low - row.value, abs(measure.low))]
    high = [] if measure.high is None else [(row.value - measure.high, abs(measure.high))]
    return max(beyond for beyond, _ in low + high) / max(*(size for _, size in low + high), 1e-12)
