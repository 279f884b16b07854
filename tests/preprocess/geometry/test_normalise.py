from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.normalise import Frame, box_frame, mean_frame

FRAMES = [box_frame, mean_frame]
CLOUD = np.random.default_rng(0).normal(size=(500, 3)) * [1, 2, 3]


@st.composite
def clouds(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.integers(2, 20)), 3)
    spread = draw(arrays(np.float64, shape, elements=st.floats(-1, 1, width=32)))
    spread[0], spread[1] = [-1, -1, -1], [1, 1, 1]
    offset = draw(st.sampled_from([0.0, 1.0, 6.65e5, -5.65e6]))
    return np.asarray(spread * draw(st.sampled_from([1e-3, 1.0, 200.0])) + offset)


@pytest.mark.parametrize("make", FRAMES)
@given(cloud=clouds())
def test_points_fill_the_unit_ball_and_come_back(make: object, cloud: np.ndarray) -> None:
    assert callable(make)
    frame = make(cloud)
    normalised = frame.apply(cloud)
    norms = np.linalg.norm(normalised.astype(np.float32).astype(np.float64), axis=1)
    assert norms.max() <= 1 + 1e-6
    assert norms.max() >= 1 - 1e-6
    rounding = 8 * np.spacing(np.abs(cloud).max())
    np.testing.assert_allclose(frame.invert(normalised), cloud, rtol=0, atol=rounding)


@given(cloud=clouds())
def test_frames_centre_what_they_are_named_after(cloud: np.ndarray) -> None:
    boxed = box_frame(cloud).apply(cloud)
    np.testing.assert_allclose(boxed.min(axis=0), -boxed.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(mean_frame(cloud).apply(cloud).mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("make", FRAMES)
def test_normalised_points_do_not_depend_on_place_and_size(make: object) -> None:
    assert callable(make)
    expected = make(CLOUD).apply(CLOUD)
    for scale, offset in [(1e-40, 0.0), (1000.0, 1e6), (1e40, 0.0)]:
        moved = CLOUD * scale + offset
        np.testing.assert_allclose(make(moved).apply(moved), expected, atol=1e-9)


def test_no_digit_is_lost_to_a_far_away_origin() -> None:
    exact = np.round(CLOUD * 1024) / 1024  # still exact after the offset, and so is the centre of the box
    far = exact + 2.0**32
    expected = box_frame(exact).apply(exact)
    np.testing.assert_allclose(box_frame(far).apply(far), expected, rtol=0, atol=1e-14)


def test_the_documented_formula() -> None:
    frame = Frame(np.array([1.0, 2.0, 3.0]), 0.5)
    np.testing.assert_array_equal(frame.apply([[3, 2, 1]]), [[1, 0, -1]])
    np.testing.assert_array_equal(frame.invert([[1, 0, -1]]), [[3, 2, 1]])


def test_the_two_frames_differ_where_the_points_are_uneven() -> None:
    uneven = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [4, 0, 0]])
    np.testing.assert_array_equal(box_frame(uneven).shift, [2, 0, 0])
    np.testing.assert_array_equal(mean_frame(uneven).shift, [1, 0, 0])
    assert (box_frame(uneven).scale, mean_frame(uneven).scale) == (1 / 2, 1 / 3)


@pytest.mark.parametrize(
    ("points", "box", "mean"),
    [
        (np.zeros((0, 3)), Reason.TOO_FEW_POINTS, Reason.TOO_FEW_POINTS),
        (np.full((1, 3), 7.0), Reason.ZERO_AREA, Reason.TOO_FEW_POINTS),
        (np.full((9, 3), 6.65e5 + 0.1), Reason.ZERO_AREA, Reason.TOO_FEW_POINTS),
        (np.array([[0.0, 0, 0], [1e-300, 0, 0]]), Reason.ZERO_AREA, Reason.TOO_FEW_POINTS),
        (np.array([[0.0, 0, 0], [np.nan, 0, 0]]), Reason.NOT_FINITE, Reason.NOT_FINITE),
        (np.array([[0.0, 0, 0], [0, -np.inf, 0]]), Reason.NOT_FINITE, Reason.NOT_FINITE),
        (np.array([[-1.7e308, 0, 0], [1.7e308, 0, 0]]), Reason.NOT_FINITE, Reason.NOT_FINITE),
    ],
)
def test_what_has_no_extent_is_refused(points: np.ndarray, box: Reason, mean: Reason) -> None:
    for make, reason in [(box_frame, box), (mean_frame, mean)]:
        with pytest.raises(InputRefused) as refused:
            make(points)
        assert refused.value.reason is reason
