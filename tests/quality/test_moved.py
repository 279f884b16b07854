"""Moved: distributions that differ are told with how far; those of like stores are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, ks_2samp

from shapestore.quality.check import Measure, Table
from shapestore.quality.moved import CHANCE, cliffs_delta, moved
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of

RECIPE = load_recipe("points")
ROWS = 460
"""Of a default sample."""

numbers = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


def tables(**measures: np.ndarray) -> dict[str, Table]:
    """What a check `check` measured."""
    rows = np.arange(max(map(len, measures.values())))
    measured = {name: Measure(name, np.asarray(values)) for name, values in measures.items()}
    return {"check": Table(schema_of(RECIPE), RECIPE, rows, {}, measured)}


def draw(seed: int, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


@given(numbers, numbers)
def test_cliffs_delta_counts_pairs(one: list[float], two: list[float]) -> None:
    pairs = [np.sign(x - y) for x in one for y in two]
    assert cliffs_delta(np.sort(one), np.sort(two)) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_one_comparison_of_like_stores_in_a_hundred_tells_anything() -> None:
    false = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        one, two = (tables(**{f"m{i}": rng.normal(size=ROWS) for i in range(20)}) for _ in range(2))
        false += bool(moved(one, two))
    assert false <= binom.ppf(0.999, 100, CHANCE)


@pytest.mark.parametrize("by", [0.5, -0.5])
def test_a_moved_measure_is_told_with_its_direction(by: float) -> None:
    one, two = draw(0), draw(1) + by
    (told,) = moved(tables(a=one, still=draw(2)), tables(a=two, still=draw(3)))
    assert (told.check, told.measure, told.rows, told.other_rows) == ("check", "a", ROWS, ROWS)
    assert told.gap == pytest.approx(ks_2samp(one, two).statistic)
    assert (told.median, told.other_median) == (np.median(one), np.median(two))
    assert np.sign(told.effect) == -np.sign(by)


def test_a_wider_spread_is_told_with_no_direction() -> None:
    (told,) = moved(tables(a=draw(0)), tables(a=3 * draw(1)))
    assert abs(told.effect) < 0.1


def test_the_widest_gap_comes_first() -> None:
    other = tables(a=draw(2) + 0.5, b=draw(3) + 2)
    assert [each.measure for each in moved(tables(a=draw(0), b=draw(1)), other)] == ["b", "a"]


def test_a_sure_but_tiny_gap_is_not_told() -> None:
    one, two = draw(0, 50_000), draw(1, 50_000) + 0.1
    assert ks_2samp(one, two, method="asymp").pvalue < 1e-20
    assert moved(tables(a=one), tables(a=two)) == ()


def test_rows_without_a_number_do_not_count() -> None:
    one, two = draw(0), draw(1) + 1
    (told,) = moved(tables(a=np.append(one, [np.nan] * 9)), tables(a=two))
    assert (told.rows, told.gap) == (ROWS, pytest.approx(ks_2samp(one, two).statistic))
    assert moved(tables(a=np.full(5, np.nan)), tables(a=two)) == ()


def test_what_only_one_store_was_measured_for_is_left_out() -> None:
    assert moved(tables(a=draw(0)), tables(b=draw(1) + 5)) == ()
    assert moved(tables(a=draw(0)), {}) == ()
