"""Codes of values and of masks, against a voxel-by-voxel reading of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from shapestore.preprocess.geometry.label_codes import codes_of_masks, codes_of_values

SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=4)


@settings(deadline=None)  # the first example of a dtype compiles
@given(
    arrays(st.sampled_from([np.uint8, np.int16, np.uint64]), SHAPES, elements=st.integers(0, 9)),
    st.lists(st.sampled_from([1, 2, 3, 7, 300]), min_size=1, unique=True),
    st.sampled_from("CF"),
)
def test_a_value_has_the_code_of_its_place(voxels: np.ndarray, values: list[int], order: str) -> None:
    known = {0: 0} | {value: code for code, value in enumerate(values, start=1)}
    codes, undeclared = codes_of_values(voxels.copy(order=order), values)
    assert codes.dtype == np.uint8
    assert [known.get(int(v), 0) for v in voxels.ravel()] == codes.ravel().tolist()
    assert undeclared == tuple(sorted({int(v) for v in voxels.ravel()} - known.keys()))


@given(st.data(), SHAPES, st.lists(st.integers(1, 255), min_size=1, max_size=5))
def test_the_lowest_code_keeps_a_voxel(data: st.DataObject, shape: tuple[int, ...], given_codes: list[int]) -> None:
    layers = [(code, data.draw(arrays(np.bool_, shape))) for code in sorted(given_codes)]
    codes, lost = codes_of_masks(iter(layers))
    for index in np.ndindex(*shape):
        assert codes[index] == min((code for code, mask in layers if mask[index]), default=0)
    claimed = {code: [mask & (codes != code) for other, mask in layers if other == code] for code, _ in layers}
    expected = {code: sum(int(part.sum()) for part in parts) for code, parts in claimed.items()}
    assert lost == {code: count for code, count in expected.items() if count}


@pytest.mark.parametrize("codes", [[], [2, 1], [0], [256]])
def test_codes_that_are_none_are_an_error(codes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"codes must ascend|no masks"):
        codes_of_masks((code, np.ones((1, 1, 1), np.bool_)) for code in codes)
