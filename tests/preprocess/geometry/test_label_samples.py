from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_samples import (
    LabelledSurface,
    class_quotas,
    near_samples,
    surface_samples,
    volume_samples,
)
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import class_surfaces, joint_frame

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
SURFACES = class_surfaces(CODES, AFFINE, 5)
FRAME = joint_frame(SURFACES)
FIELD = LabelField(SURFACES, FRAME)


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
    drawn = surface_samples(SURFACES, FRAME, 3001, 200, rng())
    assert drawn.points.shape == drawn.normals.shape == (3001, 3)
    assert [array.dtype.str for array in drawn] == ["<f4", "|i1", "<f4"]
    assert np.abs(drawn.points).max() <= 1
    np.testing.assert_allclose(np.linalg.norm(drawn.normals, axis=1), 1, atol=1e-6)
    for surface in SURFACES:
        own = drawn.labels == surface.code
        alone = LabelField([surface], FRAME)
        step = 0.002
        assert np.abs(alone.signed(drawn.points[own]).sdf).max() < 1e-6
        assert (alone.signed(drawn.points[own] + step * drawn.normals[own]).sdf > 0).mean() > 0.98
        assert (alone.signed(drawn.points[own] - step * drawn.normals[own]).sdf < 0).mean() > 0.98


def test_any_slice_of_the_surface_is_unbiased() -> None:
    drawn = surface_samples(SURFACES, FRAME, 6000, 300, rng())
    for part in np.split(drawn.labels, 6):
        counts = np.bincount(part, minlength=6) / 1000
        np.testing.assert_allclose(counts, np.bincount(drawn.labels, minlength=6) / 6000, atol=0.06)


def test_surface_points_are_shared_out_by_minimum_and_area() -> None:
    def area(vertices: np.ndarray, faces: np.ndarray) -> float:
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        return float(np.sqrt((np.cross(b - a, c - a) ** 2).sum(axis=1)).sum())

    areas = np.array([area(surface.mesh.vertices, surface.mesh.faces) for surface in SURFACES])
    drawn = surface_samples(SURFACES, FRAME, 5000, 300, rng())
    counts = np.array([(drawn.labels == surface.code).sum() for surface in SURFACES])
    assert np.abs(counts - (300 + 3800 * areas / areas.sum())).max() < 1


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_volume_samples_keep_the_declared_balance(ratio: float) -> None:
    minimum = 50 if ratio > 0 else 0
    drawn = volume_samples(CODES, AFFINE, FRAME, FIELD, 2003, ratio, minimum, rng())
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
    drawn = volume_samples(CODES, AFFINE, FRAME, FIELD, 8000, 1.0, 0, rng())
    core = FRAME.invert(drawn.points[drawn.labels == 2])
    middle = AFFINE[:3, :3] @ (np.array([24, 26, 28]) / [1.2, 1.2, 2.0]) + AFFINE[:3, 3]
    radius = np.linalg.norm(core - middle, axis=1) / 11
    # In a ball the cubed radius is uniform.
    np.testing.assert_allclose(np.quantile(radius**3, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.06)


def test_inside_samples_lie_anywhere_in_a_voxel() -> None:
    drawn = volume_samples(CODES, AFFINE, FRAME, FIELD, 8000, 1.0, 0, rng())
    deep = FRAME.invert(drawn.points[drawn.sdf < -0.1])
    index = (deep - AFFINE[:3, 3]) @ np.linalg.inv(AFFINE[:3, :3]).T
    within = index - np.round(index)
    for axis in range(3):
        levels = np.quantile(within[:, axis], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(levels, [-0.4, 0.0, 0.4], atol=0.04)


def test_outside_samples_are_uniform_where_nothing_is() -> None:
    drawn = volume_samples(CODES, AFFINE, FRAME, FIELD, 8000, 0.0, 0, rng())
    uniform = rng(5).uniform(-1, 1, (40_000, 3)).astype(np.float32)
    outside = uniform[FIELD.signed(uniform).sdf >= 0]
    for axis in range(3):
        levels = [0.1, 0.3, 0.5, 0.7, 0.9]
        np.testing.assert_allclose(
            np.quantile(drawn.points[:, axis], levels), np.quantile(outside[:, axis], levels), atol=0.05
        )


def test_any_slice_of_the_volume_is_unbiased() -> None:
    drawn = volume_samples(CODES, AFFINE, FRAME, FIELD, 6000, 0.5, 100, rng())
    for part in np.split(drawn.labels, 6):
        counts = np.bincount(part, minlength=6) / 1000
        np.testing.assert_allclose(counts, np.bincount(drawn.labels, minlength=6) / 6000, atol=0.06)


def test_a_class_without_volume_is_refused() -> None:
    # The field lies elsewhere: no voxel of the class is inside it.
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] += 1e4
    with pytest.raises(InputRefused) as refused:
        volume_samples(CODES, elsewhere, FRAME, FIELD, 100, 0.5, 0, rng())
    assert refused.value.reason is Reason.TOO_FEW_POINTS


def test_near_samples_keep_the_field_and_both_sides() -> None:
    surface = surface_samples(SURFACES, FRAME, 4000, 300, rng())
    drawn = near_samples(surface, FIELD, 0.02, rng(1))
    assert drawn.points.shape == (4000, 3)
    assert [array.dtype.str for array in drawn] == ["<f4", "<f4", "|i1"]
    assert np.abs(drawn.points).max() <= 1
    value = FIELD.signed(drawn.points)
    np.testing.assert_array_equal(value.sdf, drawn.sdf)
    np.testing.assert_array_equal(value.labels, drawn.labels)
    again = near_samples(surface, FIELD, 0.02, rng(1))
    assert again.points.tobytes() == drawn.points.tobytes()


def sides(surface: LabelledSurface, sigma: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The drawn side (True inwards) and offset of every point, by the documented order of the draws."""
    source = rng(seed)
    offset = np.abs(source.normal(0, sigma, len(surface.points)))
    return source.permutation(len(surface.points)) % 2 == 1, offset


@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_near_offsets_are_halved_at_most_five_times_and_only_if_it_helps(sigma: float) -> None:
    surface = surface_samples(SURFACES, FRAME, 2000, 300, rng())
    drawn = near_samples(surface, FIELD, sigma, rng(7))
    inwards, offset = sides(surface, sigma, 7)
    side = np.where(inwards, -1, 1)
    for row in range(0, 2000, 5):
        wanted = bool(inwards[row])
        options = [
            np.clip(surface.points[row] + surface.normals[row] * side[row] * offset[row] / 2**k, -1, 1)
            for k in range(6)
        ]
        # (6,) whether each offset has the intended sign: the first that has, else the full one
        hit = (FIELD.signed(np.array(options, np.float32)).sdf < 0) == wanted
        chosen = options[int(np.argmax(hit)) if hit.any() else 0]
        np.testing.assert_allclose(drawn.points[row], chosen, rtol=0, atol=1e-6)


def test_one_half_goes_each_way_in_every_class_and_slice() -> None:
    codes = CODES * (CODES == 1)
    codes[5:9, 4:8, 3:28] = 5
    surfaces = class_surfaces(codes, AFFINE, 5)
    frame = joint_frame(surfaces)
    field = LabelField(surfaces, frame)
    surface = surface_samples(surfaces, frame, 4000, 1000, rng())
    drawn = near_samples(surface, field, 0.05, rng(3))
    inside = drawn.sdf < 0  # no walls are shared here, so every side can be met
    assert inside.mean() == pytest.approx(0.5, abs=0.01)
    for code in (1, 5):
        assert inside[surface.labels == code].mean() == pytest.approx(0.5, abs=0.06)
    for part in np.split(inside, 4):
        assert part.mean() == pytest.approx(0.5, abs=0.06)


def test_near_samples_never_leave_the_cube() -> None:
    pole = np.tile(np.array([[0, 0, 1]], np.float32), (200, 1))
    drawn = near_samples(LabelledSurface(pole, np.ones(200, np.int8), pole), FIELD, 0.1, rng())
    assert (drawn.points[:, 2] == 1).sum() >= 50
    assert np.abs(drawn.points).max() <= 1
    np.testing.assert_array_equal(FIELD.signed(drawn.points).sdf, drawn.sdf)


def test_arguments_out_of_range_are_named() -> None:
    surface = surface_samples(SURFACES, FRAME, 10, 0, rng())
    with pytest.raises(ValueError, match="sigma"):
        near_samples(surface, FIELD, 0.0, rng())
    with pytest.raises(ValueError, match="inside_ratio"):
        volume_samples(CODES, AFFINE, FRAME, FIELD, 10, 1.5, 0, rng())
    with pytest.raises(ValueError, match="no voxel"):
        volume_samples(CODES * (CODES != 3), AFFINE, FRAME, FIELD, 10, 0.5, 0, rng())


def test_a_real_heart(shared_data: Path) -> None:
    path = shared_data / "cardiac/TotalSegmentator/totalsegmentator_case_a/heart.nii.gz"
    image = nib.load(path)
    codes = np.asarray(image.dataobj).astype(np.uint8)
    surfaces = class_surfaces(codes, image.affine, 1)
    frame = joint_frame(surfaces)
    field = LabelField(surfaces, frame)
    surface = surface_samples(surfaces, frame, 2000, 100, rng())
    volume = volume_samples(codes, image.affine, frame, field, 2000, 0.5, 100, rng(1))
    near = near_samples(surface, field, 0.01, rng(2))
    assert (volume.sdf < 0).mean() == 0.5
    assert (near.sdf < 0).mean() == pytest.approx(0.5, abs=0.02)
    assert np.linalg.norm(near.points - surface.points, axis=1).max() < 0.06
