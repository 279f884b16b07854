from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shapestore.errors import UsageError
from shapestore.evaluate.baselines import mean_label_map, nearest_case

MAPS = npst.arrays(np.int8, st.tuples(st.integers(1, 7), *[st.just(2)] * 3), elements=st.integers(0, 3))
POINTS = np.random.default_rng(1).normal(size=(200, 3))


@given(MAPS)
def test_a_cell_is_inside_where_most_cases_are_and_of_their_most_frequent_class(maps: np.ndarray) -> None:
    mean = mean_label_map(maps)
    assert (mean.dtype, mean.shape) == (np.int8, maps.shape[1:])
    for cell in np.ndindex(mean.shape):
        codes = maps[(slice(None), *cell)].tolist()
        inside = sorted(code for code in codes if code)
        assert mean[cell] == (Counter(inside).most_common(1)[0][0] if 2 * len(inside) > len(codes) else 0)


@given(MAPS, st.randoms(use_true_random=False))
def test_no_order_of_cases_decides(maps: np.ndarray, random: object) -> None:
    order = list(range(len(maps)))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(mean_label_map(maps[order]), mean_label_map(maps))
    np.testing.assert_array_equal(mean_label_map(np.repeat(maps, 2, axis=0)), mean_label_map(maps))


@given(MAPS)
def test_no_other_constant_guess_is_right_about_inside_in_more_cells(maps: np.ndarray) -> None:
    def right(guess: np.ndarray) -> int:
        return sum(int(((guess > 0) == (truth > 0)).sum()) for truth in maps)

    best = right(mean_label_map(maps))
    assert all(right(guess) <= best for guess in maps)


def test_the_nearest_case_is_the_one_moved_least() -> None:
    cases = [POINTS[: 100 + 10 * case] + np.array([0, 0, shift]) for case, shift in enumerate([0.9, -0.3, 0.5])]
    assert nearest_case(POINTS, cases) == 1
    assert nearest_case(POINTS + np.array([0, 0, 0.8]), cases) == 0
    assert [nearest_case(case[::-1], cases) for case in cases] == [0, 1, 2]
    assert nearest_case(POINTS, [cases[0], cases[1], cases[1]]) == 1


def test_both_directions_count() -> None:
    # All of a part lies on the surface, but half of the surface is far from the part.
    part, whole = POINTS[POINTS[:, 0] < 0], POINTS + np.array([0.01, 0, 0])
    assert nearest_case(POINTS, [part, whole]) == 1


def test_no_training_case_is_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match="at least one training case: look at the store's split"):
        mean_label_map(np.zeros((0, 2, 2, 2), np.int8))
    with pytest.raises(UsageError, match="at least one: look at the store's split"):
        nearest_case(POINTS, [])
    with pytest.raises(UsageError, match=r"from 0 \(outside\) up, got -1"):
        mean_label_map(np.full((1, 2, 2, 2), -1, np.int8))
