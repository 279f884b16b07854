from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from shapestore.preprocess.raw import RawCloud, RawLabelMap
from shapestore.quality.check import Batch, Table
from shapestore.quality.checks.class_coverage import CHECK, DOUBT, at_least
from shapestore.quality.finding import Finding
from shapestore.schemas.recipe_file import load_recipe
from tests.quality.helpers import batch_of, broken, facts, measures, record_of, spoilt

RECIPE = load_recipe(
    "cardiac-sdf",
    [
        "labels.scheme=mapping",
        "labels.classes={wall: 1, lumen: 2, twig: 3}",
        *("surface.count=900", "surface.per_class_minimum=200", "near.count=900"),
        *("volume.count=1200", "volume.per_class_minimum=150"),
    ],
)
SCANS = load_recipe("nepa-scanobjectnn", ["points.count=200", "points.fps_order=0", "queries=null"])


def heart(*classes: int) -> RawLabelMap:
    """A ball in a shell, and a thin twig beside them, of which only these classes are there."""
    x, y, z = np.indices((28, 24, 24))
    radius = np.linalg.norm([x - 10, y - 11.5, z - 11.5], axis=0)
    codes = np.select([radius < 5, radius < 8, (x > 21) & (x < 25) & (abs(y - 12) < 2) & (abs(z - 12) < 9)], [2, 1, 3])
    return RawLabelMap(np.where(np.isin(codes, classes), codes, 0).astype(np.uint8), np.eye(4))


@pytest.fixture(scope="module")
def hearts() -> Batch:
    """Two whole hearts, and one that has no twig by nature."""
    raw = [heart(1, 2, 3), heart(1, 2, 3), heart(1, 2)]
    return batch_of([record_of(each, RECIPE, f"heart {i}") for i, each in enumerate(raw)], RECIPE)


@pytest.fixture(scope="module")
def scans() -> Batch:
    points = np.random.default_rng(0).normal(size=(200, 3))
    mask = np.where(points[:, 0] > 0, 1, -1).astype(np.int8)
    raw = [RawCloud(points, mask=mask), RawCloud(points, mask=np.ones(200, np.int8))]
    return batch_of([record_of(each, SCANS, str(i)) for i, each in enumerate(raw)], SCANS, "scanobjectnn")


def as_cache(batch: Batch) -> Batch:
    """The same rows in a store that does not say which classes a shape has."""
    families = tuple(family for family in batch.schema.families if family.family == "sdf_samples")
    recipe = batch.recipe.model_copy(update={"labels": None, "surface": None, "volume": None, "near": None})
    return replace(batch, schema=batch.schema.model_copy(update={"families": families}), recipe=recipe)


def without(batch: Batch, code: int, rows: list[int]) -> Batch:
    """The samples of a class are given to another one."""

    def lost(labels: np.ndarray) -> np.ndarray:
        labels[rows] = np.where(labels[rows] == code, 1, labels[rows])
        return labels

    return spoilt(batch, surface_labels=lost, vol_labels=lost, near_labels=lost)


def overall(batch: Batch, found: Mapping[str, np.ndarray]) -> list[Finding]:
    rows = np.arange(len(next(iter(found.values()))))
    index = {"shape_id": np.array([f"case {row}" for row in rows])}
    assert CHECK.overall is not None
    return list(CHECK.overall(Table(batch.schema, batch.recipe, rows, index, {}, found), CHECK.settings()))


def of_rows(lacking: int, rows: int, *, voxels: bool) -> dict[str, np.ndarray]:
    """Facts of rows, the first of which lack the class lumen."""
    there = np.ones((rows, 3), np.int64)
    there[:lacking, 1] = 0
    points = {f"{name}_labels": 100 * there for name in ("surface", "vol", "near")}
    return points | ({"voxels": 1000 * there} if voxels else {})


def test_sound_rows_raise_nothing(hearts: Batch, scans: Batch) -> None:
    assert broken(CHECK, hearts) == {}
    assert broken(CHECK, as_cache(hearts)) == {}
    assert broken(CHECK, scans) == {}
    assert overall(hearts, facts(CHECK, hearts)) == []


def test_points_are_counted_a_class_and_absent_classes_have_no_number(hearts: Batch) -> None:
    found = measures(CHECK, hearts)
    for tag in ("surface", "vol", "near"):
        labels = hearts.arrays[f"{tag}_labels"]
        for code, name in enumerate(("wall", "lumen", "twig"), start=1):
            expected = [float(np.count_nonzero(row == code)) for row in labels]
            values = found[f"points of {name} in {tag}_labels"].values
            assert values == pytest.approx([*expected[:2], np.nan] if code == 3 else expected, nan_ok=True)


def test_bounds_are_a_part_of_what_the_recipe_promises(hearts: Batch) -> None:
    found = measures(CHECK, hearts, kept=1.0)
    # Surface: the minimum. Volume: of 600 inside, 150 each. Near: half of 200 are outside.
    assert [found[f"points of twig in {tag}_labels"].low for tag in ("surface", "vol", "near")] == [200, 150, 100]
    assert found["points of twig in surface_labels"].values[0] >= 200
    assert found["points of twig in vol_labels"].values[0] >= 150


@pytest.mark.parametrize("tag", ["surface", "vol", "near"])
def test_a_class_of_the_raw_map_without_samples_is_an_error(hearts: Batch, tag: str) -> None:
    name = f"points of twig in {tag}_labels"
    lost = spoilt(hearts, **{f"{tag}_labels": lambda labels: np.where(labels == 3, 1, labels)})
    assert broken(CHECK, lost) == {name: [0, 1]}
    assert (measures(CHECK, lost)[name].severity or CHECK.severity) == "error"


def test_a_class_with_too_few_samples_is_an_error(hearts: Batch) -> None:
    def thinned(labels: np.ndarray) -> np.ndarray:
        row = labels[0]
        row[np.flatnonzero(row == 3)[10:]] = 1
        return labels

    assert broken(CHECK, spoilt(hearts, vol_labels=thinned)) == {"points of twig in vol_labels": [0]}
    assert broken(CHECK, spoilt(hearts, vol_labels=thinned), kept=0.05) == {}


def test_a_class_without_samples_is_an_error_where_nothing_is_promised(hearts: Batch) -> None:
    recipe = hearts.recipe.model_copy(
        update={"surface": hearts.recipe.surface.model_copy(update={"per_class_minimum": 0})}
    )
    lost = replace(without(hearts, 3, [1]), recipe=recipe)
    assert broken(CHECK, lost)["points of twig in surface_labels"] == [1]


def test_a_scan_of_background_alone_is_an_error(scans: Batch) -> None:
    name = "share of pc_mask that is not background"
    assert measures(CHECK, scans)[name].values == pytest.approx([np.mean(scans.arrays["pc_mask"][0] > 0), 1])
    assert broken(CHECK, spoilt(scans, pc_mask=lambda mask: -np.ones_like(mask))) == {name: [0, 1]}
    assert broken(CHECK, scans, object_share=0.9) == {name: [0]}


@pytest.mark.parametrize("voxels", [True, False])
def test_a_class_that_many_rows_lack_is_an_error_and_one_that_few_lack_is_not(hearts: Batch, voxels: bool) -> None:
    batch = hearts if voxels else as_cache(hearts)
    (found,) = overall(batch, of_rows(4, 10, voxels=voxels))
    assert (found.severity, found.value) == ("error", 0.4)
    assert "lumen" in found.message
    assert "case 0" in found.message
    for lacking, rows in ((1, 3), (1, 10), (5, 100), (1, 1000)):
        assert overall(batch, of_rows(lacking, rows, voxels=voxels)) == []


def test_a_class_that_no_label_map_has_is_warned_of(hearts: Batch) -> None:
    (found,) = overall(hearts, of_rows(20, 20, voxels=True))
    assert found.severity == "warning"
    (lost,) = overall(as_cache(hearts), of_rows(20, 20, voxels=False))
    assert lost.severity == "error"


def test_near_samples_of_a_class_are_not_missed_over_the_store(hearts: Batch) -> None:
    found = of_rows(0, 10, voxels=False)
    found["near_labels"][:] = 0
    assert overall(as_cache(hearts), found) == []


@given(st.integers(1, 60), st.data())
def test_a_share_is_that_large_with_confidence(rows: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, rows))
    bound = at_least(hits, rows)
    assert 0 <= bound <= hits / rows
    if hits:  # at the bound, so many hits or more come once in twenty times
        assert binom.sf(hits - 1, rows, bound) == pytest.approx(DOUBT)


def test_entries_past_the_count_are_left_out(hearts: Batch) -> None:
    near = next(family for family in hearts.schema.families if getattr(family, "where", "") == "near")
    count = near.points.model_copy(update={"name": "near_count", "dims": (), "shape": (), "dtype": "int32"})
    schema = hearts.schema.model_copy(update={"families": (near.model_copy(update={"count": count}),)})
    batch = replace(hearts, schema=schema, index={**hearts.index, "near_count": np.array([900, 0, 10])})
    found = facts(CHECK, batch)["near_labels"].sum(axis=1)
    labels = hearts.arrays["near_labels"]
    assert found.tolist() == [np.count_nonzero(labels[0]), 0, np.count_nonzero(labels[2, :10])]


def test_undeclared_codes_are_survived(hearts: Batch) -> None:
    assert facts(CHECK, spoilt(hearts, vol_labels=lambda labels: np.full_like(labels, -7)))["vol_labels"].sum() == 0


def test_the_numbers_do_not_depend_on_the_batch(hearts: Batch) -> None:
    whole = facts(CHECK, hearts)
    for row in range(len(hearts)):
        part = slice(row, row + 1)
        arrays = {name: values[part] for name, values in hearts.arrays.items()}
        alone = facts(CHECK, replace(hearts, rows=hearts.rows[part], arrays=arrays))
        for name in whole:
            np.testing.assert_array_equal(alone[name], whole[name][part])
