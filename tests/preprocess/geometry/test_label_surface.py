from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_surface import class_surface, class_surfaces, joint_frame
from shapestore.preprocess.geometry.mesh import Mesh

MILLIMETRES = np.eye(4)
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


def affine(matrix: np.ndarray, offset: tuple[float, float, float] = (-90.0, 40.0, 1200.0)) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = matrix, offset
    return result


def ball(size: int, radius: float, centre: float | None = None) -> np.ndarray:
    index = np.indices((size, size, size)) - ((size - 1) / 2 if centre is None else centre)
    return np.asarray((index**2).sum(axis=0) <= radius**2).astype(np.uint8)


def tube(radius: float, start: tuple[float, ...], end: tuple[float, ...], size: int = 48) -> np.ndarray:
    index = np.moveaxis(np.indices((size, size, size)), 0, -1).astype(float)
    axis = np.subtract(end, start)
    along = np.clip((index - start) @ axis / (axis @ axis), 0, 1)
    gap = index - start - along[..., None] * axis
    return np.asarray((gap**2).sum(axis=-1) <= radius**2).astype(np.uint8)


def volume(mesh: Mesh) -> float:
    """Sum of signed tetrahedra, by determinants."""
    return float(np.linalg.det(mesh.vertices[mesh.faces] - mesh.vertices.mean(axis=0)).sum() / 6)


def pieces(mesh: Mesh) -> int:
    a, b, c = mesh.faces.T
    links = coo_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, c])), shape=(len(mesh.vertices),) * 2)
    return int(connected_components(links, directed=False)[0])


def edge_balance(mesh: Mesh) -> set[tuple[int, int]]:
    """(faces at an edge, forward minus backward) of all edges, by brute force."""
    total: dict[tuple[int, int], int] = {}
    signed: dict[tuple[int, int], int] = {}
    for face in mesh.faces.tolist():
        for start, end in zip(face, face[1:] + face[:1], strict=True):
            edge = (min(start, end), max(start, end))
            total[edge] = total.get(edge, 0) + 1
            signed[edge] = signed.get(edge, 0) + (1 if start < end else -1)
    return {(total[edge], signed[edge]) for edge in total}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.02, 0.98), smoothing=st.sampled_from([0.0, 0.7]))
def test_any_mask_has_a_closed_two_sided_outward_surface_of_its_volume(
    seed: int, share: float, smoothing: float
) -> None:
    mask = (np.random.default_rng(seed).random((5, 4, 6)) < share).astype(np.uint8)
    surface = class_surface(mask, MILLIMETRES, 1, smoothing)
    if not mask.any():
        assert surface is None
        return
    assert surface is not None
    assert edge_balance(surface.mesh) == {(2, 0)}
    assert volume(surface.mesh) == pytest.approx(mask.sum(), rel=0.10 + 1e-3)
    assert surface.voxels == mask.sum()


def test_a_ball_keeps_its_place_and_size() -> None:
    surface = class_surface(ball(48, 20.3), MILLIMETRES, 1)
    assert surface is not None
    assert surface.smoothed
    radius = np.linalg.norm(surface.mesh.vertices - 23.5, axis=1)
    assert np.abs(radius - 20.3).mean() < 0.12
    assert volume(surface.mesh) == pytest.approx(4 / 3 * np.pi * 20.3**3, rel=0.01)


MATRICES = {
    "anisotropic": np.diag([1.25, 1.25, 2.7]),
    "flipped": np.diag([-1.25, 1.25, 2.7]),
    "flipped twice": np.diag([-1.25, -1.25, 2.7]),
    "oblique": OBLIQUE @ np.diag([0.8, 1.1, 2.0]),
    "oblique and mirrored": OBLIQUE @ np.diag([-0.8, 1.1, 2.0]),
    "permuted": np.array([[0, 0, 2.0], [1.5, 0, 0], [0, 1, 0]]),
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())
def test_the_affine_moves_the_surface_and_keeps_it_outward(matrix: np.ndarray) -> None:
    mask = tube(4, (10, 14, 9), (30, 20, 36))
    plain, moved = class_surface(mask, MILLIMETRES, 1), class_surface(mask, affine(matrix), 1)
    assert plain is not None
    assert moved is not None
    expected = plain.mesh.vertices @ matrix.T + [-90, 40, 1200]
    np.testing.assert_allclose(moved.mesh.vertices, expected, rtol=0, atol=1e-9)
    assert volume(moved.mesh) == pytest.approx(volume(plain.mesh) * abs(np.linalg.det(matrix)))
    a, b, c = np.moveaxis(moved.mesh.vertices[moved.mesh.faces], 1, 0)
    middle = (np.linalg.inv(matrix) @ ((a + b + c) / 3 - [-90, 40, 1200]).T).T
    normal = np.cross(b - a, c - a) @ matrix  # covariant, up to a positive factor
    axis = np.array([20.0, 6, 27])
    along = np.clip((middle - [10, 14, 9]) @ axis / (axis @ axis), 0, 1)
    outward = middle - [10, 14, 9] - along[:, None] * axis
    assert ((normal * outward).sum(axis=1) > 0).mean() > 0.99


@pytest.mark.parametrize("ends", [((10.3, 12.8, 9.1), (40.2, 33.7, 41.5)), ((24, 24, 6), (24, 24, 42))])
@pytest.mark.parametrize("radius", [1.0, 1.25, 1.5])
def test_a_thin_tube_is_not_blurred_away(radius: float, ends: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    mask = tube(radius, ends[0], ends[1])
    surface = class_surface(mask, MILLIMETRES, 1)
    assert surface is not None
    assert not surface.smoothed
    assert pieces(surface.mesh) == label(mask)[1] == 1
    assert volume(surface.mesh) == pytest.approx(mask.sum(), rel=0.10)


def test_the_level_moves_only_where_the_volume_asks_for_it() -> None:
    thin = class_surface(tube(1.0, (10.3, 12.8, 9.1), (40.2, 33.7, 41.5)), MILLIMETRES, 1)
    thick = class_surface(ball(32, 10), MILLIMETRES, 1, smoothing=0)
    assert thin is not None
    assert thick is not None
    assert thin.level < 0.45
    assert volume(thin.mesh) == pytest.approx(thin.voxels, rel=1e-3)
    assert (thick.level, thick.smoothed) == (0.4999, False)


def test_a_blur_that_closes_a_hole_is_left_out() -> None:
    hollow = ball(40, 15)
    hollow[20, 20, 20] = 0
    assert class_surface(ball(40, 15), MILLIMETRES, 1).smoothed  # type: ignore[union-attr]
    surface = class_surface(hollow, MILLIMETRES, 1)
    assert surface is not None
    assert not surface.smoothed
    assert pieces(surface.mesh) == 2


def test_a_blur_that_breaks_a_bridge_is_left_out() -> None:
    dumbbell = np.maximum(ball(48, 8, centre=12), ball(48, 8, centre=34))
    for k in range(12, 35):
        dumbbell[k, k : k + 2, k : k + 2] = 1
    surface = class_surface(dumbbell, MILLIMETRES, 1)
    assert surface is not None
    assert not surface.smoothed
    assert pieces(surface.mesh) == label(dumbbell, np.ones((3, 3, 3)))[1] == 1


def test_at_the_border_the_surface_is_closed_and_the_same() -> None:
    whole = ball(40, 12.2)
    cut = np.ascontiguousarray(whole[20:, :, 10:])
    padded = np.pad(cut, 6)
    at_border = class_surface(cut, MILLIMETRES, 1)
    within = class_surface(padded, affine(np.eye(3), (-6, -6, -6)), 1)
    assert at_border is not None
    assert within is not None
    assert edge_balance(at_border.mesh) == {(2, 0)}
    np.testing.assert_allclose(at_border.mesh.vertices, within.mesh.vertices, atol=1e-4)
    assert at_border.mesh.vertices.min() > -1


def test_classes_are_independent_and_absent_ones_are_left_out() -> None:
    codes = ball(40, 15)
    codes[ball(40, 9) > 0] = 3
    codes[:, :, 20:] *= 2
    codes[codes > 3] = 5
    surfaces = class_surfaces(codes, MILLIMETRES, 5)
    assert [surface.code for surface in surfaces] == [1, 2, 3, 5]
    assert [surface.voxels for surface in surfaces] == [int((codes == k).sum()) for k in (1, 2, 3, 5)]
    for surface in surfaces:
        alone = class_surface((codes == surface.code).astype(np.uint8), MILLIMETRES, 1)
        assert alone is not None
        np.testing.assert_array_equal(alone.mesh.vertices, surface.mesh.vertices)
    frame = joint_frame(surfaces)
    normalised = np.concatenate([frame.apply(surface.mesh.vertices) for surface in surfaces])
    assert np.linalg.norm(normalised, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(normalised.min(axis=0), -normalised.max(axis=0))


def test_memory_order_and_repetition_change_nothing() -> None:
    codes = tube(3, (10, 12, 9), (40, 33, 41))
    first = class_surface(codes, MILLIMETRES, 1)
    second = class_surface(np.asfortranarray(codes), MILLIMETRES, 1)
    assert first is not None
    assert second is not None
    assert first.mesh.vertices.tobytes() == second.mesh.vertices.tobytes()
    assert first.mesh.faces.tobytes() == second.mesh.faces.tobytes()


@pytest.mark.parametrize(
    "bad",
    [np.diag([1.0, 1, 0, 1]), np.diag([1, np.nan, 1, 1]), np.diag([1.0, 1, 1, 2]), np.eye(3)],
    ids=["flat", "nan", "projective", "3x3"],
)
def test_an_affine_that_places_nothing_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputRefused) as refused:
        class_surface(ball(16, 5), bad, 1)
    assert refused.value.reason is Reason.BAD_AFFINE


def test_an_empty_map_is_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        class_surfaces(np.zeros((8, 8, 8), np.uint8), MILLIMETRES, 3)
    assert refused.value.reason is Reason.EMPTY_LABELS


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="uint8"):
        class_surface(np.zeros((8, 8, 8), np.int64), MILLIMETRES, 1)
    with pytest.raises(ValueError, match="code"):
        class_surface(ball(16, 5), MILLIMETRES, 0)


@pytest.mark.parametrize(
    "name",
    [
        "heart-segmentation-monai/la_003_0.nii.gz",
        "TotalSegmentator/totalsegmentator_case_a/pulmonary_artery.nii.gz",
        "TotalSegmentator/totalsegmentator_case_a/pul_annulus.nii.gz",
        "TotalSegmentator/example_seg_fast_force_split.nii.gz",
    ],
)
def test_real_maps(shared_data: Path, name: str) -> None:
    image = nib.load(shared_data / "cardiac" / name)
    codes = np.asarray(image.dataobj).astype(np.uint8)
    voxel = abs(np.linalg.det(image.affine[:3, :3]))
    for code in np.unique(codes)[1:].tolist():
        surface = class_surface(codes, image.affine, code)
        assert surface is not None
        assert volume(surface.mesh) == pytest.approx((codes == code).sum() * voxel, rel=0.101)
