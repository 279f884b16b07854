"""duplicates: one shape in two parts of a split is found, however it was sampled or turned; other shapes are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from demo.solids import OBJECTS, triangulate
from judges.solids import box
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.quality.check import Batch, Table
from shapestore.quality.checks.duplicates import CHECK
from shapestore.quality.finding import Finding
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from tests.quality.helpers import batch_of, facts, mesh_record, spoilt

FACTS = {"content", "points", "normals", "coefficients", "spacing", "roughness"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("points", ("points.fps_order=0",))


def model(kind: str, number: int = 0) -> Mesh:
    """A model of a class of the demo."""
    vertices, faces, _ = triangulate(OBJECTS[kind](np.random.default_rng([7, number])))
    return Mesh(vertices, faces)


def turned(mesh: Mesh, degrees: float, axis: str = "y") -> Mesh:
    """Turned and enlarged."""
    return Mesh(2.5 * Rotation.from_euler(axis, degrees, degrees=True).apply(mesh.vertices), mesh.faces)


def rows_of(meshes: Sequence[Mesh], recipe: Recipe, **index: Sequence[str]) -> Batch:
    """Rows `0`, `1`, ... of these meshes, each from a file of its own; every row is sampled with another seed."""
    batch = batch_of([mesh_record(mesh, recipe, str(row)) for row, mesh in enumerate(meshes)], recipe)
    different = {"source_sha256": [f"{row:064d}" for row in range(len(meshes))], "split": [""] * len(meshes)}
    return with_index(batch, **{**different, **index})


def with_index(batch: Batch, **index: Sequence[str]) -> Batch:
    return replace(batch, index={**batch.index, **{name: np.array(list(v), object) for name, v in index.items()}})


def findings(batch: Batch, **settings: Any) -> list[Finding]:
    """What the check says of a store that holds these rows."""
    found = facts(CHECK, batch, **settings)
    table = Table(batch.schema, batch.recipe, batch.rows, batch.index, {}, found, len(batch))
    assert CHECK.overall is not None
    return list(CHECK.overall(table, CHECK.settings.model_validate(settings)))


def test_models_of_one_class_are_different_shapes(recipe: Recipe) -> None:
    meshes = [model(kind, number) for kind in ("chair", "table", "mug", "bottle") for number in range(3)]
    assert findings(rows_of(meshes, recipe, split=["train", "test", "val"] * 4)) == []


@pytest.mark.parametrize("kind", ["chair", "table", "mug", "bottle", "shelf", "cabinet"])
@pytest.mark.parametrize(("degrees", "axis"), [(0, "y"), (37, "y"), (90, "y"), (200, "y"), (137, "z")])
def test_a_shape_sampled_anew_turned_and_enlarged_is_found(
    kind: str, degrees: float, axis: str, recipe: Recipe
) -> None:
    mesh = model(kind)
    (finding,) = findings(rows_of([mesh, turned(mesh, degrees, axis)], recipe, split=["train", "test"]))
    assert (finding.severity, finding.row, finding.shape_id, finding.value) == ("error", 0, "0", 2)
    assert "2 near-identical ones: 0 (train), 1 (test)" in finding.message


def test_boxes_are_the_same_only_in_the_same_proportions(recipe: Recipe) -> None:
    size = np.array([1.0, 0.7, 0.4])
    batch = rows_of([box(size).mesh, box(size * [1, 1, 1.1]).mesh, box(size * 3).mesh], recipe)
    (finding,) = findings(batch)
    assert (finding.severity, finding.row) == ("warning", 0)
    assert finding.message.endswith("2 near-identical ones: 0, 2")


def test_a_shape_on_its_side_is_another(recipe: Recipe) -> None:
    mesh = model("chair")
    assert findings(rows_of([mesh, turned(mesh, 90, "x")], recipe)) == []


def test_the_same_raw_bytes_are_found_whatever_was_sampled(recipe: Recipe) -> None:
    batch = rows_of([model("chair"), model("chair", 1)], recipe, split=["train", "test"], source_sha256=["a", "a"])
    (finding,) = findings(batch)
    assert finding.severity == "error"
    assert "2 identical ones: 0 (train), 1 (test)" in finding.message


def test_shapes_of_one_raw_file_are_no_copies(recipe: Recipe) -> None:
    meshes = [model("chair"), model("chair", 1), model("mug")]
    batch = rows_of(meshes, recipe, source_sha256=["a", "a", "a"], source=["x.h5", "x.h5", "y.h5"])
    assert findings(batch) == []


def test_a_row_without_a_hash_is_like_no_other(recipe: Recipe) -> None:
    assert findings(rows_of([model("chair"), model("mug")], recipe, source_sha256=["", ""])) == []


def test_the_same_points_in_another_order_are_identical_at_any_count() -> None:
    recipe = load_recipe("points", ("points.fps_order=0", "points.count=64"))
    batch = rows_of([model("chair"), model("mug"), model("table")], recipe, split=["train", "test", "test"])
    copied = spoilt(batch, pc_xyz=lambda points: np.stack([points[0], points[1], points[0, ::-1]]))
    assert findings(batch) == []
    (finding,) = findings(copied)
    assert "2 identical ones: 0 (train), 2 (test)" in finding.message


def test_few_points_describe_no_shape() -> None:
    recipe = load_recipe("points", ("points.fps_order=0", "points.count=1023"))
    batch = rows_of([model("chair"), model("chair")], recipe)
    assert facts(CHECK, batch).keys() == {"content"}
    assert facts(CHECK, batch, least_points=1000).keys() == FACTS
    assert findings(batch) == []


def test_rows_that_are_not_finite_or_without_extent_are_like_no_other(recipe: Recipe) -> None:
    batch = rows_of([model("chair")] * 4, recipe, split=["train", "test", "train", "test"])

    def spoil(points: np.ndarray) -> np.ndarray:
        points[0, 5] = np.nan
        points[1, 7, 1] = np.inf
        points[2] = 0.25
        return points

    broken = spoilt(batch, pc_xyz=spoil)
    assert np.isfinite(facts(CHECK, broken)["spacing"]).tolist() == [False, False, False, True]
    assert findings(broken) == []
    broken = spoilt(batch, pc_n=lambda normals: np.where(np.arange(4)[:, None, None] < 3, np.nan, normals))
    assert findings(broken) == []


def test_a_group_in_two_parts_of_any_split_set_is_an_error_and_near_identity_within_it_is_none(recipe: Recipe) -> None:
    batch = rows_of([model("chair")] * 3, recipe, group=["g", "g", "g"], split=["train", "train", ""])
    assert findings(batch) == []
    (finding,) = findings(with_index(batch, fold=["a", "b", ""]))
    assert (finding.severity, finding.shape_id, finding.value) == ("error", "0", 2)
    assert finding.message == "expected group g in one part of fold, got 0 (fold a), 1 (fold b), 2"


def test_shapes_without_a_part_do_not_leak(recipe: Recipe) -> None:
    (finding,) = findings(rows_of([model("mug")] * 2, recipe, split=["train", ""]))
    assert finding.severity == "warning"
    (finding,) = findings(rows_of([model("mug")] * 2, recipe, split=["train", "train"]))
    assert finding.severity == "warning"


def test_a_leak_of_a_named_split_set_is_an_error(recipe: Recipe) -> None:
    batch = rows_of([model("mug")] * 2, recipe, split=["train", "train"], fold=["a", "b"], category=["x", "y"])
    (finding,) = findings(batch)
    assert finding.severity == "error"
    assert "in one part of fold, got 2 near-identical ones: 0 (train, fold a), 1 (train, fold b)" in finding.message


def test_a_large_cluster_is_one_finding_that_names_shapes_of_every_part(recipe: Recipe) -> None:
    batch = rows_of([model("bottle")] * 12, recipe, source_sha256=["a"] * 12, split=["train"] * 11 + ["test"])
    (finding,) = findings(batch)
    assert finding.value == 12
    assert "11 (test)" in finding.message
    assert finding.message.endswith("and 4 more")


def test_facts_do_not_depend_on_how_rows_are_batched(recipe: Recipe) -> None:
    meshes = [model("chair"), model("mug"), model("table")]
    together = facts(CHECK, rows_of(meshes, recipe))
    for row, mesh in enumerate(meshes):
        single = batch_of([mesh_record(mesh, recipe, str(row))], recipe)
        for name, values in facts(CHECK, single).items():
            np.testing.assert_array_equal(values[0], together[name][row])


@pytest.mark.parametrize("setting", [{"largest_gap": 0.1}, {"largest_misfit": -1.0}, {"reach": 0.0}, {"nearest": 0}])
def test_every_threshold_reaches_the_comparison(setting: dict[str, float], recipe: Recipe) -> None:
    batch = rows_of([model("chair")] * 2, recipe)
    assert len(findings(batch)) == 1
    assert findings(batch, **setting) == []
