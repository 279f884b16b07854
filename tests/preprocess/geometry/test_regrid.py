from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.label_image import LabelImage
from shapestore.preprocess.formats.nifti import read_label_map
from shapestore.preprocess.geometry.regrid import same_grid

SEEDS = st.integers(0, 2**32)


def random_mask(rng: np.random.Generator, oblique: bool, most: int = 8) -> LabelImage:
    """A random mask around the origin, with axes that are turned, or only permuted and flipped."""
    voxels = (rng.random(rng.integers(1, most, 3)) < 0.5).astype(np.uint8) * 7
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if not oblique:
        axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = axes * rng.uniform(0.5, 2, 3)
    affine[:3, 3] = rng.uniform(-0.2, 0.2, 3) - affine[:3, :3] @ (np.array(voxels.shape) - 1) / 2
    return LabelImage(voxels, affine)


def index_in(image: LabelImage, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(n, 3) voxel indices in a mask, not rounded, of all voxels of a grid."""
    indices = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ indices + affine[:3, 3:]
    return np.linalg.solve(image.affine[:3, :3], world - image.affine[:3, 3:]).T


@settings(deadline=None)
@given(SEEDS, st.booleans(), st.integers(2, 3), st.booleans())
def test_every_voxel_takes_the_nearest_one(seed: int, oblique: bool, count: int, spaced: bool) -> None:
    rng = np.random.default_rng(seed)
    images = [random_mask(rng, oblique) for _ in range(count)]
    masks, affine = same_grid(images, (0.7, 1.1, 0.9) if spaced else None)
    for image, mask in zip(images, masks, strict=True):
        assert mask.dtype == np.bool_
        assert mask.shape == masks[0].shape
        index = index_in(image, affine, mask.shape)
        nearest = np.rint(index).astype(int)
        inside = ((nearest >= 0) & (nearest < image.voxels.shape)).all(axis=1)
        expected = np.zeros(mask.size, bool)
        expected[inside] = image.voxels[tuple(nearest[inside].T)] != 0
        tied = (np.abs(np.abs(index - np.floor(index)) - 0.5) < 1e-5).any(axis=1)
        np.testing.assert_array_equal(mask.reshape(-1)[~tied], expected[~tied])


@settings(deadline=None)
@given(SEEDS, st.booleans())
def test_the_grid_is_the_finest_one_grown_over_all_boxes(seed: int, oblique: bool) -> None:
    rng = np.random.default_rng(seed)
    images = [random_mask(rng, oblique) for _ in range(3)]
    finest = min(images, key=lambda image: abs(np.linalg.det(image.affine)))
    masks, affine = same_grid(images)
    np.testing.assert_allclose(affine[:3, :3], finest.affine[:3, :3], atol=1e-12)
    start = np.linalg.solve(affine, finest.affine[:, 3])[:3]
    np.testing.assert_allclose(start, np.rint(start), atol=1e-9)
    own = masks[[image is finest for image in images].index(True)]
    window = tuple(
        slice(int(low), int(low) + size) for low, size in zip(np.rint(start), finest.voxels.shape, strict=True)
    )
    np.testing.assert_array_equal(own[window], finest.voxels != 0)
    assert own.sum() == np.count_nonzero(finest.voxels)
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)
    for image in images:
        outer = np.where(corners < 0, -0.5, np.array(image.voxels.shape) - 0.5)
        world = image.affine[:3, :3] @ outer.T + image.affine[:3, 3:]
        inside = np.linalg.solve(affine[:3, :3], world - affine[:3, 3:]).T
        assert (inside >= -0.5 - 2e-3).all()
        assert (inside <= np.array(own.shape) - 0.5 + 2e-3).all()


@given(SEEDS, st.booleans())
def test_equal_grids_stay_as_they_are(seed: int, oblique: bool) -> None:
    one = random_mask(np.random.default_rng(seed), oblique)
    nearly = one.affine + 1e-5 * np.eye(4)[[3, 3, 3, 3]].T
    other = LabelImage(one.voxels == 0, nearly)
    masks, affine = same_grid([one, other])
    np.testing.assert_array_equal(affine, one.affine)
    np.testing.assert_array_equal(masks[0], one.voxels != 0)
    np.testing.assert_array_equal(masks[1], one.voxels == 0)
    alone, _ = same_grid([one])
    np.testing.assert_array_equal(alone[0], masks[0])


@pytest.mark.parametrize("factor", [2, 3])
def test_volumes_survive_a_finer_spacing(factor: int) -> None:
    one = random_mask(np.random.default_rng(1), oblique=True, most=12)
    x, y, z = (np.linalg.norm(one.affine[:3, :3], axis=0) / factor).tolist()
    (mask,), affine = same_grid([one], (x, y, z))
    assert mask.sum() == np.count_nonzero(one.voxels) * factor**3
    assert mask.shape == tuple(factor * size for size in one.voxels.shape)
    corner = np.full(3, -0.5)
    np.testing.assert_allclose(affine[:3, :3] @ corner + affine[:3, 3], one.affine[:3, :3] @ corner + one.affine[:3, 3])


def test_masks_that_lie_apart_are_refused() -> None:
    voxels = np.ones((2, 2, 2), np.uint8)
    far = np.eye(4)
    far[:3, 3] = 2  # box to box, corner to corner
    with pytest.raises(InputRefused) as refused:
        same_grid([LabelImage(voxels, np.eye(4)), LabelImage(voxels, np.eye(4)), LabelImage(voxels, far)])
    assert refused.value.reason is Reason.GRID_MISMATCH
    assert "mask 2" in refused.value.detail


def test_an_immense_grid_is_refused() -> None:
    voxels = np.ones((2, 2, 2), np.uint8)
    fine = np.diag([1e-3, 1e-3, 1e-3, 1])
    with pytest.raises(InputRefused) as refused:
        same_grid([LabelImage(voxels, np.eye(4)), LabelImage(voxels, fine)])
    assert refused.value.reason is Reason.GRID_MISMATCH


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="at least one"):
        same_grid([])
    with pytest.raises(ValueError, match="positive"):
        same_grid([LabelImage(np.ones((2, 2, 2), np.uint8), np.eye(4))], (1, 0, 1))


def test_structures_of_one_patient_meet(shared_data: Path) -> None:
    folder = shared_data / "cardiac/TotalSegmentator/totalsegmentator_case_a"
    images = [read_label_map(folder / f"{name}.nii.gz") for name in ("heart", "pulmonary_artery", "pul_annulus")]
    masks, affine = same_grid(images)
    assert len({mask.shape for mask in masks}) == 1
    for image, mask in zip(images, masks, strict=True):
        assert mask.sum() == np.count_nonzero(image.voxels)  # equal spacing, whole voxels apart
        world = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
        own = image.affine[:3, :3] @ np.argwhere(image.voxels).mean(axis=0) + image.affine[:3, 3]
        np.testing.assert_allclose(world, own, atol=1e-6)
