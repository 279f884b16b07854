"""Boxes and voxels of classes, against numpy searches class by class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_volume import label_volume, voxels_by_class

SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=6)
AFFINE = np.array([[-1.2, 0.1, 0, 80], [0, -1.2, 0.3, 40], [0, 0, 2.0, -300], [0, 0, 0, 1]])


@settings(deadline=None)
@given(
    arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 0, 0, 1, 2, 7, 255])).filter(np.any), st.sampled_from("CF")
)
def test_every_class_is_found_where_it_is(codes: np.ndarray, order: str) -> None:
    volume = label_volume(codes.copy(order=order), AFFINE)
    assert volume.codes.flags.c_contiguous
    assert volume.present == tuple(np.unique(codes[codes > 0]).tolist())
    np.testing.assert_array_equal(volume.voxels, np.bincount(codes[codes > 0], minlength=256))
    starts, voxels = voxels_by_class(volume)
    for code in volume.present:
        raw = np.argwhere(codes == code)
        cut = np.argwhere(volume.codes == code)
        np.testing.assert_allclose(
            cut @ volume.affine[:3, :3].T + volume.affine[:3, 3], raw @ AFFINE[:3, :3].T + AFFINE[:3, 3], atol=1e-9
        )
        np.testing.assert_array_equal(volume.low[code], cut.min(axis=0))
        np.testing.assert_array_equal(volume.high[code], cut.max(axis=0) + 1)
        box = volume.codes[volume.box(code)]
        assert (box == code).sum() == len(raw)
        assert not (box[0] == code).any()
        assert not (box[:, :, -1] == code).any()
        np.testing.assert_array_equal(
            voxels[starts[code] : starts[code + 1]], np.flatnonzero(volume.codes.ravel() == code)
        )
    border = volume.codes.copy()
    border[1:-1, 1:-1, 1:-1] = 0
    assert not border.any()
    assert (volume.codes > 0).sum() == (codes > 0).sum()


def test_a_slice_of_another_array_is_read_as_it_is() -> None:
    codes = np.zeros((12, 10, 8), np.uint8)
    codes[3:10:3, 4, ::2] = 3
    parts = codes[::3, 1:, ::2]
    np.testing.assert_array_equal(
        label_volume(parts, AFFINE).codes, label_volume(np.ascontiguousarray(parts), AFFINE).codes
    )


def test_edges_are_the_lengths_of_the_axes() -> None:
    volume = label_volume(np.ones((2, 2, 2), np.uint8), AFFINE)
    np.testing.assert_allclose(volume.edges, [1.2, np.hypot(0.1, 1.2), np.hypot(0.3, 2.0)])


def test_what_is_no_volume_of_classes_is_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        label_volume(np.zeros((3, 3, 3), np.uint8), AFFINE)
    assert refused.value.reason is Reason.EMPTY_LABELS
    with pytest.raises(ValueError, match="uint8"):
        label_volume(np.ones((3, 3), np.uint8), AFFINE)
