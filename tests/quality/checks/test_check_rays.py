from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from judges.damage import double_sided, flip, invert
from judges.furniture import assembly, bathtub, chair, sail_plane, shelf, table
from shapestore.quality.check import Batch
from shapestore.quality.checks.rays import CHECK
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from tests.quality.helpers import batch_of, broken, measures, mesh_record, spoilt

RECIPE = load_recipe(
    "nepa-shapenet",
    ["points.fps_order=0", "rays.count=4000", "rays.rays_per_view=200", "grid.size=32", "queries=null"],
)
NORMALS = "share of hits in {} with a normal of the surface"
FACING = "share of hits in {} with a normal that faces the ray"
HITS = "share of {} that hits"
MISSES = "share of misses of {} with a depth or a normal"
ON_GRID = "largest udf_grid at hits by ray_t_pool"
ON_CELLS = "largest distance of hits by ray_t_pc_pool from the nearest surface point"
IN_SPACINGS = "distance of hits by ray_t_pool from the surface points"
RAYS = ("ray_hit_pool", "ray_t_pool", "ray_n_pool")
CELL_RAYS = ("ray_hit_pc_pool", "ray_t_pc_pool", "ray_n_pc_pool")

SOLIDS = (chair(), table(), shelf(), bathtub())


def batch_with(recipe: Recipe) -> Batch:
    return batch_of([mesh_record(solid.mesh, recipe, solid.name) for solid in SOLIDS], recipe)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_with(RECIPE)


@pytest.fixture(scope="module")
def by_points() -> Batch:
    """A store that says nothing exact of its surface: hits are compared with its points."""
    return batch_with(load_recipe("nepa-shapenet", ["points.fps_order=0", "grid.udf=occupancy", "queries=null"]))


def of_next_row(values: np.ndarray) -> np.ndarray:
    return np.roll(values, -1, axis=0)


def flipped(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda normals: normals * np.where(np.arange(3) == axis, -1, 1).astype(np.float32)


def test_rays_of_ingest_are_sound(batch: Batch, by_points: Batch) -> None:
    assert not broken(CHECK, batch)
    assert not broken(CHECK, by_points)


def test_the_exact_grid_reads_at_most_half_the_diagonal_of_a_cell_at_any_hit(batch: Batch) -> None:
    values = measures(CHECK, batch, hits=10_000)[ON_GRID].values
    assert ((values > 0) & (values <= np.sqrt(3) / 2)).all()


@pytest.mark.parametrize("dilate", [0, 1, 2])
def test_rays_enter_cells_within_reach_of_a_point(dilate: int) -> None:
    recipe = RECIPE.model_copy(update={"grid": RECIPE.grid.model_copy(update={"dilate": dilate})})
    found = measures(CHECK, batch_of([mesh_record(SOLIDS[0].mesh, recipe)], recipe), hits=10_000)[ON_CELLS]
    assert 0.7 * found.high < found.values[0] <= found.high == pytest.approx(np.sqrt((dilate + 1) ** 2 + 2), abs=2e-3)


@pytest.mark.parametrize("damage", [double_sided, lambda mesh: flip(mesh, 0.5, 0)], ids=["doubled", "wound at random"])
def test_meshes_as_they_are_found_raise_nothing(damage: Callable[..., object]) -> None:
    solids = (*SOLIDS, sail_plane(), assembly(0))
    records = [mesh_record(damage(solid.mesh), RECIPE, solid.name) for solid in solids]  # type: ignore[arg-type]
    assert not broken(CHECK, batch_of(records, RECIPE))


def test_a_mesh_that_is_inside_out_is_a_warning() -> None:
    batch = batch_of([mesh_record(mesh, RECIPE) for mesh in (SOLIDS[0].mesh, invert(SOLIDS[0].mesh))], RECIPE)
    assert broken(CHECK, batch) == {FACING.format("ray_n_pool"): [1]}
    assert measures(CHECK, batch)[FACING.format("ray_n_pool")].severity == "warning"


def test_rays_of_another_shape_are_caught(batch: Batch, by_points: Batch) -> None:
    found = broken(CHECK, spoilt(batch, **dict.fromkeys(RAYS + CELL_RAYS, of_next_row)))
    assert found[ON_GRID] == found[ON_CELLS] == [0, 1, 2, 3]
    assert broken(CHECK, spoilt(by_points, **dict.fromkeys(RAYS, of_next_row)))[IN_SPACINGS] == [0, 1, 2, 3]


@pytest.mark.parametrize("factor", [0.95, 1.05, 2.0])
def test_depths_in_another_unit_are_caught(batch: Batch, factor: float) -> None:
    found = broken(CHECK, spoilt(batch, ray_t_pool=lambda t: t * factor, ray_t_pc_pool=lambda t: t * factor))
    assert found[ON_GRID] == found[ON_CELLS] == [0, 1, 2, 3]


@pytest.mark.parametrize("axis", range(3))
def test_a_flipped_axis_of_normals_is_caught(batch: Batch, axis: int) -> None:
    names = {"ray_n_pool": flipped(axis), "ray_n_pc_pool": flipped(axis)}
    found = broken(CHECK, spoilt(batch, **names))
    assert set(found) == {NORMALS.format(name) for name in names}
    assert all({0, 3} <= set(rows) for rows in found.values())


def test_normals_of_no_surface_are_caught(batch: Batch) -> None:
    found = broken(CHECK, spoilt(batch, ray_n_pool=lambda n: n[:, ::-1], ray_n_pc_pool=lambda n: n[:, ::-1]))
    assert set(found) >= {NORMALS.format("ray_n_pool"), NORMALS.format("ray_n_pc_pool")}


@pytest.mark.parametrize("share", [0, 1])
def test_rays_that_all_do_the_same_are_caught(batch: Batch, share: int) -> None:
    found = broken(CHECK, spoilt(batch, ray_hit_pc_pool=lambda hit: np.full_like(hit, share)))
    assert found[HITS.format("ray_hit_pc_pool")] == [0, 1, 2, 3]


@pytest.mark.parametrize("array", ["ray_t_pool", "ray_n_pool"])
def test_a_miss_that_holds_a_number_is_caught(batch: Batch, array: str) -> None:
    def held(values: np.ndarray) -> np.ndarray:
        miss = int(np.flatnonzero(batch.arrays["ray_hit_pool"][2] == 0)[-1])
        values[2, miss] = 3
        return values

    assert broken(CHECK, spoilt(batch, **{array: held})) == {MISSES.format("ray_hit_pool"): [2]}


def test_rows_without_a_hit_or_with_nan_have_no_distance(batch: Batch) -> None:
    def no_hits(hit: np.ndarray) -> np.ndarray:
        hit[0] = 0
        return hit

    def nan(values: np.ndarray) -> np.ndarray:
        values[1] = np.nan
        values[2] = np.inf
        return values

    def along_x(directions: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.array([1, 0, 0], np.float32), directions.shape)

    broken(CHECK, spoilt(batch, ray_t_pool=nan, ray_d_pool=along_x))  # infinity times 0
    changed = spoilt(batch, ray_hit_pool=no_hits, ray_t_pool=nan, pc_xyz=nan)
    found = measures(CHECK, changed)
    for name in (ON_GRID, NORMALS.format("ray_n_pool")):
        assert np.isnan(found[name].values).tolist() == [True, True, True, False]
    assert np.isnan(found[ON_CELLS].values).tolist() == [False, True, True, False]
    assert np.isnan(found[FACING.format("ray_n_pool")].values).tolist() == [True, False, False, False]


def test_a_cache_is_warned_of(batch: Batch) -> None:
    shapes = {"pc_xyz": [2048, 3], "ray_o_pool": [4000, 3], "ray_hit_pool": [4000], "ray_t_pool": [4000]}
    cache = Recipe.model_validate({"input": ["cache"], "cache": {"layout": "nepa-mesh", "shapes": shapes}})
    found = measures(CHECK, replace(spoilt(batch, ray_t_pool=of_next_row), recipe=cache))
    assert found[IN_SPACINGS].broken.any()
    assert {each.severity for name, each in found.items() if each.broken.any()} == {"warning"}
    assert found[ON_CELLS].severity == "warning"
    assert found[ON_CELLS].values.max() < 2.45, "the size of the cells is that of the stored grid"


def test_numbers_do_not_depend_on_how_rows_are_batched(batch: Batch) -> None:
    whole = measures(CHECK, batch, hits=100)
    for row in range(len(batch)):
        one = replace(
            batch,
            rows=batch.rows[row : row + 1],
            index={name: values[row : row + 1] for name, values in batch.index.items()},
            arrays={name: values[row : row + 1] for name, values in batch.arrays.items()},
        )
        for name, each in measures(CHECK, one, hits=100).items():
            np.testing.assert_array_equal(each.values[0], whole[name].values[row])


def test_settings_reach_the_bounds(batch: Batch, by_points: Batch) -> None:
    found = measures(CHECK, batch, off_grid=0.1, same_normal=1, facing=0.5)
    assert found[ON_GRID].high == 0.1
    assert found[NORMALS.format("ray_n_pool")].low == found[NORMALS.format("ray_n_pc_pool")].low == 1
    assert found[FACING.format("ray_n_pool")].low == 0.5
    assert measures(CHECK, by_points, spacings=3)[IN_SPACINGS].high == 3
