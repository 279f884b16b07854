from __future__ import annotations

import numpy as np
import pytest

from shapestore.errors import UsageError
from shapestore.evaluate.codes import predicted_codes
from shapestore.evaluate.dense import DenseField


def test_outside_is_no_class_and_inside_that_of_the_largest_logit() -> None:
    sdf = np.float32([[-1, -1, -1], [0, 1, -1e-30]])
    logits = np.float32([[[1, 2, 0], [3, 2, 0], [0, 0, 0]], [[9, 0, 0], [0, 9, 0], [-3, -2, -1]]])
    found = predicted_codes(sdf, logits)
    assert found.dtype == np.int8
    assert found.tolist() == [[2, 1, 1], [0, 0, 3]]
    assert predicted_codes(np.float32([-1, 1]), np.zeros((2, 127), np.float32)).tolist() == [1, 0]


def test_a_distance_that_is_no_number_is_not_silently_outside() -> None:
    sdf, logits = np.full((2, 2, 2), -1, np.float32), np.zeros((2, 2, 2, 3), np.float32)
    sdf[0, 1, 0] = np.nan
    with pytest.raises(UsageError, match="1 of 8 signed distances are NaN"):
        predicted_codes(sdf, logits)
    with pytest.raises(UsageError, match="1 of 8 signed distances are NaN"):
        _ = DenseField(sdf, logits).codes
