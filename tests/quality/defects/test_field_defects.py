"""Distances that are no distances to this surface: fabricated, too steep, of another shape, in another unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from shapestore import api
from shapestore.preprocess.geometry.edt_field import EdtField
from shapestore.preprocess.geometry.label_samples import SignedField
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.raw import RawLabelMap
from shapestore.preprocess.source import SourceItem, load_source
from shapestore.store.reader import Store
from tests.quality.defects.conftest import FEW_SAMPLES, Made
from tests.quality.defects.spoil import Arrays, Change, spoil, swapped, values_of
from tests.quality.defects.verdict import assert_caught, examine

TAGS = ("vol", "near")


def raw_map(made: Made, store: Store, row: int) -> RawLabelMap:
    source, shape_id = (str(store.index(name)[row]) for name in ("source", "shape_id"))
    read = load_source(made.kind).read(made.raw, SourceItem(shape_id, source, shape_id), store.root.recipe)
    assert isinstance(read, RawLabelMap)
    return read


def field_of(raw: RawLabelMap, store: Store, kind: type[SignedField]) -> SignedField:
    assert store.root.recipe.labels is not None
    surfaces = class_surfaces(label_volume(raw.codes, raw.affine), store.root.recipe.labels.smoothing)
    frame = surfaces.frame()
    return LabelField(surfaces, frame) if kind is LabelField else EdtField(raw.codes, raw.affine, frame)


def of_shifted_grid(made: Made, voxels: float) -> Change:
    """Distances and labels as they are some voxels along all axes away: an index rounded where it should be floored."""

    def change(store: Store, row: int) -> Arrays:
        raw = raw_map(made, store, row)
        offset = raw.affine[:3, :3] @ np.full(3, voxels) * store.index("scale")[row]
        return sampled(store, row, field_of(raw, store, LabelField), offset)

    return change


def of_voxel_centres(made: Made) -> Change:
    """Distances by a pair of distance transforms: right far away, of slope 2 at the surface (seeds 4.2)."""
    return lambda store, row: sampled(store, row, field_of(raw_map(made, store, row), store, EdtField))


def sampled(store: Store, row: int, field: SignedField, offset: np.ndarray | float = 0.0) -> Arrays:
    changed: dict[str, np.ndarray] = {}
    for tag in TAGS:
        values = field.signed(store.row(f"{tag}_points", row) + offset)
        changed |= {f"{tag}_sdf": values.sdf, f"{tag}_labels": values.labels}
    return changed


def blobs(store: Store, row: int) -> Arrays:
    """Volume samples by the depth-ratio rule: inside a class is what is nearer to its centroid than .85 of the nearest
    surface point is.

    Round structures come out about right; the hollows of bent ones are filled (seeds 4.7, 4.8). Half of the samples are
    inside, distances are those to the surface, labels agree with signs, training and validation with each other.
    """
    surface, owner = store.row("surface_points", row), store.row("surface_labels", row)
    rng, count = np.random.default_rng(row), len(store.row("vol_points", row))
    points = rng.uniform(-1, 1, (20 * count, 3)).astype(np.float32)
    codes = np.unique(owner)
    signed = np.stack([by_depth_ratio(points, surface[owner == code]) for code in codes])
    sdf, nearest = signed.min(axis=0), codes[signed.argmin(axis=0)]
    chosen = np.concatenate([np.flatnonzero(side)[: count // 2] for side in (sdf < 0, sdf >= 0)])
    chosen = rng.permutation(chosen)
    return {
        "vol_points": points[chosen],
        "vol_sdf": sdf[chosen],
        "vol_labels": np.where(sdf < 0, nearest, 0)[chosen],
    }


def by_depth_ratio(points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Distance to one structure, negative where the rule says inside."""
    distance, nearest = cKDTree(surface).query(points)
    depth, reach = (np.linalg.norm(each - surface.mean(axis=0), axis=1) for each in (points, surface[nearest]))
    return np.where(depth < 0.85 * reach, -distance, distance).astype(np.float32)


def to_other_surface(store: Store, row: int) -> Arrays:
    """Distances from this row's queries to the next row's points, each named one alike."""
    pool, other = store.row("pt_xyz_pool", row), store.row("pc_xyz", (row + 1) % len(store))
    distance = cKDTree(other).query(pool)[0].astype(np.float32)
    if "pt_sdf_pool" not in store:
        return {"pt_dist_pool": distance}
    return {
        "pt_dist_pool": distance,
        "pt_dist_pc_pool": distance,
        "pt_sdf_pool": np.copysign(distance, store.row("pt_sdf_pool", row)),
    }


def cloud_of_other_row(store: Store, row: int) -> Arrays:
    """Only the distance to the cloud is that of another cloud."""
    other = store.row("pc_xyz", (row + 1) % len(store))
    return {"pt_dist_pc_pool": cKDTree(other).query(store.row("pt_xyz_pool", row))[0]}


def in_millimetres(store: Store, row: int) -> Arrays:
    """Distances as the voxel grid has them, positions normalised."""
    scale = store.index("scale")[row]
    return {f"{tag}_sdf": store.row(f"{tag}_sdf", row) / scale for tag in TAGS}


ROWS = [1, 4]


@pytest.mark.parametrize("change", [blobs, in_millimetres], ids=["blobs in empty space", "distances in millimetres"])
def test_fabricated_distances_of_label_maps_are_caught(change: Change, hearts: Made, tmp_path: Path) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", change, ROWS)
    assert_caught(examine(store, hearts.raw), "field-laws", "distance-truth", rows=ROWS)


def test_distances_of_slope_two_are_caught(hearts: Made, tmp_path: Path) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", of_voxel_centres(hearts), ROWS)
    assert_caught(examine(store), "field-laws", rows=ROWS)


def test_a_field_shifted_by_half_a_voxel_is_caught_by_the_raw_map(hearts: Made, tmp_path: Path) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", of_shifted_grid(hearts, 0.5), ROWS)
    assert_caught(examine(store, hearts.raw), "distance-truth", rows=ROWS)


def test_a_field_of_real_maps_shifted_by_half_a_voxel_is_caught(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "cardiac" / "heart-segmentation-monai"
    atria = Made("cardiac", raw, tmp_path, ("labels.scheme=single", *FEW_SAMPLES)).again(raw, tmp_path / "h.zarr")
    store = spoil(atria.store, tmp_path / "s.zarr", of_shifted_grid(atria, 0.5))
    assert_caught(examine(store, raw), "field-laws", "distance-truth", rows=range(2))


def test_a_field_shifted_by_one_voxel_is_caught_with_and_without_the_raw_map(hearts: Made, tmp_path: Path) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", of_shifted_grid(hearts, 1.0), ROWS)
    verdict = examine(store, hearts.raw)
    assert_caught(verdict, "field-laws", "distance-truth", rows=ROWS)


@pytest.mark.parametrize("name", ["meshes", "scans"])
def test_distances_from_the_wrong_cloud_are_caught(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    healthy: Made = request.getfixturevalue(name)
    store = spoil(healthy.store, tmp_path / "s.zarr", to_other_surface, ROWS)
    assert_caught(examine(store, healthy.raw), "field-laws", "distance-truth", rows=ROWS)


def test_distances_to_the_cloud_alone_that_are_of_another_cloud_are_caught(meshes: Made, tmp_path: Path) -> None:
    store = spoil(meshes.store, tmp_path / "s.zarr", cloud_of_other_row, ROWS)
    assert_caught(examine(store), "field-laws", rows=ROWS)


@pytest.mark.parametrize("array", ["pt_dist_pool", "udf_grid"])
def test_distances_in_cells_are_caught(array: str, meshes: Made, tmp_path: Path) -> None:
    cells: dict[str, Callable[[np.ndarray], np.ndarray]] = {array: lambda values: values * 32}
    if array == "pt_dist_pool":
        cells["pt_sdf_pool"] = cells[array]
    store = spoil(meshes.store, tmp_path / "s.zarr", values_of(**cells), ROWS)
    assert_caught(examine(store), "field-laws", rows=ROWS)


@pytest.mark.parametrize(
    ("name", "order"), [("meshes", "pc_fps_order"), ("meshes", "pt_fps_order"), ("scans", "pc_fps_order")]
)
def test_an_order_of_another_pool_is_caught(
    name: str, order: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    healthy: Made = request.getfixturevalue(name)
    store = spoil(healthy.store, tmp_path / "s.zarr", swapped([order], lambda row: row + 1), ROWS)
    assert_caught(examine(store), "fps-law", rows=ROWS)


@pytest.mark.parametrize("returns", ["ray_n_pool", "ray_n_pc_pool"])
def test_ray_normals_with_z_flipped_are_caught(returns: str, meshes: Made, tmp_path: Path) -> None:
    store = spoil(meshes.store, tmp_path / "s.zarr", values_of(**{returns: lambda n: n * [1, 1, -1]}), ROWS)
    assert_caught(examine(store), "rays", rows=ROWS)


@pytest.mark.parametrize("name", ["meshes", "scans", "hearts"])
def test_values_that_are_not_finite_are_caught_and_stop_no_check(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Every row has them in another array."""
    healthy: Made = request.getfixturevalue(name)
    opened = api.open(healthy.store)
    floats = [spec.name for spec in opened.root.content.data_arrays if spec.dtype.startswith("float")]
    spoilt = dict(zip(opened.rows().tolist()[1:], floats, strict=False))

    def change(store: Store, row: int) -> Arrays:
        values = store.row(spoilt[row], row).copy()
        values[::50], values[25::50] = np.nan, np.inf
        return {spoilt[row]: values}

    store = spoil(healthy.store, tmp_path / "s.zarr", change, spoilt)
    verdict = examine(store, healthy.raw)
    assert_caught(verdict, "schema", rows=spoilt)
    assert {(each.row, each.place) for each in verdict.of("schema")} >= set(spoilt.items())
    assert not [each for each in verdict.result.findings if "the check failed" in each.message], str(verdict)
