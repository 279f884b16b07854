from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.furniture import chair, table
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.quality.check import Batch
from shapestore.quality.checks.fps_law import CHECK
from shapestore.schemas.families import FpsOrder, Points
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.specs import order_family, points_spec
from shapestore.schemas.store_schema import StoreSchema
from tests.quality.helpers import batch_of, broken, measures, mesh_record, spoilt

RECIPE = load_recipe(
    "nepa-shapenet", ["points.count=512", "points.fps_order=512", "queries.count=3000", "queries.fps_order=400"]
).model_copy(update={"rays": None})

START = "how far the start of {} falls short of the point farthest from the centroid"
GROWTH = "largest growth of the distances along {}"
NEXT = "how far the next of {} falls short of the farthest point"


@pytest.fixture(scope="module")
def batch() -> Batch:
    records = [mesh_record(solid.mesh, RECIPE, solid.name) for solid in (chair(), table(), chair())]
    return batch_of(records, RECIPE)


def cloud_batch(pools: np.ndarray, orders: np.ndarray) -> Batch:
    """Rows of one pool and one order each."""
    size, length = pools.shape[1], orders.shape[1]
    schema = StoreSchema(
        families=(
            Points(points=points_spec("pc_xyz", size, "points", "points")),
            order_family("pc_fps_order", "pc_xyz", size, length),
        )
    )
    rows = np.arange(len(pools))
    return Batch(schema, load_recipe("points"), rows, {"seed": rows + 7}, {"pc_xyz": pools, "pc_fps_order": orders})


def pool_of(seed: int, size: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.5, 0.5, (size, 3))
    if kind == "duplicates":
        points = points[rng.integers(0, max(1, size // 4), size)]
    if kind == "lattice":
        points = rng.integers(-2, 3, (size, 3)) / 4
    return points.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 300),
    kind=st.sampled_from(["random", "duplicates", "lattice"]),
    part=st.floats(0, 1),
)
def test_every_farthest_point_order_keeps_the_law(seed: int, size: int, kind: str, part: float) -> None:
    pool = pool_of(seed, size, kind)
    order = farthest_point_order(pool, max(1, round(part * size)))
    found = measures(CHECK, cloud_batch(pool[None], order[None]))
    assert all(each.values[0] <= 1e-6 for each in found.values()), found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(100, 400))
def test_the_order_of_another_pool_of_the_same_size_is_far_from_the_law(seed: int, size: int) -> None:
    order = farthest_point_order(pool_of(seed + 1, size, "random"), size)
    found = measures(CHECK, cloud_batch(pool_of(seed, size, "random")[None], order[None]))
    assert found[NEXT.format("pc_fps_order")].values[0] > 0.1
    assert found[GROWTH.format("pc_fps_order")].values[0] > 0.05


def test_orders_of_ingest_keep_the_law(batch: Batch) -> None:
    assert not broken(CHECK, batch, tolerance=1e-6)


@pytest.mark.parametrize("name", ["pc_fps_order", "pt_fps_order"])
def test_the_order_of_another_row_is_caught_in_that_row_alone(batch: Batch, name: str) -> None:
    def of_another(orders: np.ndarray) -> np.ndarray:
        orders[1] = orders[0]
        return orders

    found = broken(CHECK, spoilt(batch, **{name: of_another}))
    assert found[NEXT.format(name)] == found[GROWTH.format(name)] == [1]
    assert all(rows == [1] for rows in found.values())


def test_an_order_over_the_first_points_only_is_caught() -> None:
    """A pool that grew after its order was made: distances never grow, and every prefix leaves a part out."""
    left = pool_of(0, 200, "random") - [1, 0, 0]
    pool = np.concatenate([left, pool_of(1, 200, "random")]).astype(np.float32)
    found = broken(CHECK, cloud_batch(pool[None], farthest_point_order(left, 200)[None]))
    assert list(found) == [START.format("pc_fps_order"), NEXT.format("pc_fps_order")]


def test_a_shuffled_order_is_caught(batch: Batch) -> None:
    found = broken(CHECK, spoilt(batch, pt_fps_order=lambda orders: orders[:, ::-1]))
    assert found[NEXT.format("pt_fps_order")] == [0, 1, 2]


def test_another_start_is_an_error_of_ours_and_a_warning_of_a_cache() -> None:
    pool = pool_of(3, 200, "random")
    centred = pool - pool.mean(axis=0)
    nearest = int(np.argmin((centred**2).sum(axis=1)))
    order, distance = [nearest], np.linalg.norm(pool - pool[nearest], axis=1)
    for _ in range(len(pool) - 1):
        order.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(pool - pool[order[-1]], axis=1))
    batch = cloud_batch(pool[None], np.array([order], np.int32))
    assert list(broken(CHECK, batch)) == [START.format("pc_fps_order")]
    assert measures(CHECK, batch)[START.format("pc_fps_order")].severity is None
    cache = Recipe.model_validate(
        {"input": ["cache"], "cache": {"layout": "nepa-scan", "shapes": {"pc_xyz": [200, 3], "pc_fps_order": [200]}}}
    )
    found = measures(CHECK, replace(batch, recipe=cache))
    assert found[START.format("pc_fps_order")].severity == "warning"
    assert found[NEXT.format("pc_fps_order")].severity is None


def test_float32_squares_by_products_are_within_the_tolerance() -> None:
    """How other programs compute distances: |a|^2 - 2 a.b + |b|^2 in float32."""
    pool = pool_of(4, 2048, "random")
    squares = (pool * pool).sum(axis=1)
    order = [int(np.argmax(squares))]
    nearest = np.full(len(pool), np.inf, np.float32)
    for _ in range(len(pool) - 1):
        nearest = np.minimum(nearest, squares - 2 * pool @ pool[order[-1]] + squares[order[-1]])
        nearest[order[-1]] = -1
        order.append(int(np.argmax(nearest)))
    found = broken(CHECK, cloud_batch(pool[None], np.array([order], np.int32)))
    assert set(found) <= {START.format("pc_fps_order")}


def test_what_is_not_an_order_of_finite_points_is_left_to_the_schema(batch: Batch) -> None:
    def out_of_range(orders: np.ndarray) -> np.ndarray:
        orders[0, 5] = 512
        orders[2, 5] = -1
        return orders

    def not_finite(points: np.ndarray) -> np.ndarray:
        points[1, 100], points[1, 200] = np.nan, 1e30
        return points

    found = measures(CHECK, spoilt(batch, pc_fps_order=out_of_range, pc_xyz=not_finite))
    for kind in (START, GROWTH, NEXT):
        assert np.isnan(found[kind.format("pc_fps_order")].values).all()
        assert np.isfinite(found[kind.format("pt_fps_order")].values).all()


def test_numbers_do_not_depend_on_how_rows_are_batched(batch: Batch) -> None:
    swapped = spoilt(batch, pt_fps_order=lambda orders: np.roll(orders, 1, axis=0))
    for row in range(3):
        one = replace(
            swapped,
            rows=swapped.rows[row : row + 1],
            index={name: values[row : row + 1] for name, values in swapped.index.items()},
            arrays={name: values[row : row + 1] for name, values in swapped.arrays.items()},
        )
        whole = measures(CHECK, swapped, witnesses=100)
        for name, each in measures(CHECK, one, witnesses=100).items():
            assert each.values[0] == whole[name].values[row]


def test_the_tolerance_reaches_the_bounds(batch: Batch) -> None:
    assert {each.high for each in measures(CHECK, batch, tolerance=0.5).values()} == {0.5}


def test_it_applies_where_there_is_an_order(batch: Batch) -> None:
    assert CHECK.applies(batch.schema, RECIPE) is None
    without = StoreSchema(families=tuple(each for each in batch.schema.families if not isinstance(each, FpsOrder)))
    assert CHECK.applies(without, RECIPE) == "the store holds no farthest-point order"
