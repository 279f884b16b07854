from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shapestore.errors import UsageError
from shapestore.evaluate.metrics.label_overlap import confusion, label_overlap
from shapestore.evaluate.metrics.overlap import iou

CLASSES = 5
CODES = st.integers(0, CLASSES)
SHAPES = npst.array_shapes(min_dims=1, max_dims=3, max_side=5)
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(npst.arrays(np.int8, shape, elements=CODES), npst.arrays(np.int8, shape, elements=CODES))
)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Element by element, as sets."""
    one, other = (set(np.flatnonzero(mask).tolist()) for mask in (first, second))
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


@given(PAIRS)
def test_scores_are_those_of_the_masks_of_each_class(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    scores = label_overlap(prediction, truth, CLASSES)
    assert scores.union_iou == iou(prediction > 0, truth > 0)
    assert scores.union_dice == dice(prediction > 0, truth > 0)
    present = []
    for code in range(1, CLASSES + 1):
        got = scores.class_iou[code - 1], scores.class_dice[code - 1]
        if (truth == code).any():
            assert got == (iou(prediction == code, truth == code), dice(prediction == code, truth == code))
            present.append(got)
        else:
            assert got == (None, None)
    if present:
        assert scores.mean_dice == pytest.approx(sum(found for _, found in present) / len(present))
    else:
        assert scores.mean_dice is None


@given(PAIRS, st.permutations(range(1, CLASSES + 1)))
def test_renaming_the_classes_moves_their_scores(pair: tuple[np.ndarray, np.ndarray], names: list[int]) -> None:
    renamed = np.array([0, *names], np.int8)
    before = label_overlap(*pair, CLASSES)
    after = label_overlap(renamed[pair[0]], renamed[pair[1]], CLASSES)
    assert [after.class_iou[name - 1] for name in names] == list(before.class_iou)
    assert [after.class_dice[name - 1] for name in names] == list(before.class_dice)
    assert (after.union_iou, after.union_dice) == (before.union_iou, before.union_dice)


@given(PAIRS)
def test_counts_agree_with_a_loop_and_swap_with_the_arguments(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    counted = np.zeros((CLASSES + 1, CLASSES + 1), int)
    for place in np.ndindex(truth.shape):
        counted[truth[place], prediction[place]] += 1
    np.testing.assert_array_equal(confusion(prediction, truth, CLASSES), counted)
    np.testing.assert_array_equal(confusion(truth, prediction, CLASSES), counted.T)


def test_a_case_by_hand() -> None:
    truth = np.array([0, 0, 1, 1, 1, 3, 3, 0], np.int8)
    prediction = np.array([0, 2, 1, 1, 3, 3, 0, 0], np.int8)
    scores = label_overlap(prediction, truth, 4)
    assert scores.class_iou == (2 / 3, None, 1 / 3, None)
    assert scores.class_dice == (4 / 5, None, 1 / 2, None)
    assert scores.mean_dice == pytest.approx(13 / 20)
    assert (scores.union_iou, scores.union_dice) == (4 / 6, 8 / 10)


def test_nothing_predicted_of_nothing_is_right_and_has_no_mean() -> None:
    nothing = np.zeros(4, np.int8)
    scores = label_overlap(nothing, nothing, 2)
    assert (scores.union_iou, scores.union_dice) == (1, 1)
    assert scores.class_iou == scores.class_dice == (None, None)
    assert scores.mean_dice is None


def test_codes_beyond_what_an_int8_product_holds() -> None:
    codes = np.arange(128, dtype=np.int8)
    assert label_overlap(codes, codes, 127).class_iou == (1.0,) * 127
    np.testing.assert_array_equal(confusion(codes, codes.astype(np.uint64)[::-1], 127), np.eye(128)[::-1])


def test_what_are_no_codes_is_refused_with_a_remedy() -> None:
    codes = np.array([0, 1, 10], np.int8)
    with pytest.raises(UsageError, match=r"truth holds the codes 0 to 10, but 9 classes .* map the raw values"):
        label_overlap(codes % 2, codes, 9)
    with pytest.raises(UsageError, match="prediction holds the codes -1 to 9"):
        label_overlap((codes - 1).astype(np.int8), codes, 10)
    with pytest.raises(UsageError, match="prediction is float32, not integer class codes"):
        label_overlap(codes.astype(np.float32), codes, 10)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="differ in shape"):
        label_overlap(codes[:2], codes, 10)
    with pytest.raises(UsageError, match="nothing to compare"):
        label_overlap(codes[:0], codes[:0], 10)
