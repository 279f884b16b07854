from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import igl
import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label

from demo.heart import write_hearts
from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_fields import SEVERAL
from shapestore.preprocess.geometry.label_samples import surface_samples
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import LabelSurfaces, class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.normalise import Frame

MILLIMETRES = np.eye(4)


def balls(size: int, *solids: tuple[int, float, tuple[float, float, float]]) -> np.ndarray:
    """Balls of (code, radius, centre), later ones painted over earlier ones."""
    codes = np.zeros((size, size, size), np.uint8)
    index = np.moveaxis(np.indices(codes.shape), 0, -1)
    for code, radius, centre in solids:
        codes[((index - centre) ** 2).sum(axis=-1) <= radius**2] = code
    return codes


def surfaces_of(codes: np.ndarray, affine: np.ndarray = MILLIMETRES) -> LabelSurfaces:
    return class_surfaces(label_volume(codes, affine))


def field_of(codes: np.ndarray, affine: np.ndarray = MILLIMETRES) -> tuple[LabelField, Frame]:
    surfaces = surfaces_of(codes, affine)
    return LabelField(surfaces, surfaces.frame()), surfaces.frame()


NESTED = balls(
    48,
    (1, 17.2, (22.0, 23.0, 24.0)),  # around class 2
    (2, 10.1, (22.0, 23.0, 24.0)),
    (3, 8.4, (38.0, 23.0, 24.0)),  # shares a wall with class 1
    (5, 4.0, (41.0, 41.0, 41.0)),  # apart; class 4 is absent
)


def brute_force(surfaces: LabelSurfaces, frame: Frame, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances of all classes by the exact winding number and one tree a class; no shortcut."""
    signed = []
    for surface in surfaces.classes:
        vertices, faces = frame.apply(surface.mesh.vertices), surface.mesh.faces
        tree = igl.AABB()
        tree.init(vertices, faces)
        squared, _, _ = tree.squared_distance(vertices, faces, points)
        inside = igl.winding_number(vertices, faces, points) > 0.5
        signed.append(np.sqrt(squared) * np.where(inside, -1, 1))
    codes = np.array([surface.code for surface in surfaces.classes])
    return np.min(signed, axis=0), codes[np.argmin(signed, axis=0)]


def test_the_field_is_the_least_of_all_classes() -> None:
    surfaces = surfaces_of(NESTED)
    frame = surfaces.frame()
    rng = np.random.default_rng(1)
    vertices = frame.apply(np.concatenate([surface.mesh.vertices for surface in surfaces.classes]))
    near = vertices[rng.integers(len(vertices), size=1500)] + rng.normal(0, 0.02, (1500, 3))
    points = np.concatenate([rng.uniform(-1.2, 1.2, (1500, 3)), near])
    expected, nearest = brute_force(surfaces, frame, points)
    value = LabelField(surfaces, frame).signed(points)
    np.testing.assert_allclose(value.sdf, expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(value.labels, np.where(value.sdf < 0, nearest, 0))
    np.testing.assert_array_equal(LabelField(surfaces, frame).labels(points), value.labels)
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


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [20.3 * 1.25, 30.0, 20.3 * 1.616])
def test_anisotropic_voxels_measure_millimetres(radius: float, seed: int) -> None:
    spacing = np.array([1.25, 1.25, 2.7])
    voxel = np.cbrt(spacing.prod())
    rng = np.random.default_rng(seed)
    shape = np.ceil(2 * radius / spacing).astype(int) + 4
    centre = (shape - 1) / 2 * spacing + rng.uniform(-0.5, 0.5, 3) * spacing
    index = np.moveaxis(np.indices(shape), 0, -1) * spacing
    codes = (np.linalg.norm(index - centre, axis=-1) <= radius).astype(np.uint8)
    field, frame = field_of(codes, np.diag([*spacing, 1]))
    direction = rng.normal(size=(5000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    true = rng.uniform(-4 * voxel, 4 * voxel, 5000)
    value = field.signed(frame.apply(centre + direction * (radius + true)[:, None]))
    measured = value.sdf / frame.scale
    assert np.abs(measured - true).mean() <= 0.1 * voxel
    assert 0.95 <= np.polyfit(true, measured, 1)[0] <= 1.05
    np.testing.assert_array_equal(value.labels, (value.sdf < 0).astype(np.int8))


def off_surface(codes: np.ndarray, affine: np.ndarray, count: int) -> np.ndarray:
    """|sdf| at surface points as they are stored, voxels."""
    surfaces = surfaces_of(codes, affine)
    frame = surfaces.frame()
    points = surface_samples(surfaces.classes, frame, count, 200, np.random.default_rng(0)).points
    voxel = np.cbrt(abs(np.linalg.det(affine[:3, :3]))) * frame.scale
    return np.asarray(np.abs(LabelField(surfaces, frame).signed(points).sdf) / voxel)


def test_stored_surface_points_are_at_distance_zero(tmp_path: Path) -> None:
    assert np.quantile(off_surface(NESTED, MILLIMETRES, 5000), 0.99) <= 0.02
    write_hearts(tmp_path, cases=3, size=96)
    for case in (1, 2, 3):  # the ten classes share walls, and the coronary is not smoothed
        image = nib.load(tmp_path / f"{case}.nii.img.nii.gz")
        assert np.quantile(off_surface(np.asarray(image.dataobj), image.affine, 20_000), 0.99) <= 0.02


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (1.0, 1, 0), (0.9, 0.5, 0.7)])
def test_a_tube_of_one_voxel_radius_stays_one_and_keeps_its_volume(axis: tuple[float, float, float]) -> None:
    middle, along = np.array([31.3, 31.6, 31.2]), np.array(axis) / np.linalg.norm(axis)
    offset = np.moveaxis(np.indices((64, 64, 64)), 0, -1) - middle
    beyond = np.clip(offset @ along, -22, 22)
    codes = (np.linalg.norm(offset - beyond[..., None] * along, axis=-1) <= 1).astype(np.uint8)
    field, frame = field_of(codes)
    low, high = np.argwhere(codes).min(axis=0) - 2, np.argwhere(codes).max(axis=0) + 2
    # The field itself, read on a grid four times as fine.
    axes = [np.arange(a, b, 0.25) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    solid = (field.signed(frame.apply(grid.reshape(-1, 3))).sdf < 0).reshape(grid.shape[:3])
    assert label(solid, np.ones((3, 3, 3)))[1] == 1
    assert solid.sum() / 4**3 == pytest.approx(codes.sum(), rel=0.10)


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


def test_the_decision_is_kept_where_the_distance_rounds_to_nothing() -> None:
    cube = np.zeros((4, 4, 4), np.uint8)
    cube[1:3, 1:3, 1:3] = 1
    surfaces = surfaces_of(cube)
    frame = surfaces.frame()
    field = LabelField(surfaces, frame)
    corners = frame.apply(surfaces.classes[0].mesh.vertices)
    # Positions on the surface, and the next floats around them.
    points = np.concatenate([corners, *(np.nextafter(corners, towards) for towards in (-2.0, 2.0))])
    value = field.signed(points)
    np.testing.assert_array_equal(value.labels > 0, value.sdf < 0)
    np.testing.assert_array_equal(field.labels(points), value.labels)
    assert 0 < (value.labels > 0).sum() < len(points)


def test_where_classes_overlap_the_deeper_one_has_the_position() -> None:
    large, small = (surfaces_of(balls(48, (code, r, (22.0, 23.0, 24.0)))) for code, r in ((1, 17.2), (2, 10.1)))
    unclear = np.full_like(large.owners, SEVERAL)
    both = replace(large, classes=(*large.classes, *small.classes), owners=unclear)
    frame = both.frame()
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    expected, nearest = brute_force(both, frame, points)
    value = LabelField(both, frame).signed(points)
    np.testing.assert_allclose(value.sdf, expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(value.labels, np.where(value.sdf < 0, nearest, 0))
    assert set(value.labels.tolist()) == {0, 1}  # the large ball is deeper everywhere


def test_answers_depend_on_no_other_query() -> None:
    field, _ = field_of(NESTED)
    points = np.random.default_rng(0).uniform(-1, 1, (40_000, 3))
    together = field.signed(points)
    order = np.random.default_rng(1).permutation(len(points))[:500]
    alone = field.signed(points[order])
    np.testing.assert_array_equal(together.sdf[order], alone.sdf)
    np.testing.assert_array_equal(together.labels[order], alone.labels)
    assert field.signed(np.empty((0, 3))).sdf.shape == (0,)


def test_bytes_are_those_of_another_process() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    field, _ = field_of(NESTED)
    here = hashlib.sha256(field.signed(points).sdf.tobytes()).hexdigest()
    program = (
        "import hashlib, numpy as np\n"
        "from tests.preprocess.geometry.test_label_sdf import NESTED, field_of\n"
        "points = np.random.default_rng(0).uniform(-1, 1, (2000, 3))\n"
        "print(hashlib.sha256(field_of(NESTED)[0].signed(points).sdf.tobytes()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_bad_requests_are_refused() -> None:
    field, frame = field_of(NESTED)
    for ask in (field.signed, field.labels):
        with pytest.raises(InputRefused) as refused:
            ask([[0.0, np.nan, 0.0]])
        assert refused.value.reason is Reason.NOT_FINITE
    with pytest.raises(ValueError, match="127"):
        LabelField(surfaces_of(np.where(NESTED == 5, 128, NESTED).astype(np.uint8)), frame)


def test_a_real_atrium(shared_data: Path) -> None:
    path = shared_data / "cardiac/heart-segmentation-monai/la_003_0.nii.gz"
    image = nib.load(path)
    codes = np.asarray(image.dataobj).astype(np.uint8)
    field, frame = field_of(codes, image.affine)
    index = np.stack(np.nonzero(codes), axis=1)[::5]
    value = field.signed(frame.apply(index @ image.affine[:3, :3].T + image.affine[:3, 3]))
    assert (value.labels == 1).mean() > 0.99
