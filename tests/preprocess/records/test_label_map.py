"""Label maps as records: balls of known place and size in the world, streams, quotas, notes, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.edt_field import EdtField
from shapestore.preprocess.raw import RawLabelMap
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.records.label_map import from_label_map
from shapestore.preprocess.source import SourceItem
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import ShapeRecord

PARTS: dict[str, dict[str, Any]] = {
    "surface": {"count": 300, "per_class_minimum": 40},
    "volume": {"count": 301, "inside_ratio": 0.4, "per_class_minimum": 20},
    "near": {"count": 299, "sigma": 0.02},
}
TURN = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
GRIDS = {
    "isotropic": (np.eye(3), (48, 48, 48)),
    "anisotropic": (np.diag([1.25, 1.25, 2.7]), (40, 40, 22)),
    "flipped": (np.diag([-1.0, 1.0, 1.0]), (48, 48, 48)),
    "oblique": (TURN @ np.diag([-1.25, 1.0, 2.0]), (42, 50, 28)),
    "sheared": (np.array([[1, 0.2, 0], [0, 1, 0.1], [0, 0, 1]]), (54, 54, 54)),
}


def recipe(classes: int = 2, smoothing: float = 0.7, **parts: dict[str, Any]) -> Recipe:
    """Classes c1, c2, ... of the values 1, 2, ..., with the given parts."""
    labels = {"scheme": "mapping", "classes": {f"c{v}": v for v in range(1, classes + 1)}, "smoothing": smoothing}
    return Recipe.model_validate({"input": ["label_map"], "labels": labels, **parts})


def record(raw: RawLabelMap, made_by: Recipe) -> ShapeRecord:
    item = SourceItem(shape_id="case", path="case.nii", group="case")
    return build_record(raw, item, "0" * 64, made_by, schema_of(made_by))


def world(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(X, Y, Z, 3) positions of the voxel centres."""
    return np.stack(np.indices(shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]


def balls(affine: NDArray[np.float64], shape: tuple[int, ...], *spheres: tuple[Any, float]) -> RawLabelMap:
    """A map in which the n-th ball (centre and radius, mm) has the code n."""
    codes = np.zeros(shape, np.uint8)
    for code, (centre, radius) in enumerate(spheres, start=1):
        codes[np.linalg.norm(world(affine, shape) - centre, axis=-1) < radius] = code
    return RawLabelMap(codes, affine)


def two_balls() -> RawLabelMap:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    return balls(affine, (36, 22, 22), ((10.2, 10.7, 10.4), 7.3), ((26.1, 10.9, 10.8), 5.2))


@pytest.mark.parametrize("grid", GRIDS)
def test_a_ball_is_where_and_as_large_as_it_is_in_the_world(grid: str) -> None:
    linear, shape = GRIDS[grid]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, (-120.0, 33.0, 410.0)
    centre = world(affine, shape)[tuple(n // 2 for n in shape)] + (0.31, -0.22, 0.17)
    parts = {name: part | {"count": 3000} for name, part in PARTS.items()}
    computed = from_label_map(balls(affine, shape, (centre, 20.3)), recipe(1, **parts), seed=5)
    voxel, longest = np.cbrt(abs(np.linalg.det(linear))), np.linalg.norm(linear, axis=0).max()

    def off_sphere(points: str) -> NDArray[np.float64]:
        raw = computed.frame.invert(computed.arrays[points])
        return np.asarray(np.linalg.norm(raw - centre, axis=1) - 20.3)

    error = off_sphere("surface_points")
    assert abs(error.mean()) < 0.1 * voxel
    assert np.abs(error).max() < 0.5 * longest
    middle = computed.frame.invert(computed.arrays["surface_points"]).mean(axis=0)
    assert np.linalg.norm(middle - centre) < 0.05 * 20.3  # 3000 even samples: a standard error of 1 % of the radius
    for tag in ("vol", "near"):
        sdf, labels = computed.arrays[f"{tag}_sdf"], computed.arrays[f"{tag}_labels"]
        difference = sdf / computed.frame.scale - off_sphere(f"{tag}_points")
        assert abs(difference.mean()) < 0.1 * voxel
        assert np.abs(difference).max() < 0.5 * longest
        assert np.array_equal(labels, (sdf < 0).astype(np.int8))


@given(kept=st.sets(st.sampled_from(sorted(PARTS)), min_size=1), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=15, deadline=None)
def test_every_part_has_a_stream_of_its_own(kept: set[str], seed: int) -> None:
    raw = two_balls()
    full = from_label_map(raw, recipe(**PARTS), seed).arrays
    some = from_label_map(raw, recipe(**{name: PARTS[name] for name in sorted(kept)}), seed).arrays
    # The near points are shared out as the surface part says, so they belong together.
    same = [name for name in some if "surface" in kept or not name.startswith("near")]
    assert set(some) == set(schema_of(recipe(**{name: PARTS[name] for name in kept})).by_name)
    assert all(some[name].tobytes() == full[name].tobytes() for name in same)


def test_near_points_do_not_start_at_the_surface_points() -> None:
    parts = {"surface": PARTS["surface"], "near": {"count": 300, "sigma": 1e-9}}
    arrays = from_label_map(two_balls(), recipe(**parts), 3).arrays
    gaps = np.linalg.norm(arrays["near_points"][:, None] - arrays["surface_points"], axis=2).min(axis=1)
    assert np.median(gaps) > 1e-3


def test_bytes_follow_from_map_recipe_and_seed_alone() -> None:
    raw, made_by = two_balls(), recipe(**PARTS)
    first = from_label_map(raw, made_by, 7).arrays
    turned = RawLabelMap(np.asfortranarray(raw.codes), raw.affine)
    again, other = from_label_map(turned, made_by, 7).arrays, from_label_map(raw, made_by, 8).arrays
    for name in first:
        assert first[name].tobytes() == again[name].tobytes(), name
        assert name == "class_voxels" or first[name].tobytes() != other[name].tobytes(), name


@given(present=st.sets(st.integers(1, 5), min_size=1))
@settings(max_examples=20, deadline=None)
def test_records_of_any_classes_are_valid_and_name_the_absent(present: set[int]) -> None:
    codes = np.zeros((30, 8, 8), np.uint8)
    for code in present:
        codes[6 * code - 5 : 6 * code - 1, 2:6, 2:6] = code
    made = record(RawLabelMap(codes, np.diag([-2.0, 2.0, 2.0, 1.0]), ("assumed this",)), recipe(5, **PARTS))
    absent = [f"class absent: c{code}" for code in range(1, 6) if code not in present]
    assert made.notes[: 1 + len(absent)] == ("assumed this", *absent)
    assert np.array_equal(made.arrays["class_voxels"], np.bincount(codes.ravel(), minlength=6)[1:])
    assert made.arrays["class_voxels"].dtype == np.int32
    for name in ("surface_labels", "vol_labels", "near_labels"):
        assert set(made.arrays[name].tolist()) - {0} == present
    assert np.linalg.norm(made.arrays["surface_points"], axis=1).max() <= 1 + 1e-6


def test_points_are_shared_out_as_the_recipe_says() -> None:
    arrays = from_label_map(two_balls(), recipe(**PARTS), 3).arrays
    surface, near, volume = (np.bincount(arrays[f"{tag}_labels"], minlength=3) for tag in ("surface", "near", "vol"))
    assert surface[0] == 0
    assert surface.sum() == 300
    assert surface.min(initial=300, where=[False, True, True]) > 40  # the minimum, and a share of the rest
    assert volume[0] == 301 - round(0.4 * 301)
    assert abs(near[0] - 299 / 2) <= 1


def test_a_minimum_that_the_points_do_not_suffice_for_shrinks_to_the_even_share() -> None:
    greedy = {name: part | ({} if name == "near" else {"per_class_minimum": 2000}) for name, part in PARTS.items()}
    arrays = from_label_map(two_balls(), recipe(**greedy), 3).arrays
    assert np.bincount(arrays["surface_labels"]).tolist() == [0, 150, 150]
    assert np.bincount(arrays["vol_labels"]).tolist() == [181, 60, 60]
    assert np.bincount(arrays["near_labels"])[1:].min() >= 70  # by areas alone, the small ball would have 50 of 149


def test_a_thin_class_is_not_smoothed_and_named() -> None:
    raw = two_balls()
    raw.codes[2:34, 20, 20] = 3
    notes = from_label_map(raw, recipe(3, surface=PARTS["surface"]), 0).notes
    assert notes == ("surface of c3: mask not smoothed, it is too thin",)
    assert from_label_map(raw, recipe(3, 0.0, surface=PARTS["surface"]), 0).notes == ()


def test_the_named_mode_measures_between_voxels() -> None:
    raw = two_balls()
    labels = {"scheme": "mapping", "classes": {"c1": 1, "c2": 2}, "distance": "edt"}
    made_by = Recipe.model_validate({"input": ["label_map"], "labels": labels, **PARTS})
    edt, true = record(raw, made_by).arrays, record(raw, recipe(**PARTS)).arrays
    assert edt["surface_points"].tobytes() == true["surface_points"].tobytes()
    assert np.bincount(edt["vol_labels"])[0] == np.bincount(true["vol_labels"])[0]
    computed = from_label_map(raw, made_by, 0)
    field = EdtField(raw.codes, raw.affine, computed.frame)
    for tag in ("vol", "near"):
        assert np.array_equal(field.signed(computed.arrays[f"{tag}_points"]).sdf, computed.arrays[f"{tag}_sdf"])
    assert not np.array_equal(edt["near_sdf"], true["near_sdf"])


def test_a_map_without_classes_is_refused() -> None:
    empty = RawLabelMap(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    with pytest.raises(InputRefused) as refused:
        from_label_map(empty, recipe(**PARTS), 0)
    assert refused.value.reason is Reason.EMPTY_LABELS


def test_a_code_without_class_is_an_error_of_the_source() -> None:
    with pytest.raises(ValueError, match="code 2 in a map of 1 classes"):
        from_label_map(two_balls(), recipe(1, **PARTS), 0)


def test_the_raw_labels_are_kept_over_the_cube_where_they_are_asked_for() -> None:
    made_by = recipe(2, **PARTS)
    raw = balls(np.diag([1.0, 1.0, 1.0, 1.0]), (40, 40, 40), ([14, 20, 20], 8), ([27, 20, 20], 4))
    labels = made_by.labels.model_copy(update={"grid": 32}) if made_by.labels else None
    with_grid = record(raw, made_by.model_copy(update={"labels": labels}))
    grid = with_grid.arrays["label_grid"]
    assert grid.shape == (32, 32, 32)
    scale = with_grid.provenance.scale
    for code, radius in ((1, 8), (2, 4)):
        volume = np.count_nonzero(grid == code) * (2 / 32 / scale) ** 3
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.15)
    assert "label_grid" not in record(raw, made_by).arrays
