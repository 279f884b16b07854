"""Samples near class surfaces: both sides, as many, every class."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from demo.heart import write_hearts
from shapestore.preprocess.geometry.edt_field import EdtField
from shapestore.preprocess.geometry.label_near import near_samples
from shapestore.preprocess.geometry.label_samples import LabelledSamples
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import LabelSurfaces, class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.normalise import Frame

AFFINE = np.diag([1.2, 1.2, 2.0, 1.0])


def phantom() -> np.ndarray:
    """A shell (1) around a core (2) that lies nowhere open, a neighbour (3), and a thin vessel (5)."""
    codes = np.zeros((44, 44, 30), np.uint8)
    index = np.moveaxis(np.indices(codes.shape), 0, -1) * [1.2, 1.2, 2.0]
    codes[np.linalg.norm(index - [24, 26, 28], axis=-1) <= 17] = 1
    codes[np.linalg.norm(index - [24, 26, 28], axis=-1) <= 11] = 2
    codes[(np.linalg.norm(index - [42, 26, 28], axis=-1) <= 9) & (codes == 0)] = 3
    codes[4, 4, 3:28] = codes[5, 4, 3:28] = codes[4, 5, 3:28] = 5
    return codes


def made(codes: np.ndarray, affine: np.ndarray = AFFINE) -> tuple[LabelSurfaces, Frame, LabelField]:
    surfaces = class_surfaces(label_volume(codes, affine))
    return surfaces, surfaces.frame(), LabelField(surfaces, surfaces.frame())


SURFACES, FRAME, FIELD = made(phantom())


def near(count: int, sigma: float = 0.02, minimum: int = 0, seed: int = 0) -> LabelledSamples:
    return near_samples(SURFACES, FRAME, FIELD, count, sigma, minimum, np.random.default_rng(seed))


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.3])
def test_one_half_is_inside_and_the_other_outside(sigma: float) -> None:
    drawn = near(4001, sigma, 300)
    assert [array.dtype.str for array in drawn] == ["<f4", "<f4", "|i1"]
    assert abs((drawn.sdf < 0).sum() - 2000) <= 4
    assert np.abs(drawn.points).max() <= 1
    value = FIELD.signed(drawn.points)
    np.testing.assert_array_equal(value.sdf, drawn.sdf)
    np.testing.assert_array_equal(value.labels, drawn.labels)


def test_every_class_has_its_share_inside() -> None:
    counts = np.bincount(near(4000, 0.005, 300).labels, minlength=6)
    assert counts[[1, 2, 3, 5]].min() >= 150  # of the minimum, the half that goes inwards
    assert counts[4] == 0


def test_positions_are_near_and_the_offsets_as_declared() -> None:
    drawn = near(4000, 0.01)
    distance = np.abs(drawn.sdf)
    assert distance.max() < 0.06
    # Half normal: the mean is sigma * sqrt(2 / pi); less where walls are thin, or another surface is nearer.
    assert 0.6 * 0.00798 < distance.mean() < 1.02 * 0.00798


def test_any_slice_is_unbiased() -> None:
    drawn = near(6000)
    for part in np.split(drawn.labels, 6):
        counts = np.bincount(part, minlength=6) / 1000
        np.testing.assert_allclose(counts, np.bincount(drawn.labels, minlength=6) / 6000, atol=0.06)


def test_a_gap_thinner_than_the_offsets_is_met() -> None:
    codes = np.zeros((30, 30, 30), np.uint8)
    codes[4:14, 4:26, 4:26], codes[15:26, 4:26, 4:26] = 1, 2  # one voxel of background between them
    surfaces, frame, field = made(codes, np.eye(4))
    drawn = near_samples(surfaces, frame, field, 4000, 0.2, 0, np.random.default_rng(0))
    assert (drawn.sdf < 0).mean() == pytest.approx(0.5, abs=0.002)
    index = frame.invert(drawn.points)
    assert ((drawn.sdf >= 0) & (index[:, 0] > 13) & (index[:, 0] < 15)).sum() > 100


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert near(1000, seed=4).points.tobytes() == near(1000, seed=4).points.tobytes()
    assert near(1000, seed=4).points.tobytes() != near(1000, seed=5).points.tobytes()


def test_a_heart_is_balanced(tmp_path: Path) -> None:
    write_hearts(tmp_path, cases=1, size=96)
    image = nib.load(tmp_path / "1.nii.img.nii.gz")
    codes = np.asarray(image.dataobj)
    surfaces, frame, field = made(codes, image.affine)
    for each in (field, EdtField(codes, image.affine, frame)):
        drawn = near_samples(surfaces, frame, each, 10_000, 0.01, 400, np.random.default_rng(0))
        assert (drawn.sdf < 0).mean() == pytest.approx(0.5, abs=0.0005)
        assert np.bincount(drawn.labels, minlength=11)[1:].min() >= 100


def test_a_sigma_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="sigma"):
        near(10, sigma=0.0)


def test_a_real_heart(shared_data: Path) -> None:
    image = nib.load(shared_data / "cardiac/TotalSegmentator/totalsegmentator_case_a/heart.nii.gz")
    surfaces, frame, field = made(np.asarray(image.dataobj).astype(np.uint8), image.affine)
    drawn = near_samples(surfaces, frame, field, 2000, 0.01, 100, np.random.default_rng(0))
    assert (drawn.sdf < 0).mean() == pytest.approx(0.5, abs=0.002)
