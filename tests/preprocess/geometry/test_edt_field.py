"""The voxel definition of caches, against a direct reading of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, map_coordinates

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.edt_field import EdtField
from shapestore.preprocess.geometry.normalise import Frame

FRAME = Frame(np.array([3.0, -2.0, 5.0]), 0.1)


def defined(codes: np.ndarray, index: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Union distance and label at voxel indices within the map: every class by scipy over the whole map."""
    classes = [code for code in range(1, 128) if (codes == code).any()]
    fields = [
        distance_transform_edt(codes != code, sampling=edges) - distance_transform_edt(codes == code, sampling=edges)
        for code in classes
    ]
    values = np.array([map_coordinates(field, index.T, order=1) for field in fields])
    return values.min(axis=0), np.where(values.min(axis=0) < 0, np.array(classes)[values.argmin(axis=0)], 0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    edges=st.sampled_from([(1.0, 1.0, 1.0), (1.25, 1.25, 2.7)]),
    share=st.floats(0.02, 0.6),
)
def test_it_is_the_definition(seed: int, edges: tuple[float, float, float], share: float) -> None:
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((7, 6, 9)) < share, rng.integers(1, 4, (7, 6, 9)), 0).astype(np.uint8)
    codes[3, 3, 3], codes[0, 0, 0] = 2, 0
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = [-4, 7, 1]
    index = rng.uniform(0, np.array(codes.shape) - 1, (200, 3))
    field = EdtField(codes, affine, FRAME)
    value = field.signed(FRAME.apply(index * edges + affine[:3, 3]))
    expected, labels = defined(codes, index, np.array(edges))
    np.testing.assert_allclose(value.sdf, expected * FRAME.scale, atol=1e-6)
    clear = np.abs(expected) > 1e-5
    unique = value.labels == labels
    assert unique[clear].mean() > 0.95  # but for classes at one distance, up to rounding
    np.testing.assert_array_equal(value.labels > 0, value.sdf < 0)


def test_no_voxel_centre_is_within_one_voxel_of_the_surface() -> None:
    codes = np.zeros((21, 21, 21), np.uint8)
    index = np.argwhere(codes == 0)
    codes[tuple(index[np.linalg.norm(index - 10, axis=1) <= 6.3].T)] = 1
    frame = Frame(np.full(3, 10.0), 0.1)
    sdf = EdtField(codes, np.eye(4), frame).signed(frame.apply(index)).sdf / 0.1
    assert np.abs(sdf).min() >= 1 - 1e-6
    np.testing.assert_array_equal(sdf < 0, codes.ravel() == 1)


def test_beyond_the_map_the_last_step_goes_on() -> None:
    codes = np.zeros((9, 5, 5), np.uint8)
    codes[2, 2, 2] = 1
    frame = Frame(np.zeros(3), 1.0)
    outside = np.array([[8.0, 2, 2], [11.5, 2, 2]])
    np.testing.assert_allclose(EdtField(codes, np.eye(4), frame).signed(outside).sdf, [6.0, 9.5], rtol=1e-6)


def test_requests_that_have_no_answer_are_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        EdtField(np.ones((3, 3, 3), np.uint8), np.eye(4), FRAME)
    assert refused.value.reason is Reason.NOT_CLOSED
    codes = np.zeros((3, 3, 3), np.uint8)
    codes[1, 1, 1] = 128
    with pytest.raises(ValueError, match="127"):
        EdtField(codes, np.eye(4), FRAME)
    codes[1, 1, 1] = 1
    with pytest.raises(InputRefused) as refused:
        EdtField(codes, np.eye(4), FRAME).labels([[np.inf, 0, 0]])
    assert refused.value.reason is Reason.NOT_FINITE
