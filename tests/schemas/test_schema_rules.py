"""Every rule against a loop over single values, written from the rule's sentence alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shapestore.schemas import rules
from shapestore.schemas.rules import Rule

Rows = dict[str, NDArray[Any]]
Naive = Callable[[Rows, int], bool]
"""Whether row `i` keeps the rule."""


def filled(rows: Rows, i: int, size: int) -> Iterator[int]:
    """Entries of row `i` that its count says are filled."""
    count = int(rows["count"][i]) if "count" in rows else size
    return iter(range(min(size, max(0, count))))


def finite_naive(rows: Rows, i: int) -> bool:
    return all(math.isfinite(value) for j in filled(rows, i, rows["v"].shape[1]) for value in rows["v"][i, j])


def cube_naive(rows: Rows, i: int) -> bool:
    return all(abs(float(v)) <= 1 + 1e-6 for j in filled(rows, i, rows["v"].shape[1]) for v in rows["v"][i, j])


def unit_naive(rows: Rows, i: int) -> bool:
    chosen = [j for j in filled(rows, i, rows["v"].shape[1]) if "hit" not in rows or rows["hit"][i, j] != 0]
    return all(abs(math.sqrt(sum(float(x) ** 2 for x in rows["v"][i, j])) - 1) <= 1e-5 for j in chosen)


def order_naive(rows: Rows, i: int) -> bool:
    order = rows["v"][i].tolist()
    return len(set(order)) == len(order) and set(order) <= set(range(6))


def non_negative_naive(rows: Rows, i: int) -> bool:
    return not any(rows["v"][i, j] < 0 for j in filled(rows, i, rows["v"].shape[1]))


def depth_naive(rows: Rows, i: int) -> bool:
    return all(
        math.isfinite(t) and t >= 0
        for hit, t in zip(rows["hit"][i].tolist(), rows["v"][i].tolist(), strict=True)
        if hit
    )


def labelled_naive(rows: Rows, i: int) -> bool:
    size = rows["v"].shape[1]
    return all((rows["v"][i, j] > 0) == (rows["sdf"][i, j] < 0) for j in filled(rows, i, size))


def codes_naive(rows: Rows, i: int) -> bool:
    return all(int(rows["v"][i, j]) in (-1, 0, 2) for j in filled(rows, i, rows["v"].shape[1]))


def count_naive(rows: Rows, i: int) -> bool:
    return 0 <= int(rows["v"][i]) <= 4


def share_naive(rows: Rows, i: int) -> bool:
    return 0 <= float(rows["v"][i]) <= 1


def sign_only_naive(rows: Rows, i: int) -> bool:
    pairs = zip(rows["v"][i].tolist(), rows["distance"][i].tolist(), strict=True)
    return all(value in (distance, -distance) and distance >= 0 for value, distance in pairs)


def floats(*shape: int) -> st.SearchStrategy[NDArray[Any]]:
    """Float32 around the limits of the rules, with what must not occur."""
    near_one = [1.0, -1.0, 1 + 2**-23, 1 + 2**-20, 1 + 2**-19, -1 - 2**-18, 0.999995, 1.00002]
    special = st.sampled_from([*near_one, 0.0, -0.0, math.nan, math.inf, -math.inf, 0.6, 0.8, 1e-40, 3.4e38])
    return hnp.arrays(np.float32, shape, elements=special | st.floats(-1.5, 1.5, width=32), fill=st.just(0.5))


def ints(dtype: type, *shape: int, low: int = -3, high: int = 8) -> st.SearchStrategy[NDArray[Any]]:
    """Small integers, with the ends of the type."""
    info = np.iinfo(dtype)
    return hnp.arrays(dtype, shape, elements=st.integers(low, high) | st.sampled_from([info.min, info.max]))


def unit_or_not(n: int) -> st.SearchStrategy[NDArray[Any]]:
    """Vectors of length about 1, some of them a little too long or short."""

    def scale(parts: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[Any]:
        axes, stretch = parts
        vectors: NDArray[Any] = (np.eye(3)[axes] * stretch[..., None]).astype(np.float32)
        return vectors

    stretch = hnp.arrays(np.float64, (n, 4), elements=st.sampled_from([1.0, -1.0, 1.000009, 1.000011, 0.99998, 0.0]))
    return st.tuples(hnp.arrays(np.int64, (n, 4), elements=st.integers(0, 2)), stretch).map(scale)


@dataclass(frozen=True)
class Case:
    """A rule, what it must mean, rows to try it on, and a row that breaks it."""

    rule: Rule
    naive: Naive
    rows: Callable[[int], dict[str, st.SearchStrategy[NDArray[Any]]]]
    bad: Rows


NAN = np.full((1, 4, 3), np.nan, np.float32)
CASES = {
    "finite": Case(rules.finite("v"), finite_naive, lambda n: {"v": floats(n, 4, 3)}, {"v": NAN}),
    "finite-counted": Case(
        rules.finite("v", "count"),
        finite_naive,
        lambda n: {"v": floats(n, 4, 3), "count": ints(np.int32, n)},
        {"v": NAN, "count": np.array([1], np.int32)},
    ),
    "within-cube": Case(rules.within_cube("v"), cube_naive, lambda n: {"v": floats(n, 4, 3)}, {"v": NAN}),
    "within-cube-counted": Case(
        rules.within_cube("v", "count"),
        cube_naive,
        lambda n: {"v": floats(n, 4, 3), "count": ints(np.int32, n)},
        {"v": np.full((1, 4, 3), 1.1, np.float32), "count": np.array([2], np.int32)},
    ),
    "unit-vectors": Case(rules.unit_vectors("v"), unit_naive, lambda n: {"v": unit_or_not(n)}, {"v": NAN}),
    "unit-vectors-any": Case(
        rules.unit_vectors("v"), unit_naive, lambda n: {"v": floats(n, 4, 3)}, {"v": np.zeros((1, 4, 3), np.float32)}
    ),
    "unit-vectors-where": Case(
        rules.unit_vectors("v", where="hit"),
        unit_naive,
        lambda n: {"v": unit_or_not(n), "hit": ints(np.uint8, n, 4, low=0, high=1)},
        {"v": np.zeros((1, 4, 3), np.float32), "hit": np.array([[0, 0, 1, 0]], np.uint8)},
    ),
    "unit-vectors-counted": Case(
        rules.unit_vectors("v", "count"),
        unit_naive,
        lambda n: {"v": unit_or_not(n), "count": ints(np.int32, n)},
        {"v": np.zeros((1, 4, 3), np.float32), "count": np.array([1], np.int32)},
    ),
    "order-prefix": Case(
        rules.order_prefix("v", 6, "pool"),
        order_naive,
        lambda n: {"v": ints(np.int32, n, 3, low=0, high=6)},
        {"v": np.array([[1, 2, 1]], np.int32)},
    ),
    "non-negative": Case(
        rules.non_negative("v"),
        non_negative_naive,
        lambda n: {"v": floats(n, 4)},
        {"v": np.array([[0, -1e-30, 0, 0]], np.float32)},
    ),
    "non-negative-counted": Case(
        rules.non_negative("v", "count"),
        non_negative_naive,
        lambda n: {"v": ints(np.int32, n, 4), "count": ints(np.int32, n)},
        {"v": np.array([[-1, 0, 0, 0]], np.int32), "count": np.array([1], np.int32)},
    ),
    "hit-has-depth": Case(
        rules.hit_has_depth("hit", "v"),
        depth_naive,
        lambda n: {"v": floats(n, 4), "hit": ints(np.uint8, n, 4, low=0, high=1)},
        {"v": np.array([[0, np.nan, 0, 0]], np.float32), "hit": np.array([[0, 1, 0, 0]], np.uint8)},
    ),
    "labelled-where-inside": Case(
        rules.labelled_where_inside("v", "sdf"),
        labelled_naive,
        lambda n: {"v": ints(np.int8, n, 4, low=-1, high=2), "sdf": floats(n, 4)},
        {"v": np.array([[1, 0, 0, 0]], np.int8), "sdf": np.zeros((1, 4), np.float32)},
    ),
    "labelled-where-inside-counted": Case(
        rules.labelled_where_inside("v", "sdf", "count"),
        labelled_naive,
        lambda n: {"v": ints(np.int8, n, 4, low=-1, high=2), "sdf": floats(n, 4), "count": ints(np.int32, n)},
        {
            "v": np.array([[0, 0, 0, 0]], np.int8),
            "sdf": np.full((1, 4), -1, np.float32),
            "count": np.array([1], np.int32),
        },
    ),
    "declared-codes": Case(
        rules.declared_codes("v", (2, -1, 0)),
        codes_naive,
        lambda n: {"v": ints(np.int8, n, 4)},
        {"v": np.array([[0, 0, 1, 0]], np.int8)},
    ),
    "declared-codes-counted": Case(
        rules.declared_codes("v", (2, -1, 0), "count"),
        codes_naive,
        lambda n: {"v": ints(np.int8, n, 4), "count": ints(np.int32, n)},
        {"v": np.array([[1, 0, 1, 0]], np.int8), "count": np.array([1], np.int32)},
    ),
    "share": Case(rules.share("v"), share_naive, lambda n: {"v": floats(n)}, {"v": np.array([1.0000001], np.float32)}),
    "differs-in-sign-only": Case(
        rules.differs_in_sign_only("v", "distance"),
        sign_only_naive,
        lambda n: {
            "v": hnp.arrays(np.float32, (n, 4), elements=st.sampled_from([0.5, -0.5, 0.0, -0.0, 0.25, math.nan])),
            "distance": hnp.arrays(np.float32, (n, 4), elements=st.sampled_from([0.5, 0.0, 0.25, math.nan])),
        },
        {"v": np.array([[0, -2, 1, 0]], np.float32), "distance": np.array([[0, 2, 1.5, 0]], np.float32)},
    ),
    "count-within": Case(
        rules.count_within("v", 4), count_naive, lambda n: {"v": ints(np.int32, n)}, {"v": np.array([5], np.int32)}
    ),
}

by_name = pytest.mark.parametrize("name", CASES)


@by_name
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rule_agrees_with_a_loop_over_values(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    n = data.draw(st.integers(1, 3))
    rows = {array: data.draw(values) for array, values in case.rows(n).items()}
    broken = [not case.naive(rows, i) for i in range(n)]
    assert case.rule.broken(case.rule.measure(rows)).tolist() == broken
    places = [f"row {i}" for i in range(n)]
    blamed = [problem.place for problem in case.rule.problems(rows, places)]
    assert blamed == [f"row {i}/{case.rule.arrays[0]}" for i in range(n) if broken[i]]


@by_name
def test_rule_holds_for_no_rows(name: str) -> None:
    case = CASES[name]
    none = {array: values[:0] for array, values in case.bad.items()}
    assert case.rule.problems(none, []) == []


@by_name
def test_rule_names_the_arrays_that_it_reads(name: str) -> None:
    rule, read = CASES[name].rule, set()

    class Watched(dict[str, NDArray[Any]]):
        def __getitem__(self, key: str) -> NDArray[Any]:
            read.add(key)
            return super().__getitem__(key)

    rule.measure(Watched(CASES[name].bad))
    assert read == set(rule.arrays)


@by_name
def test_problem_says_where_what_and_what_to_do(name: str) -> None:
    case = CASES[name]
    (problem,) = case.rule.problems(case.bad, ["shape-1"])
    assert problem.place == "shape-1/v"
    assert problem.expected.startswith(case.rule.expected)
    assert f"[{name.removesuffix('-counted').removesuffix('-where').removesuffix('-any')}]" in problem.expected
    assert problem.got.endswith(case.rule.unit)
    assert problem.remedy
    assert str(problem) == f"{problem.place}: expected {problem.expected}, got {problem.got}. {problem.remedy}"


@pytest.mark.parametrize("excess", [1.1e-6, 2e-6, 1e-5, 0.5])
def test_reported_number_is_itself_outside_the_limit(excess: float) -> None:
    rule = rules.within_cube("v")
    rows = {"v": np.full((1, 1, 3), 1 + excess, np.float32)}
    (problem,) = rule.problems(rows, ["row"])
    assert float(problem.got.split()[0]) > rule.limit, f"'{problem}' contradicts itself"


def test_entries_past_the_count_are_ignored() -> None:
    rows = {"v": np.array([[[0, 0, 0], [9, np.nan, np.inf]]], np.float32), "count": np.array([1], np.int32)}
    for rule in (rules.finite("v", "count"), rules.within_cube("v", "count")):
        assert rule.problems(rows, ["row"]) == []
        assert len(rule.problems(rows | {"count": np.array([2], np.int32)}, ["row"])) == 1


def test_places_must_name_every_row() -> None:
    with pytest.raises(ValueError, match="zip"):
        rules.finite("v").problems({"v": np.full((2, 1, 1), np.nan)}, ["only one"])


def test_a_long_list_of_codes_is_shortened() -> None:
    assert rules.declared_codes("v", range(12)).expected.count(",") == 11
    assert re.search(r"\{0, 1, \.\.\., 12\}", rules.declared_codes("v", range(13)).expected)
