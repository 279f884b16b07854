from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.integer_values import TOLERANCE, to_integers

STEP = 100_000


def converted(numbers: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> np.ndarray:
    """All of an array, in pieces of `STEP` or fewer."""
    pieces = (numbers[start : start + STEP] for start in range(0, len(numbers), STEP))
    return to_integers(pieces, len(numbers), slope, inter)


INTEGERS = st.sampled_from(["u1", "<i2", ">i2", ">u4", "<i8", ">u8"])


@given(INTEGERS.flatmap(lambda dtype: arrays(dtype, st.integers(1, 20))))
def test_integers_come_back_in_the_smallest_type(numbers: np.ndarray) -> None:
    values = converted(numbers)
    assert values.tolist() == numbers.tolist()
    low, high = int(numbers.min()), int(numbers.max())
    kinds = ["u1", "u2", "u4", "u8"] if low >= 0 else ["i1", "i2", "i4", "i8"]
    fits = [kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
    assert values.dtype == np.dtype(fits[0])


@given(
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=20),
    st.sampled_from([1.0, 0.5, 0.25, 3.0, 1 / 3, 0.1]),
    st.integers(-100, 100),
    st.sampled_from(["<f8", ">f8"]),
)
def test_scaling_is_undone(values: list[int], slope: float, inter: int, dtype: str) -> None:
    stored = ((np.array(values) - inter) / slope).astype(dtype)
    assert converted(stored, slope, float(inter)).tolist() == values


@given(INTEGERS.flatmap(lambda dtype: arrays(dtype, st.integers(1, 20))), st.integers(1, 20))
def test_pieces_do_not_change_the_values(numbers: np.ndarray, step: int) -> None:
    pieces = [numbers[start : start + step] for start in range(0, len(numbers), step)]
    values = to_integers(pieces, len(numbers), 1.0, 0.0)
    whole = converted(numbers)
    assert values.dtype == whole.dtype
    assert values.tolist() == whole.tolist()


@given(st.integers(-1000, 1000), st.floats(-0.5, 0.5))
def test_the_tolerance_is_the_stated_one(whole: int, off: float) -> None:
    numbers = np.array([0.0, whole + off])
    distance = abs(numbers[1] - np.rint(numbers[1]))
    if distance <= TOLERANCE:
        assert converted(numbers)[1] == np.rint(whole + off)
    else:
        with pytest.raises(InputRefused) as refused:
            converted(numbers)
        assert refused.value.reason is Reason.NOT_LABELS


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**53, 3.2])
def test_what_no_label_can_be_is_refused_and_shown(bad: float) -> None:
    numbers = np.zeros(600_000)
    numbers[-1] = bad
    with pytest.raises(InputRefused) as refused:
        converted(numbers)
    assert refused.value.reason is Reason.NOT_LABELS
    assert f"such as {bad:g}" in refused.value.detail


def test_memory_stays_near_the_result() -> None:
    numbers = np.zeros(4_000_000, np.float32)
    numbers[-1] = 300
    tracemalloc.start()
    values = converted(numbers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.dtype == np.uint16
    assert peak < 2 * values.nbytes
