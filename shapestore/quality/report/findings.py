"""Findings of one kind together: thousands of rows that break one bound are one thing to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shapestore.quality.finding import Finding, Severity
from shapestore.quality.result import MeasureResult, Validation


@dataclass(frozen=True)
class Group:
    """Findings of one check about one measure, or about none; the worst first."""

    measure: str
    """Empty where the findings have no number."""
    findings: tuple[Finding, ...]
    measured: MeasureResult | None
    """What is known of all rows; None for what is judged of the store as a whole."""


@dataclass(frozen=True)
class Card:
    """Findings of one check and severity."""

    check: str
    severity: Severity
    groups: tuple[Group, ...]

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do about them, each once."""
        found = (finding.remedy for group in self.groups for finding in group.findings)
        return tuple(dict.fromkeys(remedy for remedy in found if remedy))


def counted(validation: Validation) -> tuple[Finding, ...]:
    """Findings that nobody has waived."""
    return tuple(finding for finding in validation.findings if not finding.waived)


def cards(validation: Validation, findings: Iterable[Finding]) -> tuple[Card, ...]:
    """Findings by check, severity and measure, in the order of the worst of each."""
    measured = {(check.name, measure.name): measure for check in validation.checks for measure in check.measures}
    found: dict[tuple[str, Severity], dict[str, list[Finding]]] = {}
    for finding in findings:
        found.setdefault((finding.check, finding.severity), {}).setdefault(finding.measure, []).append(finding)
    return tuple(
        Card(
            check,
            severity,
            tuple(Group(name, tuple(each), measured.get((check, name))) for name, each in by_measure.items()),
        )
        for (check, severity), by_measure in found.items()
    )
