from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.furniture import chair, lamp, sail_plane, shelf, table
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.raw import RawCloud, RawLabelMap
from shapestore.quality.check import Batch, Table
from shapestore.quality.checks.normalisation import CHECK
from shapestore.quality.finding import Finding
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from tests.quality.helpers import batch_of, broken, measures, mesh_record, record_of, spoilt

MESHES = load_recipe("nepa-shapenet", ["queries=null", "grid=null", "rays=null"])
SCANS = load_recipe("nepa-scanobjectnn", ["queries=null", "points.mask=false"])
HEARTS = load_recipe("cardiac-sdf", ["surface.count=4000", "surface.per_class_minimum=100", "volume=null", "near=null"])

RADIUS = "radius of the farthest of {}"
BOX = "distance of the box centre of {} from the origin"
MEAN = "distance of the mean of {} from the origin"
ROUND_TRIP = "error of positions that go to raw coordinates and back"
VOLUME = "mesh_volume in unit balls a component"


def meshes(recipe: Recipe = MESHES) -> Batch:
    solids = (chair(), table(), shelf(), lamp(), sail_plane())
    moved = [Mesh(solid.mesh.vertices * 40 + [1e3, -2e3, 7], solid.mesh.faces) for solid in solids]
    return batch_of([mesh_record(mesh, recipe, f"shape {i}") for i, mesh in enumerate(moved)], recipe)


def scan(seed: int, size: int = 2048) -> np.ndarray:
    """Half of a box, as it is seen from one side, with a floor, and so with the mean far from the box centre."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (size, 3))
    points[np.arange(size), rng.integers(0, 3, size)] = 1
    points[: size // 4] = rng.uniform(-1, 1, (size // 4, 3)) * [2, 2, 0] - [0, 0, 1]
    points[:, 0] += 5
    return points


def scans(recipe: Recipe = SCANS, size: int = 2048) -> Batch:
    return batch_of(
        [record_of(RawCloud(scan(seed, size)), recipe, f"scan {seed}") for seed in range(4)], recipe, "scans"
    )


def hearts() -> Batch:
    codes = np.zeros((20, 24, 28), np.uint8)
    codes[4:14, 5:12, 6:20] = 1
    codes[6:12, 12:20, 8:16] = 3
    affine = np.diag([1.5, 1.2, 2.0, 1.0])
    return batch_of([record_of(RawLabelMap(codes, affine), HEARTS, f"case {i}") for i in range(2)], HEARTS, "cardiac")


def table_of(batch: Batch, **settings: object) -> Table:
    return Table(
        batch.schema,
        batch.recipe,
        batch.rows,
        batch.index,
        {each.name: each for each in measures(CHECK, batch, **settings).values()},
        store_rows=len(batch),
    )


def overall(batch: Batch, **settings: object) -> list[Finding]:
    assert CHECK.overall is not None
    return list(CHECK.overall(table_of(batch), CHECK.settings.model_validate(settings)))


@pytest.mark.parametrize("made", [meshes, scans, hearts])
def test_what_ingest_makes_is_normalised(made: object) -> None:
    batch = made()  # type: ignore[operator]
    assert not broken(CHECK, batch)
    assert not overall(batch)


def test_a_store_of_meshes_and_clouds_may_have_either_centre() -> None:
    recipe = load_recipe("points", ["points.normals=false", "points.fps_order=0"])
    for batch in (meshes(recipe), scans(recipe)):
        assert not broken(CHECK, batch)
        assert not overall(batch)


def test_a_part_of_a_scan_has_its_mean_within_the_errors_of_a_mean() -> None:
    batch = scans(
        load_recipe("nepa-scanobjectnn", ["queries=null", "points={count: 300, fps_order: 0, normals: false}"]), 3000
    )
    assert measures(CHECK, batch)[MEAN.format("pc_xyz")].values.max() > 1e-3
    assert not broken(CHECK, batch)
    assert not overall(batch)


def test_the_raw_frame_of_shapenet_is_caught() -> None:
    """Its boxes have a diagonal of 1, so that nothing lies beyond 0.5."""

    def as_raw(points: np.ndarray) -> np.ndarray:
        return points / np.linalg.norm(np.ptp(points, axis=1), axis=1)[:, None, None]

    assert broken(CHECK, spoilt(meshes(), pc_xyz=as_raw)) == {RADIUS.format("pc_xyz"): [0, 1, 2, 3, 4]}


def test_a_cube_that_is_filled_instead_of_a_ball_is_caught() -> None:
    def to_cube(points: np.ndarray) -> np.ndarray:
        return points / np.abs(points).max(axis=(1, 2), keepdims=True)

    assert broken(CHECK, spoilt(meshes(), pc_xyz=to_cube))[RADIUS.format("pc_xyz")]


def test_shapes_off_the_origin_are_caught() -> None:
    def moved(points: np.ndarray) -> np.ndarray:
        points[1] = points[1] * 0.6 + [0.3, 0, 0]
        return points

    assert broken(CHECK, spoilt(meshes(), pc_xyz=moved)) == {BOX.format("pc_xyz"): [1]}
    assert broken(CHECK, spoilt(scans(), pc_xyz=moved)) == {MEAN.format("pc_xyz"): [1]}
    assert broken(CHECK, spoilt(hearts(), surface_points=moved)) == {BOX.format("surface_points"): [1]}


def renormalised(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    points = points - centre
    return points / np.linalg.norm(points, axis=2).max(axis=1)[:, None, None]


def test_a_store_whose_meshes_are_centred_at_their_mean_is_caught_as_a_whole() -> None:
    batch = spoilt(meshes(), pc_xyz=lambda points: renormalised(points, points.mean(axis=1, keepdims=True)))
    (finding,) = overall(batch)
    assert (finding.severity, finding.row, finding.place) == ("error", None, "pc_xyz")
    assert finding.high is not None
    assert finding.value is not None
    assert finding.value > 1.5 * finding.high


def test_a_store_whose_scans_are_centred_at_their_box_is_caught_as_a_whole() -> None:
    def to_box(points: np.ndarray) -> np.ndarray:
        return renormalised(points, (points.max(axis=1, keepdims=True) + points.min(axis=1, keepdims=True)) / 2)

    assert [each.severity for each in overall(spoilt(scans(), pc_xyz=to_box))] == ["error"]


def test_a_store_whose_shapes_are_all_too_small_is_caught_as_a_whole() -> None:
    (finding,) = overall(spoilt(meshes(), pc_xyz=lambda points: points * 0.9))
    assert finding.low is not None
    assert finding.value is not None
    assert finding.value < finding.low


@settings(max_examples=50, deadline=None)
@given(radius=st.floats(1e-6, 1e6), offset=st.floats(-1e3, 1e3))
def test_a_frame_leads_back_where_its_shift_is_not_immense_beside_its_extent(radius: float, offset: float) -> None:
    batch = one_heart()
    index = {**batch.index, "shift": np.full((1, 3), offset * radius), "scale": np.array([1 / radius])}
    assert measures(CHECK, replace(batch, index=index))[ROUND_TRIP].values[0] < 1e-9


@cache
def one_heart() -> Batch:
    batch = hearts()
    return replace(
        batch,
        rows=batch.rows[:1],
        index={name: values[:1] for name, values in batch.index.items()},
        arrays={name: values[:1] for name, values in batch.arrays.items()},
    )


@pytest.mark.parametrize(
    ("shift", "scale"),
    [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf), (np.inf, 1.0), (0.0, np.nan), (1e12, 1.0)],
)
def test_a_frame_that_does_not_lead_back_is_caught(shift: float, scale: float) -> None:
    batch = hearts()
    index = {**batch.index, "shift": np.array([[0.0, 0, 0], [0, shift, 0]]), "scale": np.array([1.0, scale])}
    assert broken(CHECK, replace(batch, index=index)) == {ROUND_TRIP: [1]}


def test_a_volume_that_no_unit_ball_holds_is_a_warning() -> None:
    batch = meshes()
    lost = replace(batch, index={**batch.index, "scale": np.ones(5), "shift": np.zeros((5, 3))})
    assert set(broken(CHECK, lost)) == {VOLUME}
    assert measures(CHECK, lost)[VOLUME].severity == "warning"


def test_a_cache_is_warned_of_by_the_convention_of_its_program() -> None:
    def cache(layout: str) -> Recipe:
        part = {"layout": layout, "shapes": {"pc_xyz": [2048, 3]}}
        return Recipe.model_validate({"input": ["cache"], "cache": part})

    found = measures(CHECK, replace(spoilt(meshes(), pc_xyz=lambda points: points * 3), recipe=cache("nepa-mesh")))
    assert {found[name.format("pc_xyz")].severity for name in (RADIUS, BOX)} == {"warning"}
    assert found[RADIUS.format("pc_xyz")].broken.all()
    assert MEAN.format("pc_xyz") in measures(CHECK, replace(scans(), recipe=cache("nepa-scan")))


def test_points_past_the_count_do_not_matter() -> None:
    part = {"layout": "vecsetx", "shapes": {"surface_points": [100, 3], "surface_labels": [100]}}
    recipe = Recipe.model_validate({"input": ["cache"], "cache": part})
    points = np.random.default_rng(0).normal(size=(2, 100, 3))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    points[0, 60:], points[1, 90:] = 7, np.nan
    index = {"surface_count": np.array([60, 90]), "shift": np.zeros((2, 3)), "scale": np.ones(2)}
    batch = Batch(schema_of(recipe), recipe, np.arange(2), index, {"surface_points": points})
    assert not broken(CHECK, batch)
    empty = replace(batch, index={**index, "surface_count": np.array([0, 100])})
    assert np.isnan(measures(CHECK, empty)[RADIUS.format("surface_points")].values).all()


def test_numbers_do_not_depend_on_how_rows_are_batched() -> None:
    batch = meshes()
    whole = measures(CHECK, batch)
    for row in range(len(batch)):
        one = replace(
            batch,
            rows=batch.rows[row : row + 1],
            index={name: values[row : row + 1] for name, values in batch.index.items()},
            arrays={name: values[row : row + 1] for name, values in batch.arrays.items()},
        )
        for name, each in measures(CHECK, one).items():
            assert each.values[0] == whole[name].values[row]


def test_settings_reach_the_bounds() -> None:
    found = measures(CHECK, meshes(), radius=0.8, overshoot=0.5, centre=0.3, round_trip=0.1)
    assert (found[RADIUS.format("pc_xyz")].low, found[RADIUS.format("pc_xyz")].high) == (0.8, 1.5)
    assert found[BOX.format("pc_xyz")].high == 0.3
    assert found[ROUND_TRIP].high == 0.1
    assert measures(CHECK, scans(), errors=2)[MEAN.format("pc_xyz")].high == 2 / np.sqrt(2048)
    assert len(overall(meshes(), median_errors=1e-9)) == 2
