from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from judges.furniture import chair
from judges.solids import box, torus
from shapestore.preprocess.geometry.edt_field import EdtField
from shapestore.preprocess.geometry.grid import cell_centres
from shapestore.preprocess.geometry.label_surface import class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.trilinear import trilinear
from shapestore.preprocess.raw import RawCloud, RawLabelMap
from shapestore.quality.check import Batch
from shapestore.quality.checks.field_laws import CHECK, _off
from shapestore.schemas.families import AnyFamily, UdfGrid
from shapestore.schemas.recipe import LabelsPart
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.specs import grid_spec
from tests.quality.helpers import batch_of, broken, measures, mesh_record, record_of, spoilt

Change = Callable[[np.ndarray], np.ndarray]

SMALL = (
    "points.count=512",
    "points.fps_order=0",
    "queries.count=3000",
    "queries.fps_order=0",
    "grid.size=24",
    "rays=null",
)
SIGNED = ("queries.signed=true", "grid.signed=true")

STEEP, SLOPE = "share of {} that is steeper than a distance", "slope of {} near the surface"
SWALLOWED = "share of the inside in {} with an outside too near"
MORE, LESS = "share of {} that is more than the way to {}", "share of {} that is less than the way to {}"
CELLS = "share of cells of {} that are steeper than a distance"
ON = "share of pc_xyz at which {} is not 0"
AT = "share of pt_xyz_pool at which {} disagrees"
NEAREST = "largest error of {} as the way to the nearest of pc_xyz"
READ = "largest error of pt_dist_udf_pool as read from udf_grid"


def mesh_batch(*settings: str) -> Batch:
    recipe = load_recipe("nepa-shapenet", [*SMALL, *settings])
    solids = (box((1, 2, 3)), torus(1.0, 0.4), chair())
    return batch_of([mesh_record(solid.mesh, recipe, str(i)) for i, solid in enumerate(solids)], recipe)


@pytest.fixture(scope="module")
def signed() -> Batch:
    return mesh_batch(*SIGNED)


@pytest.fixture(scope="module")
def unsigned() -> Batch:
    return mesh_batch()


def ball_map() -> RawLabelMap:
    """A ball with a bay, in a shell."""
    x, y, z = np.indices((36, 36, 36)) - 17.5
    radius = np.linalg.norm([x, y, z], axis=0)
    bay = (x > 0) & (y**2 + z**2 < 49)
    codes = np.select([bay, radius < 9, radius < 14], [0, 1, 2])
    return RawLabelMap(codes.astype(np.uint8), np.eye(4))


@pytest.fixture(scope="module")
def labels() -> Batch:
    counts = ("surface.count=4000", "volume.count=6000", "near.count=6000")
    classes = ("labels.scheme=mapping", "labels.classes={core: 1, shell: 2}")
    recipe = load_recipe("cardiac-sdf", [*classes, *counts])
    return batch_of([record_of(ball_map(), recipe, name) for name in ("a", "b")], recipe)


def scaled(factor: float) -> Change:
    return lambda values: factor * values


def neighbour(values: np.ndarray) -> np.ndarray:
    """Every row gets the values of another one."""
    return np.roll(values, 1, axis=0)


def row_of(batch: Batch, row: int) -> Batch:
    part = slice(row, row + 1)
    index = {name: values[part] for name, values in batch.index.items()}
    arrays = {name: values[part] for name, values in batch.arrays.items()}
    return replace(batch, rows=batch.rows[part], index=index, arrays=arrays)


@pytest.mark.parametrize(
    "settings",
    [
        SIGNED,
        (),
        ("queries.distance=sampled", "queries.reference_points=2048"),
        ("grid.udf=cloud", "points.blue_noise=true"),
        ("grid.udf=occupancy", "grid.dilate=0"),
        ("grid.udf=occupancy", "grid.dilate=2", "queries.order=uniform-first"),
        ("queries=null", "grid.signed=true"),
        ("grid=null", "queries.grid_distance=false", "queries.distance=cloud"),
    ],
)
def test_what_ingest_makes_keeps_every_law(settings: tuple[str, ...]) -> None:
    batch = mesh_batch(*settings)
    found = measures(CHECK, batch)
    assert broken(CHECK, batch) == {}
    assert found
    for name, each in found.items():
        expected = 1.0 if name.startswith("slope") else 0.0
        assert np.nan_to_num(each.values, nan=expected) == pytest.approx(expected, abs=0.1 if expected else 1e-6), name


def test_what_ingest_makes_of_label_maps_keeps_every_law(labels: Batch) -> None:
    found = measures(CHECK, labels)
    assert broken(CHECK, labels) == {}
    assert found[SLOPE.format("vol_sdf")].values == pytest.approx(1, abs=0.1)
    assert found[STEEP.format("vol_sdf")].values.max() == 0
    assert found[SWALLOWED.format("vol_sdf")].values.max() == 0


def test_a_scan_s_distances_are_those_to_its_points() -> None:
    recipe = load_recipe("nepa-scanobjectnn", ["points.count=300", "points.fps_order=0", "points.mask=false"])
    batch = batch_of([record_of(RawCloud(np.random.default_rng(0).normal(size=(300, 3))), recipe)], recipe)
    assert broken(CHECK, batch) == {}
    assert broken(CHECK, spoilt(batch, pt_dist_pool=scaled(1.001))) == {NEAREST.format("pt_dist_pool"): [0]}


def test_a_field_between_voxel_centres_has_slope_two_at_the_surface(labels: Batch) -> None:
    raw = ball_map()
    field = EdtField(raw.codes, raw.affine, class_surfaces(label_volume(raw.codes, raw.affine), 0.7).frame())

    def edt(tag: str) -> np.ndarray:
        points = labels.arrays[f"{tag}_points"]
        return field.signed(points.reshape(-1, 3)).sdf.reshape(points.shape[:2])

    spoiled = spoilt(labels, vol_sdf=lambda _: edt("vol"), near_sdf=lambda _: edt("near"))
    found = broken(CHECK, spoiled)
    for name in (SLOPE, STEEP, SWALLOWED):
        assert found[name.format("vol_sdf")] == [0, 1]
    assert found[MORE.format("vol_sdf", "surface_points")] == [0, 1]
    assert measures(CHECK, spoiled)[SLOPE.format("vol_sdf")].values.min() > 1.5
    asked = labels.recipe.model_copy(update={"labels": LabelsPart(scheme="single", distance="edt")})
    assert {each.severity for each in measures(CHECK, replace(spoiled, recipe=asked)).values()} == {"warning"}


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3, 2.0])
def test_a_slope_is_measured_and_its_faults_are_caught(signed: Batch, labels: Batch, factor: float) -> None:
    for batch, names in ((signed, ("pt_sdf_pool",)), (labels, ("vol_sdf", "near_sdf"))):
        steeper = spoilt(batch, **dict.fromkeys(names, scaled(factor)))
        slopes = measures(CHECK, steeper)[SLOPE.format(names[0])]
        assert slopes.values == pytest.approx(factor, rel=0.1)
        assert slopes.broken.all()


def test_a_slope_above_one_breaks_the_lipschitz_law_of_samples_and_cells(unsigned: Batch) -> None:
    steeper = broken(CHECK, spoilt(unsigned, pt_dist_pool=scaled(1.1), udf_grid=scaled(1.1)))
    assert steeper[STEEP.format("pt_dist_pool")] == [0, 1, 2]
    assert steeper[CELLS.format("udf_grid")] == [0, 1, 2]
    assert steeper[MORE.format("pt_dist_pool", "pc_xyz")] == [0, 1, 2]


def test_a_field_that_levels_off_is_less_than_the_way_to_the_surface(signed: Batch, unsigned: Batch) -> None:
    level = spoilt(unsigned, pt_dist_pool=lambda values: np.minimum(values, 0.1))
    assert broken(CHECK, level)[LESS.format("pt_dist_pool", "pc_xyz")] == [0, 1, 2]
    level = spoilt(signed, pt_sdf_pool=lambda values: np.clip(values, -0.1, 0.1))
    assert broken(CHECK, level)[LESS.format("pt_sdf_pool", "pc_xyz")] == [0, 1, 2]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_signs_flipped_at_random_are_caught(signed: Batch, labels: Batch, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def flip(share: float) -> Change:
        return lambda values: np.where(rng.random(values.shape) < share, -values, values)

    assert broken(CHECK, spoilt(signed, pt_sdf_pool=flip(0.03)))[STEEP.format("pt_sdf_pool")] == [0, 1, 2]
    assert broken(CHECK, spoilt(signed, sdf_grid=flip(0.05)))[CELLS.format("sdf_grid")] == [0, 1, 2]
    assert broken(CHECK, spoilt(labels, vol_sdf=flip(0.01)))[STEEP.format("vol_sdf")] == [0, 1]


def test_the_sign_of_one_of_two_sample_sets_contradicts_the_other(labels: Batch) -> None:
    for name in ("vol_sdf", "near_sdf"):
        found = broken(CHECK, spoilt(labels, **{name: np.negative}))
        assert found[STEEP.format("vol_sdf")] == [0, 1]
        assert found[SWALLOWED.format("vol_sdf")] == [0, 1]


def test_inside_blobs_in_empty_space_are_caught(labels: Batch, signed: Batch) -> None:
    """Inside is what is nearer to the centre than the surface beside it: it fills the bay."""

    def blob(points: np.ndarray, radius: float) -> Change:
        return lambda sdf: np.where(np.linalg.norm(points, axis=2) < radius, -np.abs(sdf), sdf)

    vol, near = labels.arrays["vol_points"], labels.arrays["near_points"]
    bay = spoilt(labels, vol_sdf=blob(vol, 0.6), near_sdf=blob(near, 0.6))
    assert broken(CHECK, bay)[SWALLOWED.format("vol_sdf")] == [0, 1]
    ring = spoilt(signed, pt_sdf_pool=blob(signed.arrays["pt_xyz_pool"], 0.4))
    assert 1 in broken(CHECK, ring)[SWALLOWED.format("pt_sdf_pool")]


@pytest.mark.parametrize("cells", [0.5, 1.0])
def test_a_field_that_is_shifted_against_its_surface_is_caught(labels: Batch, cells: float) -> None:
    step = np.float32(cells * labels.index["scale"][0]) * np.array([1, 0, 0], np.float32)
    moved = broken(CHECK, spoilt(labels, surface_points=lambda points: points + step))
    assert moved[MORE.format("vol_sdf", "surface_points")] == [0, 1]


def test_distances_of_another_shape_are_caught(signed: Batch, unsigned: Batch) -> None:
    found = broken(CHECK, spoilt(signed, pt_dist_pc_pool=neighbour))
    assert found == {NEAREST.format("pt_dist_pc_pool"): [0, 1, 2]}
    found = broken(CHECK, spoilt(signed, pt_sdf_pool=neighbour))
    for name in (STEEP, AT):
        assert found[name.format("pt_sdf_pool" if name == STEEP else "sdf_grid")] == [0, 1, 2]
    found = broken(CHECK, spoilt(unsigned, pt_xyz_pool=neighbour, pt_dist_pool=neighbour))
    more, less = (found.get(name.format("pt_dist_pool", "pc_xyz"), []) for name in (MORE, LESS))
    assert {*more, *less} == {0, 1, 2}
    found = broken(CHECK, spoilt(signed, udf_grid=neighbour, sdf_grid=neighbour))
    for name in ("udf_grid", "sdf_grid"):
        assert found[AT.format(name)] == [0, 1, 2]
        assert found[ON.format(name)] == [0, 1, 2]
    assert found[READ] == [0, 1, 2]


def test_sampled_distances_may_be_off_by_the_spacing_but_not_by_more() -> None:
    sampled = mesh_batch("queries.distance=sampled", "queries.reference_points=600")
    exact = replace(sampled, recipe=load_recipe("nepa-shapenet", SMALL))
    assert MORE.format("pt_dist_pool", "pc_xyz") in broken(CHECK, exact)
    assert broken(CHECK, sampled) == {}
    assert LESS.format("pt_dist_pool", "pc_xyz") in broken(CHECK, spoilt(sampled, pt_dist_pool=scaled(0.5)))


def test_a_cache_s_grid_is_taken_for_one_of_occupied_cells() -> None:
    batch = mesh_batch("grid.udf=occupancy")
    cache = replace(batch, recipe=batch.recipe.model_copy(update={"grid": None, "queries": None}))
    assert broken(CHECK, cache) == {}
    assert broken(CHECK, spoilt(cache, udf_grid=neighbour))[AT.format("udf_grid")] == [0, 1, 2]


def test_half_precision_grids_keep_the_laws(unsigned: Batch) -> None:
    def halved(family: AnyFamily) -> AnyFamily:
        if not isinstance(family, UdfGrid):
            return family
        return family.model_copy(update={"grid": family.grid.model_copy(update={"dtype": "float16"})})

    schema = unsigned.schema.model_copy(update={"families": tuple(map(halved, unsigned.schema.families))})
    half = replace(spoilt(unsigned, udf_grid=lambda grid: grid.astype(np.float16)), schema=schema)
    assert broken(CHECK, half) == {}


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_the_interpolation_bound_holds_for_any_lipschitz_field(size: int, seed: int) -> None:
    """Distances to random points are 1-Lipschitz, and signs of them as rough as such a field can be."""
    rng = np.random.default_rng(seed)
    sites, points = rng.uniform(-1, 1, (5, 3)), rng.uniform(-1, 1, (1, 200, 3))

    def field(at: np.ndarray) -> np.ndarray:
        return np.linalg.norm(at[..., None, :] - sites, axis=-1).min(axis=-1)

    grid = field(cell_centres(size)).reshape(size, size, size).astype(np.float32)
    read = trilinear(grid, points[0])[None].astype(np.float64)
    spec = grid_spec("udf_grid", size)
    assert _off(field(points), read, points, spec, 0.0) == pytest.approx(0)
    assert _off(field(points) + 4 / size, read, points, spec, 0.0) > 0.5


def test_rounding_of_a_half_precision_grid_is_allowed_for_at_cell_centres() -> None:
    at = cell_centres(8)[None]
    field = np.linalg.norm(at, axis=-1)
    stored = field.astype(np.float16).astype(np.float64)
    assert _off(field, stored, at, grid_spec("udf_grid", 8, "float16"), 0.0) == 0
    assert _off(field, stored, at, grid_spec("udf_grid", 8), 0.0) > 0.5


def test_values_that_are_not_finite_leave_their_row_without_a_number(signed: Batch, labels: Batch) -> None:
    def holed(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        flat[0, ::5], flat[0, 1::5] = np.nan, np.inf
        return values

    for batch in (signed, labels):
        names = [name for name, values in batch.arrays.items() if values.dtype == np.float32 and values.ndim > 1]
        for name in names:
            assert broken(CHECK, spoilt(batch, **{name: holed})) == {}, name
        everything = spoilt(batch, **dict.fromkeys(names, lambda values: np.full_like(values, np.nan)))
        assert np.isnan([each.values for each in measures(CHECK, everything).values()]).all()


def test_noise_is_caught_and_smoothing_is_not_noise(unsigned: Batch) -> None:
    rng = np.random.default_rng(0)
    noisy = spoilt(unsigned, udf_grid=lambda grid: np.abs(grid + rng.normal(0, 0.1, grid.shape)).astype(np.float32))
    assert broken(CHECK, noisy)[CELLS.format("udf_grid")] == [0, 1, 2]
    smooth = spoilt(unsigned, udf_grid=lambda grid: gaussian_filter(grid, (0, 1, 1, 1)))
    assert CELLS.format("udf_grid") not in broken(CHECK, smooth)


def test_meshes_may_be_open_and_label_maps_are_not(signed: Batch, unsigned: Batch, labels: Batch) -> None:
    bounds = {"steep": 0.001, "steep_open": 0.1, "swallowed": 0.002, "swallowed_open": 0.2}
    of_mesh, of_labels = measures(CHECK, signed, **bounds), measures(CHECK, labels, **bounds)
    assert [of_mesh[name.format("pt_sdf_pool")].high for name in (STEEP, SWALLOWED)] == [0.1, 0.2]
    assert of_mesh[CELLS.format("sdf_grid")].high == 0.1
    assert [of_labels[name.format("vol_sdf")].high for name in (STEEP, SWALLOWED)] == [0.001, 0.002]
    assert measures(CHECK, unsigned, **bounds)[STEEP.format("pt_dist_pool")].high == 0.001
    assert of_mesh[CELLS.format("udf_grid")].high == 0.001


def test_bounds_can_be_set(labels: Batch) -> None:
    steeper = spoilt(labels, vol_sdf=scaled(2), near_sdf=scaled(2))
    lenient = {"steep": 1.0, "swallowed": 1.0, "slope_high": 3.0, "amiss": 1.0}
    assert set(broken(CHECK, steeper)) == {name for name, each in measures(CHECK, steeper).items() if each.broken.any()}
    assert broken(CHECK, steeper, **lenient) == {}
    assert LESS.format("vol_sdf", "surface_points") in broken(CHECK, labels, spacing=0.1)


def test_the_numbers_do_not_depend_on_the_batch(signed: Batch, labels: Batch) -> None:
    for batch in (signed, labels):
        whole = measures(CHECK, batch)
        for row in range(len(batch)):
            for name, alone in measures(CHECK, row_of(batch, row)).items():
                np.testing.assert_array_equal(alone.values, whole[name].values[row : row + 1])
