"""The matrix of categories and checks: in which classes what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final, Literal

from shapestore.quality.finding import Severity
from shapestore.quality.result import CheckResult, Validation
from shapestore.quality.summary import NO_CATEGORY
from shapestore.store.reader import Store

State = Literal["sound", "error", "warning", "unmeasured"]

WORST_FIRST: Final[tuple[State, ...]] = ("error", "warning", "sound", "unmeasured")


@dataclass(frozen=True)
class Cell:
    """Rows of one category under one check."""

    rows: int
    """Rows that the check looked at."""
    broken: int
    """Rows that it found something wrong with, waived findings included."""
    state: State

    @property
    def share(self) -> float:
        """How many of the rows are broken."""
        return self.broken / max(self.rows, 1)


@dataclass(frozen=True)
class Line:
    """One category."""

    category: str
    cells: tuple[Cell, ...]
    """One a check."""


@dataclass(frozen=True)
class Matrix:
    """Categories by checks."""

    checks: tuple[str, ...]
    """Checks that measured a row, or found something wrong with one."""
    total: tuple[Cell, ...]
    """All categories together, a cell a check."""
    lines: tuple[Line, ...]
    """Categories, the worst first."""


def matrix(validation: Validation, store: Store) -> Matrix:
    """Count the rows of every category that each check measured, and those that it found wrong.

    A check that judges rows without a number for each, such as one that looks for duplicates, is taken to have looked
    at every row that any check measured.
    """
    broken, severities = _broken(validation, store)
    measured = {check.name: _measured(check) for check in validation.checks}
    checked: Counter[str] = reduce(or_, measured.values(), Counter())
    named = {check for check, _ in broken}
    checks = tuple(name for name, rows in measured.items() if rows or name in named)
    categories = checked.keys() | {category for _, category in broken}
    lines = sorted(
        (
            Line(
                category,
                tuple(
                    _cell(
                        (measured[check] or checked)[category],
                        len(broken[check, category]),
                        severities[check, category],
                    )
                    for check in checks
                ),
            )
            for category in categories
        ),
        key=_worst_first,
    )
    columns = zip(*(line.cells for line in lines), strict=True)
    return Matrix(checks, tuple(_sum(column) for column in columns), tuple(lines))


def _measured(check: CheckResult) -> Counter[str]:
    """Rows of every category that some measure has a number for."""
    rows = [Counter({name: counts.rows for name, counts in each.categories.items()}) for each in check.measures]
    return reduce(or_, rows, Counter())


def _broken(
    validation: Validation, store: Store
) -> tuple[Mapping[tuple[str, str], set[int]], Mapping[tuple[str, str], set[Severity]]]:
    """Rows with findings, and how severe those are, by check and category; each row counts once a check."""
    rows: dict[tuple[str, str], set[int]] = defaultdict(set)
    severities: dict[tuple[str, str], set[Severity]] = defaultdict(set)
    category_of = [*store.names("category"), NO_CATEGORY]  # -1 is the last: no category
    for finding in validation.findings:
        if finding.row is not None:
            key = finding.check, category_of[store.index("category")[finding.row]]
            rows[key].add(finding.row)
            severities[key].add(finding.severity)
    return rows, severities


def _cell(rows: int, broken: int, severities: set[Severity]) -> Cell:
    state: State = "sound" if rows else "unmeasured"
    if severities:
        state = "error" if "error" in severities else "warning"
    return Cell(max(rows, broken), broken, state)  # a damaged row is found wrong and not measured


def _sum(cells: Sequence[Cell]) -> Cell:
    """All categories together."""
    return Cell(sum(cell.rows for cell in cells), sum(cell.broken for cell in cells), min(cells, key=_rank).state)


def _worst_first(line: Line) -> tuple[int, float, str]:
    """By the worst state of a line, then by the largest share of broken rows in that state, then by name."""
    rank = min(map(_rank, line.cells))
    return rank, -max(cell.share for cell in line.cells if _rank(cell) == rank), line.category


def _rank(cell: Cell) -> int:
    return WORST_FIRST.index(cell.state)
