from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_fields import SEVERAL
from shapestore.preprocess.geometry.label_samples import class_quotas, surface_samples, volume_samples
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume

AFFINE = np.array([[-1.2, 0, 0, 80], [0, -1.2, 0, 40], [0, 0, 2.0, -300], [0, 0, 0, 1]])


def phantom() -> np.ndarray:
    """A shell (1) around a core (2), a neighbour that shares a wall (3), and a thin vessel (5)."""
    codes = np.zeros((44, 44, 30), np.uint8)
    index = np.moveaxis(np.indices(codes.shape), 0, -1) * [1.2, 1.2, 2.0]
    codes[np.linalg.norm(index - [24, 26, 28], axis=-1) <= 17] = 1
    codes[np.linalg.norm(index - [24, 26, 28], axis=-1) <= 11] = 2
    codes[(np.linalg.norm(index - [42, 26, 28], axis=-1) <= 9) & (codes == 0)] = 3
    codes[4, 4, 3:28] = codes[5, 4, 3:28] = codes[4, 5, 3:28] = 5
    return codes


CODES = phantom()
VOLUME = label_volume(CODES, AFFINE)
SURFACES = class_surfaces(VOLUME)
FRAME = SURFACES.frame()
FIELD = LabelField(SURFACES, FRAME)
ALL_UNCLEAR = np.full_like(SURFACES.owners, SEVERAL)
"""Owners that tell nothing, so that every position is decided by the surfaces."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    weights=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=12),
    extra=st.integers(0, 5000),
    minimum=st.integers(0, 50),
)
def test_quotas_add_up_and_stay_within_one_of_the_share(weights: list[float], extra: int, minimum: int) -> None:
    count = minimum * len(weights) + extra
    quotas = class_quotas(weights, count, minimum)
    assert quotas.sum() == count
    exact = minimum + extra * np.array(weights) / sum(weights)
    assert (np.abs(quotas - exact) < 1 + 1e-6).all()


def test_minima_beyond_the_count_are_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        class_quotas([1.0, 2.0, 3.0], 299, 100)
    assert refused.value.reason is Reason.OVER_CAPACITY


def test_surface_points_lie_on_their_class_and_normals_leave_it() -> None:
    drawn = surface_samples(SURFACES.classes, FRAME, 3001, 200, rng())
    assert drawn.points.shape == drawn.normals.shape == (3001, 3)
    assert [array.dtype.str for array in drawn] == ["<f4", "|i1", "<f4"]
    assert np.abs(drawn.points).max() <= 1
    np.testing.assert_allclose(np.linalg.norm(drawn.normals, axis=1), 1, atol=1e-6)
    for surface in SURFACES.classes:
        own = drawn.labels == surface.code
        alone = LabelField(replace(SURFACES, classes=(surface,), owners=ALL_UNCLEAR), FRAME)
        step = 0.002
        assert np.abs(alone.signed(drawn.points[own]).sdf).max() < 1e-6
        assert (alone.signed(drawn.points[own] + step * drawn.normals[own]).sdf > 0).mean() > 0.98
        assert (alone.signed(drawn.points[own] - step * drawn.normals[own]).sdf < 0).mean() > 0.98


def test_any_slice_of_the_surface_is_unbiased() -> None:
    drawn = surface_samples(SURFACES.classes, FRAME, 6000, 300, rng())
    for part in np.split(drawn.labels, 6):
        counts = np.bincount(part, minlength=6) / 1000
        np.testing.assert_allclose(counts, np.bincount(drawn.labels, minlength=6) / 6000, atol=0.06)


def test_surface_points_are_shared_out_by_minimum_and_area() -> None:
    def area(vertices: np.ndarray, faces: np.ndarray) -> float:
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        return float(np.sqrt((np.cross(b - a, c - a) ** 2).sum(axis=1)).sum())

    areas = np.array([area(surface.mesh.vertices, surface.mesh.faces) for surface in SURFACES.classes])
    drawn = surface_samples(SURFACES.classes, FRAME, 5000, 300, rng())
    counts = np.array([(drawn.labels == surface.code).sum() for surface in SURFACES.classes])
    assert np.abs(counts - (300 + 3800 * areas / areas.sum())).max() < 1


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_volume_samples_keep_the_declared_balance(ratio: float) -> None:
    minimum = 50 if ratio > 0 else 0
    drawn = volume_samples(VOLUME, FRAME, FIELD, 2003, ratio, minimum, rng())
    assert (drawn.sdf < 0).sum() == round(ratio * 2003)
    assert np.abs(drawn.points).max() <= 1
    value = FIELD.signed(drawn.points)
    np.testing.assert_array_equal(value.sdf, drawn.sdf)
    np.testing.assert_array_equal(value.labels, drawn.labels)
    if ratio > 0:
        voxels = np.array([np.count_nonzero(code == CODES) for code in FIELD.codes])
        counts = np.array([(drawn.labels == code).sum() for code in FIELD.codes])
        expected = 50 + (round(ratio * 2003) - 200) * voxels / voxels.sum()
        assert np.abs(counts - expected).max() < 1


def test_inside_samples_fill_their_class_evenly() -> None:
    drawn = volume_samples(VOLUME, FRAME, FIELD, 8000, 1.0, 0, rng())
    core = FRAME.invert(drawn.points[drawn.labels == 2])
    middle = AFFINE[:3, :3] @ (np.array([24, 26, 28]) / [1.2, 1.2, 2.0]) + AFFINE[:3, 3]
    radius = np.linalg.norm(core - middle, axis=1) / 11
    # In a ball the cubed radius is uniform.
    np.testing.assert_allclose(np.quantile(radius**3, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.06)


def test_inside_samples_lie_anywhere_in_a_voxel() -> None:
    drawn = volume_samples(VOLUME, FRAME, FIELD, 8000, 1.0, 0, rng())
    deep = FRAME.invert(drawn.points[drawn.sdf < -0.1])
    index = (deep - AFFINE[:3, 3]) @ np.linalg.inv(AFFINE[:3, :3]).T
    within = index - np.round(index)
    for axis in range(3):
        levels = np.quantile(within[:, axis], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(levels, [-0.4, 0.0, 0.4], atol=0.04)


def test_outside_samples_are_uniform_where_nothing_is() -> None:
    drawn = volume_samples(VOLUME, FRAME, FIELD, 8000, 0.0, 0, rng())
    uniform = rng(5).uniform(-1, 1, (40_000, 3)).astype(np.float32)
    outside = uniform[FIELD.signed(uniform).sdf >= 0]
    for axis in range(3):
        levels = [0.1, 0.3, 0.5, 0.7, 0.9]
        np.testing.assert_allclose(
            np.quantile(drawn.points[:, axis], levels), np.quantile(outside[:, axis], levels), atol=0.05
        )


def test_any_slice_of_the_volume_is_unbiased() -> None:
    drawn = volume_samples(VOLUME, FRAME, FIELD, 6000, 0.5, 100, rng())
    for part in np.split(drawn.labels, 6):
        counts = np.bincount(part, minlength=6) / 1000
        np.testing.assert_allclose(counts, np.bincount(drawn.labels, minlength=6) / 6000, atol=0.06)


def test_a_class_without_volume_is_refused() -> None:
    # The field lies elsewhere: no voxel of the class is inside it.
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] += 1e4
    with pytest.raises(InputRefused) as refused:
        volume_samples(label_volume(CODES, elsewhere), FRAME, FIELD, 100, 0.5, 0, rng())
    assert refused.value.reason is Reason.TOO_FEW_POINTS


def test_arguments_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="inside_ratio"):
        volume_samples(VOLUME, FRAME, FIELD, 10, 1.5, 0, rng())
    fewer = label_volume(CODES * (CODES != 3), AFFINE)
    with pytest.raises(ValueError, match="classes"):
        volume_samples(fewer, FRAME, FIELD, 10, 0.5, 0, rng())


def test_a_real_heart(shared_data: Path) -> None:
    path = shared_data / "cardiac/TotalSegmentator/totalsegmentator_case_a/heart.nii.gz"
    image = nib.load(path)
    volume = label_volume(np.asarray(image.dataobj).astype(np.uint8), image.affine)
    surfaces = class_surfaces(volume)
    frame = surfaces.frame()
    drawn = volume_samples(volume, frame, LabelField(surfaces, frame), 2000, 0.5, 100, rng(1))
    assert (drawn.sdf < 0).mean() == 0.5
