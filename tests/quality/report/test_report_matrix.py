from __future__ import annotations

import numpy as np

from shapestore.quality.finding import Finding
from shapestore.quality.report.matrix import matrix
from shapestore.quality.result import Counts
from shapestore.store.reader import Store
from tests.quality.report.conftest import measure, validation


def test_cells_count_rows_not_findings(meshes: Store) -> None:
    wrong = np.zeros(12)
    wrong[:2] = 1  # both of the first class
    found = validation(meshes, [measure(meshes, wrong, name=name, high=0.5) for name in ("a", "b")])
    made = matrix(found, meshes)
    assert len(found.findings) == 4
    assert [(cell.rows, cell.broken, cell.state) for cell in made.total] == [(12, 2, "error")]
    assert [line.cells[0].broken for line in made.lines] == [2, 0, 0, 0]
    assert [line.cells[0].state for line in made.lines] == ["error", "sound", "sound", "sound"]


def test_the_worst_class_comes_first_and_errors_before_warnings(meshes: Store) -> None:
    categories = np.asarray(meshes.names("category"))[meshes.index("category")[meshes.rows()]]
    names = sorted(set(categories))
    warned = measure(meshes, categories == names[1], name="w", high=0.5, severity="warning")
    broken = np.zeros(12)
    broken[np.flatnonzero(categories == names[2])[0]] = 1
    made = matrix(validation(meshes, [warned, measure(meshes, broken, name="e", high=0.5)]), meshes)
    assert [line.category for line in made.lines] == [names[2], names[1], names[0], names[3]]


def test_a_row_without_a_number_is_not_measured(meshes: Store) -> None:
    values = np.full(12, np.nan)
    values[0] = 0.1
    made = matrix(validation(meshes, [measure(meshes, values, high=0.5)]), meshes)
    assert [(cell.rows, cell.state) for cell in made.total] == [(1, "sound")]


def test_a_check_that_names_rows_without_measuring_them_has_a_column(meshes: Store) -> None:
    row = int(meshes.rows()[0])
    twice = Finding(severity="error", check="duplicates", message="twice", row=row)
    found = validation(meshes, [measure(meshes, np.zeros(12), high=0.5)], [twice])
    duplicates = found.checks[0].model_copy(update={"name": "duplicates", "measures": (), "errors": 1})
    made = matrix(found.model_copy(update={"checks": (*found.checks, duplicates)}), meshes)
    assert made.checks == ("sign-balance", "duplicates")
    assert [(cell.rows, cell.broken) for cell in made.total] == [(12, 0), (12, 1)]


def test_waived_findings_are_counted_and_an_unmeasured_class_says_so(meshes: Store) -> None:
    found = validation(meshes, [measure(meshes, np.zeros(12), high=0.5)])
    only = found.checks[0].measures[0].model_copy(update={"categories": {"new": Counts(rows=3, broken=0)}})
    other = found.checks[0].model_copy(update={"name": "other", "measures": (only,)})
    made = matrix(found.model_copy(update={"checks": (*found.checks, other)}), meshes)
    new = next(line for line in made.lines if line.category == "new")
    assert [cell.state for cell in new.cells] == ["unmeasured", "sound"]
