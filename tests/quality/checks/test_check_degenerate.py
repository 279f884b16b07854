from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from judges.furniture import assembly, chair, panel, table
from judges.solids import box, inverted, sphere
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.raw import RawLabelMap
from shapestore.quality.check import Batch, Table
from shapestore.quality.checks.degenerate import CHECK
from shapestore.quality.finding import Finding
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from tests.quality.helpers import batch_of, broken, measures, mesh_record, record_of, spoilt

RECIPE = load_recipe("nepa-shapenet", ["queries=null", "grid=null", "rays=null", "points.fps_order=0"])
HEARTS = load_recipe("cardiac-sdf", ["surface.count=2000", "surface.per_class_minimum=100", "volume=null", "near=null"])

SPREAD = "median distance of pc_xyz from their middle"
THICKNESS = "thickness of pc_xyz"
DISTINCT = "share of different positions in pc_xyz"
SPACING = "median distance of neighbours in pc_xyz"


def batch_with(meshes: Sequence[Mesh]) -> Batch:
    return batch_of([mesh_record(mesh, RECIPE, f"shape {i}") for i, mesh in enumerate(meshes)], RECIPE)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_with([chair().mesh, table().mesh, box((1, 0.5, 0.25)).mesh])


@pytest.fixture(scope="module")
def category() -> Batch:
    """24 boxes of sides that differ by a fifth."""
    rng = np.random.default_rng(0)
    return batch_with([box(rng.normal([1, 0.8, 0.5], 0.1).clip(0.3)).mesh for _ in range(24)])


def overall(batch: Batch, **settings: object) -> list[Finding]:
    table = Table(batch.schema, batch.recipe, batch.rows, batch.index, measures(CHECK, batch), store_rows=len(batch))
    assert CHECK.overall is not None
    return list(CHECK.overall(table, CHECK.settings.model_validate(settings)))


def test_shapes_are_no_degenerate_ones(batch: Batch) -> None:
    assert not broken(CHECK, batch)


@pytest.mark.parametrize("thickness", [0.01, 0.003])
def test_a_thin_panel_and_a_rod_are_shapes(thickness: float) -> None:
    panels = [box((1, 0.7, thickness)).mesh, box((1, thickness, thickness)).mesh]
    assert not broken(CHECK, batch_with(panels))


def test_the_thickness_is_the_deviation_along_the_shortest_axis() -> None:
    """Of a box that is all faces z = +-h, which any turn leaves as thick."""
    thin = batch_with([box((1, 1, 0.02)).mesh])
    scale = float(thin.index["scale"][0])
    value = measures(CHECK, thin)[THICKNESS].values[0]
    assert value == pytest.approx(0.01 * scale, rel=0.03)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(np.float32)
    turned = measures(CHECK, spoilt(thin, pc_xyz=lambda points: points @ turn))[THICKNESS].values[0]
    assert turned == pytest.approx(value, rel=1e-4)


def test_the_radius_is_that_of_the_ball_of_the_mesh_s_volume() -> None:
    """Whichever way the faces look."""
    ball = sphere(3.0, rings=64).mesh
    both = batch_with([ball, inverted(ball)])
    [radius] = [measure for name, measure in measures(CHECK, both).items() if name.startswith("radius of a ball")]
    np.testing.assert_allclose(radius.values, 3.0 * both.index["scale"], rtol=2e-3)


def test_a_sheet_is_a_warning() -> None:
    flat = batch_with([chair().mesh, panel((0, 0, 0), (1, 1, 0.3), (0.2, 0.8, 0.1))])
    assert broken(CHECK, flat) == {THICKNESS: [1]}
    assert CHECK.severity == "warning"
    assert measures(CHECK, flat)[THICKNESS].severity is None


def test_a_shape_that_a_stray_part_makes_a_dot_is_an_error() -> None:
    """A speck a hundred sizes away: the mesh is normalised to both."""
    dot, speck = chair().mesh, box((0.01, 0.01, 0.01), (100, 0, 0)).mesh
    mesh = Mesh(
        np.concatenate([dot.vertices, speck.vertices]), np.concatenate([dot.faces, speck.faces + len(dot.vertices)])
    )
    found = broken(CHECK, batch_with([chair().mesh, mesh]))
    assert found == {SPREAD: [1]}
    assert measures(CHECK, batch_with([mesh]))[SPREAD].severity == "error"


def test_points_that_repeat_one_another_are_a_warning(batch: Batch) -> None:
    def repeated(points: np.ndarray) -> np.ndarray:
        points[1] = np.resize(points[1, :700], points[1].shape)
        points[2] = np.resize(points[2, :1100], points[2].shape)
        return points

    changed = spoilt(batch, pc_xyz=repeated)
    assert measures(CHECK, changed)[DISTINCT].values.tolist() == [1, 700 / 2048, 1100 / 2048]
    assert broken(CHECK, changed) == {DISTINCT: [1]}


def test_one_position_only_is_an_error(batch: Batch) -> None:
    found = broken(CHECK, spoilt(batch, pc_xyz=lambda points: np.broadcast_to(points[:, :1], points.shape)))
    assert found[SPREAD] == found[THICKNESS] == found[DISTINCT] == [0, 1, 2]


def test_label_maps_of_a_few_voxels_are_a_warning() -> None:
    codes = np.zeros((2, 12, 12, 12), np.uint8)
    codes[0, 2:9, 2:9, 2:9] = 1
    codes[1, 2:5, 2:5, 2:5] = 2
    records = [record_of(RawLabelMap(each, np.eye(4)), HEARTS, f"case {i}") for i, each in enumerate(codes)]
    assert broken(CHECK, batch_of(records, HEARTS, "cardiac")) == {"sum of class_voxels": [1]}


def test_samples_past_the_count_do_not_matter_and_too_few_are_named() -> None:
    part = {"layout": "vecsetx", "shapes": {"surface_points": [200, 3], "surface_labels": [200]}}
    recipe = Recipe.model_validate({"input": ["cache"], "cache": part})
    points = np.random.default_rng(0).normal(size=(3, 200, 3)).astype(np.float32)
    points[0, 100:], points[1, 10:], points[2] = 0, np.nan, 0
    index = {"surface_count": np.array([100, 10, 1]), "seed": np.arange(3)}
    batch = Batch(schema_of(recipe), recipe, np.arange(3), index, {"surface_points": points})
    assert broken(CHECK, batch) == {"surface_count": [1, 2]}
    distinct = measures(CHECK, batch)["share of different positions in surface_points"].values
    np.testing.assert_array_equal(distinct, [1, 1, np.nan])


def test_rows_that_are_not_finite_are_left_to_the_schema(batch: Batch) -> None:
    def nan(points: np.ndarray) -> np.ndarray:
        points[0, 3], points[1, 5, 1] = np.nan, np.inf
        return points

    found = measures(CHECK, spoilt(batch, pc_xyz=nan))
    for name in (SPREAD, THICKNESS, DISTINCT, SPACING):
        assert np.isnan(found[name].values).tolist() == [True, True, False]


def test_a_category_of_like_shapes_has_no_outlier(category: Batch) -> None:
    assert not overall(category)


def test_a_category_of_unlike_shapes_has_no_outlier() -> None:
    assert not overall(batch_with([assembly(seed).mesh for seed in range(24)]))


@pytest.mark.parametrize(("axis", "name"), [(2, THICKNESS), (None, SPACING)])
def test_a_row_unlike_its_category_is_named(category: Batch, axis: int | None, name: str) -> None:
    def unlike(points: np.ndarray) -> np.ndarray:
        if axis is None:
            points[7] = np.resize(points[7, :40], points[7].shape) + np.linspace(0, 1e-4, len(points[7]))[:, None]
        else:
            points[7, :, axis] *= 0.02
        return points

    findings = overall(spoilt(category, pc_xyz=unlike))
    assert {(each.row, each.shape_id, each.severity) for each in findings} == {(7, "shape 7", "warning")}
    assert any(name in each.message for each in findings)


def test_a_count_of_faces_unlike_its_category_is_named(category: Batch) -> None:
    faces = np.random.default_rng(0).integers(200, 600, 24)
    faces[3] = 3_000_000
    (finding,) = overall(replace(category, index={**category.index, "mesh_faces": faces}))
    assert finding.row == 3
    assert "mesh_faces" in finding.message
    assert finding.value is not None
    assert finding.value > 8


def test_a_small_difference_is_none_where_a_category_is_all_alike(category: Batch) -> None:
    faces = 1000 + np.arange(24) % 5
    faces[3] = 1500
    alike = replace(category, index={**category.index, "mesh_faces": faces})
    assert not overall(alike)
    assert [each.row for each in overall(alike, least_ratio=1.2) if "mesh_faces" in each.message] == [3]


def test_a_row_is_compared_with_its_own_category_only(category: Batch) -> None:
    faces = np.where(np.arange(24) < 12, 100, 1_000_000) * np.random.default_rng(0).uniform(0.8, 1.2, 24)
    halves = np.where(np.arange(24) < 12, "cup", "car").astype(object)
    index = {**category.index, "mesh_faces": faces.astype(int), "category": halves}
    assert not overall(replace(category, index=index), peers=12)
    index["mesh_faces"] = np.append(faces[:11], faces[-1:].repeat(13)).astype(int)
    (finding,) = overall(replace(category, index=index), peers=12)
    assert (finding.row, "cup" in finding.message) == (11, True)


def test_few_rows_are_not_compared(category: Batch) -> None:
    faces = np.random.default_rng(0).integers(200, 600, 24)
    faces[3] = 3_000_000
    assert not overall(replace(category, index={**category.index, "mesh_faces": faces}), peers=25)


def test_numbers_do_not_depend_on_how_rows_are_batched(batch: Batch) -> None:
    whole = measures(CHECK, batch, points=500)
    for row in range(len(batch)):
        one = replace(
            batch,
            rows=batch.rows[row : row + 1],
            index={name: values[row : row + 1] for name, values in batch.index.items()},
            arrays={name: values[row : row + 1] for name, values in batch.arrays.items()},
        )
        for name, each in measures(CHECK, one, points=500).items():
            assert each.values[0] == whole[name].values[row]


def test_settings_reach_the_bounds(batch: Batch, category: Batch) -> None:
    found = measures(CHECK, batch, spread=0.3, thickness=0.2, distinct=0.9)
    assert [found[name].low for name in (SPREAD, THICKNESS, DISTINCT)] == [0.3, 0.2, 0.9]
    assert overall(category, deviations=1, least_ratio=1.01)
