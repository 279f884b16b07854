from __future__ import annotations

from pathlib import Path

import igl
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
from shapestore.preprocess.geometry.label_surface import ClassSurface, LabelSurfaces, class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import sample_surface

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


def surfaces_of(codes: np.ndarray, placed: np.ndarray = MILLIMETRES, smoothing: float = 0.7) -> LabelSurfaces:
    return class_surfaces(label_volume(codes, placed), smoothing)


def class_surface(
    codes: np.ndarray, placed: np.ndarray = MILLIMETRES, code: int = 1, smoothing: float = 0.7
) -> ClassSurface:
    """The surface of one class, where there is no other."""
    (surface,) = surfaces_of((codes == code).astype(np.uint8), placed, smoothing).classes
    return surface


def volume(mesh: Mesh) -> float:
    """Sum of signed tetrahedra, by determinants."""
    return float(np.linalg.det(mesh.vertices[mesh.faces] - mesh.vertices.mean(axis=0)).sum() / 6)


def signed(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """Signed distance by the exact winding number and the library's tree."""
    tree = igl.AABB()
    faces = np.ascontiguousarray(mesh.faces)
    tree.init(mesh.vertices, faces)
    squared, _, _ = tree.squared_distance(mesh.vertices, faces, np.ascontiguousarray(points))
    inside = igl.fast_winding_number(mesh.vertices, faces, points) > 0.5
    return np.asarray(np.sqrt(squared) * np.where(inside, -1, 1))


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
    if not mask.any():
        return
    surface = class_surface(mask, MILLIMETRES, 1, smoothing)
    assert edge_balance(surface.mesh) == {(2, 0)}
    # Where diagonal voxels join at a level, the volume leaps over the right one: most of noise is of such voxels.
    assert volume(surface.mesh) == pytest.approx(mask.sum(), rel=0.10 if surface.level == 0.4999 else 0.25)
    assert surface.voxels == mask.sum()


def test_a_ball_keeps_its_place_and_size() -> None:
    surface = class_surface(ball(48, 20.3))
    assert surface.crisp == 0
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
    # Without blur, which is as wide in millimetres along every axis.
    plain, moved = (class_surface(mask, placed, smoothing=0) for placed in (MILLIMETRES, affine(matrix)))
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
    surface = class_surface(mask)
    assert surface.crisp == 1
    assert pieces(surface.mesh) == label(mask)[1] == 1
    assert volume(surface.mesh) == pytest.approx(mask.sum(), rel=0.10)


def test_the_level_moves_only_where_the_volume_asks_for_it() -> None:
    thin = class_surface(tube(1.0, (10.3, 12.8, 9.1), (40.2, 33.7, 41.5)))
    thick = class_surface(ball(32, 10), MILLIMETRES, 1, smoothing=0)
    assert thin.level < 0.45
    assert volume(thin.mesh) == pytest.approx(thin.voxels, rel=0.02)
    assert (thick.level, thick.crisp) == (0.4999, 1)


def test_a_hole_that_the_blur_would_close_stays_open() -> None:
    hollow = ball(40, 15)
    hollow[20, 20, 20] = 0
    assert class_surface(ball(40, 15)).crisp == 0
    surface = class_surface(hollow)
    assert 0 < surface.crisp < 0.01  # the rest of it is smooth
    assert pieces(surface.mesh) == 2


def test_a_bridge_that_the_blur_would_break_stays_whole() -> None:
    dumbbell = np.maximum(ball(48, 8, centre=12), ball(48, 8, centre=34))
    for k in range(12, 35):
        dumbbell[k, k : k + 2, k : k + 2] = 1
    surface = class_surface(dumbbell)
    assert 0 < surface.crisp < 0.2
    assert pieces(surface.mesh) == label(dumbbell, np.ones((3, 3, 3)))[1] == 1


def test_a_short_bridge_of_which_both_ends_have_support_stays() -> None:
    blocks = np.zeros((30, 20, 20), np.uint8)
    blocks[3:13, 4:16, 4:16] = blocks[15:26, 4:16, 4:16] = 1
    blocks[13:15, 10, 10] = 1
    surface = class_surface(blocks)
    assert 0 < surface.crisp < 0.05
    assert pieces(surface.mesh) == 1


def test_branches_of_a_thick_class_are_not_worn_down() -> None:
    branched = np.maximum(ball(60, 10, centre=30), tube(0.9, (30, 30, 4), (30, 30, 55), size=60))
    surface = class_surface(branched)
    assert surface.crisp < 0.1
    assert surface.mesh.vertices[:, 2].min() == pytest.approx(3.5, abs=0.01)
    assert surface.mesh.vertices[:, 2].max() == pytest.approx(55.5, abs=0.01)
    assert pieces(surface.mesh) == 1


def test_a_gap_between_two_parts_stays_open() -> None:
    parts = ball(48, 14)
    parts[:, :, 24] = 0
    assert pieces(class_surface(parts).mesh) == 2


def test_at_the_border_the_surface_is_closed_and_the_same() -> None:
    whole = ball(40, 12.2)
    cut = np.ascontiguousarray(whole[20:, :, 10:])
    padded = np.pad(cut, 6)
    at_border = class_surface(cut)
    within = class_surface(padded, affine(np.eye(3), (-6, -6, -6)), 1)
    assert edge_balance(at_border.mesh) == {(2, 0)}
    np.testing.assert_allclose(at_border.mesh.vertices, within.mesh.vertices, atol=1e-4)
    assert at_border.mesh.vertices.min() > -1


def heart(smoothing: float = 0.7) -> LabelSurfaces:
    """A shell (1) around a core (3), cut in half by other classes (2 and 5), and a thin vessel (7) along the shell."""
    codes = ball(40, 15)
    codes[ball(40, 9) > 0] = 3
    codes[:, :, 20:] *= 2
    codes[codes > 3] = 5
    codes[tube(1.1, (4.6, 18, 10), (4.6, 21, 30), 40) > 0] = 7
    return surfaces_of(codes, smoothing=smoothing)


def test_every_present_class_has_a_surface() -> None:
    surfaces = heart()
    assert [surface.code for surface in surfaces.classes] == [1, 2, 3, 5, 7]
    frame = surfaces.frame()
    normalised = np.concatenate([frame.apply(surface.mesh.vertices) for surface in surfaces.classes])
    assert np.linalg.norm(normalised, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(normalised.min(axis=0), -normalised.max(axis=0))


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
def test_neighbours_have_one_wall(smoothing: float) -> None:
    surfaces = heart(smoothing).classes
    assert surfaces[-1].level < 0.49  # the vessel is taken at another level, and its neighbours make room for it
    for one in surfaces:
        others = [other for other in surfaces if other is not one]
        points = sample_surface(one.mesh, 2000, np.random.default_rng(one.code)).points
        depth = np.max([-signed(other.mesh, points) for other in others], axis=0)
        assert np.quantile(depth, 0.99) < 0.002
        wall = np.min([np.abs(signed(other.mesh, points)) for other in others], axis=0) < 0.02
        assert wall.any()


def test_neighbours_follow_a_class_that_is_found_thin_by_its_surface() -> None:
    codes = np.zeros((18, 18, 40), np.uint8)
    codes[2:16, 2:16, 2:38] = 1
    codes[7:11, 7:11, 6:34] = 2  # keeps its voxels under the blur, but not its volume
    block, bar = surfaces_of(codes).classes
    assert (bar.crisp, bar.level) == (1, 0.4999)
    points = sample_surface(bar.mesh, 3000, np.random.default_rng(0)).points
    assert np.quantile(np.abs(signed(block.mesh, points)), 0.99) < 0.002


def test_owners_are_the_voxels_inside() -> None:
    surfaces = heart()
    index = np.argwhere(surfaces.owners >= 0)
    world = index @ surfaces.affine[:3, :3].T + surfaces.affine[:3, 3]
    owners = np.zeros(len(index), np.uint8)
    for surface in surfaces.classes:
        owners[signed(surface.mesh, world) < 0] = surface.code
    np.testing.assert_array_equal(owners, surfaces.owners.ravel())


def test_memory_order_and_repetition_change_nothing() -> None:
    codes = tube(3, (10, 12, 9), (40, 33, 41))
    first = class_surface(codes)
    second = class_surface(np.asfortranarray(codes))
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
        surfaces_of(np.zeros((8, 8, 8), np.uint8))
    assert refused.value.reason is Reason.EMPTY_LABELS


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="uint8"):
        surfaces_of(np.zeros((8, 8, 8), np.int64))
    with pytest.raises(ValueError, match="codes"):
        surfaces_of(255 * ball(16, 5))
    with pytest.raises(ValueError, match="smoothing"):
        surfaces_of(ball(16, 5), smoothing=-1)


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
    surfaces = surfaces_of(codes, image.affine)
    assert [surface.code for surface in surfaces.classes] == np.unique(codes)[1:].tolist()
    for surface in surfaces.classes:
        assert volume(surface.mesh) == pytest.approx((codes == surface.code).sum() * voxel, rel=0.101)
