from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial import distance

from shapestore.errors import UsageError
from shapestore.evaluate.metrics.overlap import inside, iou

PAIRS = npst.array_shapes(min_dims=1, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(npst.arrays(np.bool_, shape), npst.arrays(np.bool_, shape))
)
GRID = (np.arange(96) + 0.5) / 48 - 1


def ball(radius: float, x: float) -> np.ndarray:
    across, up, along = np.meshgrid(GRID, GRID, GRID, indexing="ij", sparse=True)
    return inside(np.sqrt((across - x) ** 2 + up**2 + along**2) - radius)


@given(PAIRS)
def test_it_agrees_with_a_count_element_by_element(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = (set(np.flatnonzero(mask).tolist()) for mask in pair)
    if first or second:
        assert iou(*pair) == len(first & second) / len(first | second)
        assert iou(*pair) == pytest.approx(1 - distance.jaccard(pair[0].ravel(), pair[1].ravel()))
    else:
        assert iou(*pair) == 1


@given(PAIRS)
def test_its_laws(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = pair
    value = iou(first, second)
    assert type(value) is float
    assert 0 <= value <= 1
    assert value == iou(second, first)
    assert (value == 1) == bool((first == second).all())
    assert (value == 0) == bool((first | second).any() and not (first & second).any())
    assert value == iou(first.T, second.T) == iou(first[::-1], second[::-1])


@pytest.mark.parametrize("shift", range(9))
def test_shifted_cubes(shift: int) -> None:
    first, second = np.zeros((2, 16, 8, 8), bool)
    first[:8, 1:7, 2:8] = True
    second[shift : shift + 8, 1:7, 2:8] = True
    assert iou(first, second) == (8 - shift) / (8 + shift)


@pytest.mark.parametrize("gap", [0.1, 0.4, 0.7])
def test_shifted_balls(gap: float) -> None:
    radius = 0.6
    # The lens that two balls of one radius share.
    lens = np.pi * (4 * radius + gap) * (2 * radius - gap) ** 2 / 12
    volume = 4 / 3 * np.pi * radius**3
    first, second = ball(radius, -gap / 2), ball(radius, gap / 2)
    assert iou(first, second) == pytest.approx(lens / (2 * volume - lens), abs=2e-3)


def test_the_inside_overlap_is_not_that_of_the_outside() -> None:
    # A small ball in a large cube: the outside, which the sources measured for a while, is nearly all shared.
    first, second = ball(0.2, -0.3), ball(0.2, 0.3)
    assert iou(first, second) == 0
    assert iou(~first, ~second) > 0.98


def test_the_surface_is_outside() -> None:
    assert inside(np.array([-np.inf, -1e-30, -0.0, 0.0, 1e-30, np.inf])).tolist() == [True, True, *[False] * 4]
    assert inside(np.float32([[-1], [1]])).shape == (2, 1)


def test_what_cannot_be_compared_is_refused_with_a_remedy() -> None:
    mask = np.ones((2, 3), bool)
    with pytest.raises(UsageError, match=r"\(2, 3\) and truth \(3, 2\).*same queries"):
        iou(mask, mask.T)
    with pytest.raises(UsageError, match=r"shape \(0, 3\).*at least one query"):
        iou(mask[:0], mask[:0])
    with pytest.raises(UsageError, match=r"truth is float64, not bool: pass inside\(sdf\)"):
        iou(mask, np.ones((2, 3)))
    with pytest.raises(UsageError, match="2 of 3 signed distances are NaN"):
        inside(np.array([np.nan, -1, np.nan]))
