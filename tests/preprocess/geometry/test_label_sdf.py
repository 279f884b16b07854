from __future__ import annotations

from pathlib import Path

import igl
import nibabel as nib
import numpy as np
import pytest

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import ClassSurface, class_surfaces, joint_frame
from shapestore.preprocess.geometry.normalise import Frame

MILLIMETRES = np.eye(4)


def balls(size: int, *solids: tuple[int, float, tuple[float, float, float]]) -> np.ndarray:
    """Balls of (code, radius, centre), later ones painted over earlier ones."""
    codes = np.zeros((size, size, size), np.uint8)
    index = np.moveaxis(np.indices(codes.shape), 0, -1)
    for code, radius, centre in solids:
        codes[((index - centre) ** 2).sum(axis=-1) <= radius**2] = code
    return codes


def field_of(codes: np.ndarray, affine: np.ndarray = MILLIMETRES) -> tuple[LabelField, Frame]:
    surfaces = class_surfaces(codes, affine, int(codes.max()))
    frame = joint_frame(surfaces)
    return LabelField(surfaces, frame), frame


NESTED = balls(
    48,
    (1, 17.2, (22.0, 23.0, 24.0)),  # around class 2
    (2, 10.1, (22.0, 23.0, 24.0)),
    (3, 8.4, (38.0, 23.0, 24.0)),  # shares a wall with class 1
    (5, 4.0, (41.0, 41.0, 41.0)),  # apart; class 4 is absent
)


def brute_force(surfaces: tuple[ClassSurface, ...], frame: Frame, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances of all classes by the exact winding number and one tree a class; no shortcut."""
    signed = []
    for surface in surfaces:
        vertices, faces = frame.apply(surface.mesh.vertices), surface.mesh.faces
        tree = igl.AABB()
        tree.init(vertices, faces)
        squared, _, _ = tree.squared_distance(vertices, faces, points)
        inside = igl.winding_number(vertices, faces, points) > 0.5
        signed.append(np.sqrt(squared) * np.where(inside, -1, 1))
    codes = np.array([surface.code for surface in surfaces])
    return np.min(signed, axis=0), codes[np.argmin(signed, axis=0)]


def test_the_field_is_the_least_of_all_classes() -> None:
    surfaces = class_surfaces(NESTED, MILLIMETRES, 5)
    frame = joint_frame(surfaces)
    rng = np.random.default_rng(1)
    vertices = frame.apply(np.concatenate([surface.mesh.vertices for surface in surfaces]))
    near = vertices[rng.integers(len(vertices), size=1500)] + rng.normal(0, 0.02, (1500, 3))
    points = np.concatenate([rng.uniform(-1.2, 1.2, (1500, 3)), near])
    expected, nearest = brute_force(surfaces, frame, points)
    value = LabelField(surfaces, frame).signed(points)
    np.testing.assert_array_equal(value.sdf, expected.astype(np.float32))
    np.testing.assert_array_equal(value.labels, np.where(value.sdf < 0, nearest, 0))
    assert set(value.labels.tolist()) == {0, 1, 2, 3, 5}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 0.7)])
def test_a_ball_has_its_distances_and_slope(spacing: tuple[float, float, float]) -> None:
    centre, radius = np.array([31.5, 31.5, 31.5]), 20.3
    codes = balls(64, (1, radius, (31.5, 31.5, 31.5)))
    affine = np.diag([*spacing, 1])
    field, frame = field_of(codes, affine)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(20_000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    true = rng.uniform(-4, 4, 20_000)
    points = frame.apply((centre + direction * (radius + true)[:, None]) * spacing)
    value = field.signed(points)
    voxels = value.sdf / frame.scale / spacing[0]
    assert np.abs(voxels - true).mean() <= 0.1
    assert 0.95 <= np.polyfit(true, voxels, 1)[0] <= 1.05
    close = np.abs(true) < 1
    assert 0.95 <= np.polyfit(true[close], voxels[close], 1)[0] <= 1.05
    assert ((value.sdf < 0) == (true < 0)).mean() > 0.985
    np.testing.assert_array_equal(value.labels, (value.sdf < 0).astype(np.int8))


def test_anisotropic_voxels_measure_millimetres() -> None:
    spacing = np.array([1.25, 1.25, 2.7])
    index = np.moveaxis(np.indices((64, 64, 30)), 0, -1) * spacing
    centre = np.array([39.0, 39.0, 39.0])
    codes = (np.linalg.norm(index - centre, axis=-1) <= 30).astype(np.uint8)
    field, frame = field_of(codes, np.diag([*spacing, 1]))
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(5000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    true = rng.uniform(-8, 8, 5000)
    value = field.signed(frame.apply(centre + direction * (30 + true)[:, None]))
    assert np.abs(value.sdf / frame.scale - true).mean() < 0.1 * 2.7


def test_a_mirrored_oblique_map_is_the_same_shape() -> None:
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0], [0.48, 0.64, 0.6]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-1.5, 1.5, 1.5]), [100, -300, 900]
    plain, plain_frame = field_of(NESTED)
    moved, moved_frame = field_of(NESTED, affine)
    voxel = np.random.default_rng(3).uniform(0, 47, (3000, 3))
    first = plain.signed(plain_frame.apply(voxel))
    second = moved.signed(moved_frame.apply(voxel @ affine[:3, :3].T + affine[:3, 3]))
    np.testing.assert_allclose(
        second.sdf / moved_frame.scale / 1.5, first.sdf / plain_frame.scale, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(second.labels, first.labels)


def test_labels_are_those_of_the_voxels_away_from_walls() -> None:
    field, frame = field_of(NESTED)
    index = np.stack(np.nonzero(NESTED >= 0), axis=1)[::7]
    value = field.signed(frame.apply(index))
    assert ((value.labels > 0) == (value.sdf < 0)).all()
    clear = np.abs(value.sdf) / frame.scale > 1
    np.testing.assert_array_equal(value.labels[clear], NESTED[tuple(index[clear].T)])


def test_the_kept_sign_decides_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    field, _ = field_of(NESTED)
    # Distances that float64 tells from zero and float32 does not.
    exact = np.array([-1e-60, 1e-60, -1e-40, 0.0]), np.array([1, 2, 3, 5])
    monkeypatch.setattr(field, "_nearest", lambda points: exact)
    value = field.signed(np.zeros((4, 3)))
    np.testing.assert_array_equal(value.sdf < 0, [False, False, True, False])
    np.testing.assert_array_equal(value.labels, [0, 0, 3, 0])


def test_answers_depend_on_no_other_query() -> None:
    field, _ = field_of(NESTED)
    points = np.random.default_rng(0).uniform(-1, 1, (40_000, 3))
    together = field.signed(points)
    order = np.random.default_rng(1).permutation(len(points))[:500]
    alone = field.signed(points[order])
    np.testing.assert_array_equal(together.sdf[order], alone.sdf)
    np.testing.assert_array_equal(together.labels[order], alone.labels)
    assert field.signed(np.empty((0, 3))).sdf.shape == (0,)


def test_bad_requests_are_refused() -> None:
    field, frame = field_of(NESTED)
    surfaces = class_surfaces(NESTED, MILLIMETRES, 5)
    with pytest.raises(InputRefused) as refused:
        field.signed([[0.0, np.nan, 0.0]])
    assert refused.value.reason is Reason.NOT_FINITE
    with pytest.raises(InputRefused) as refused:
        LabelField([], frame)
    assert refused.value.reason is Reason.EMPTY_LABELS
    with pytest.raises(ValueError, match="ascend"):
        LabelField(surfaces[::-1], frame)


def test_a_real_atrium(shared_data: Path) -> None:
    path = shared_data / "cardiac/heart-segmentation-monai/la_003_0.nii.gz"
    image = nib.load(path)
    codes = np.asarray(image.dataobj).astype(np.uint8)
    field, frame = field_of(codes, image.affine)
    index = np.stack(np.nonzero(codes), axis=1)[::5]
    value = field.signed(frame.apply(index @ image.affine[:3, :3].T + image.affine[:3, 3]))
    assert (value.labels == 1).mean() > 0.99
