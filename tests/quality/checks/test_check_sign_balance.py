from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.solids import box
from shapestore.preprocess.raw import RawLabelMap
from shapestore.quality.check import Batch, Table
from shapestore.quality.checks.sign_balance import CHECK
from shapestore.quality.finding import Finding
from shapestore.schemas.recipe import LabelsPart, VolumePart
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.specs import label_codes, sample_family
from tests.quality.helpers import batch_of, broken, measures, mesh_record, record_of, spoilt

MESHES = (
    "points.count=128",
    "points.fps_order=0",
    "queries.count=1000",
    "queries.fps_order=0",
    "queries.signed=true",
    "grid.size=16",
    "grid.signed=true",
    "rays=null",
)
LABELS = ("labels.scheme=single", "surface.count=500", "volume.count=1000", "near.count=1000")

VOLUME, NEAR = "share of vol_sdf that is positive", "share of near_sdf that is positive"
VOLUME_BEYOND = "share of vol_sdf beyond the unit ball that is negative"
POOL_BEYOND = "share of pt_sdf_pool beyond the unit ball that is negative"
GRID, GRID_BEYOND = "share of sdf_grid that is positive", "share of sdf_grid beyond the unit ball that is negative"


@pytest.fixture(scope="module")
def meshes() -> Batch:
    recipe = load_recipe("nepa-shapenet", MESHES)
    records = [mesh_record(box(size).mesh, recipe, str(size)) for size in ((1, 1, 1), (1, 2, 3))]
    return batch_of(records, recipe)


def label_batch(*settings: str) -> Batch:
    recipe = load_recipe("cardiac-sdf", [*LABELS, *settings])
    grid = np.indices((24, 24, 24)) - 11.5
    codes = [(np.linalg.norm(grid, axis=0) < radius).astype(np.uint8) for radius in (6, 9)]
    return batch_of([record_of(RawLabelMap(each, np.eye(4)), recipe, str(i)) for i, each in enumerate(codes)], recipe)


@pytest.fixture(scope="module")
def labels() -> Batch:
    return label_batch()


def as_cache(batch: Batch) -> Batch:
    """The same rows, of a recipe that does not say how they were drawn."""
    return replace(batch, recipe=batch.recipe.model_copy(update={"labels": None, "volume": None, "near": None}))


def row_of(batch: Batch, row: int) -> Batch:
    """One row by itself."""
    part = slice(row, row + 1)
    index = {name: values[part] for name, values in batch.index.items()}
    arrays = {name: values[part] for name, values in batch.arrays.items()}
    return replace(batch, rows=batch.rows[part], index=index, arrays=arrays)


def overall(batch: Batch, shares: list[float]) -> list[Finding]:
    """The judgement over rows with these shares of positive volume samples."""
    measured = measures(CHECK, batch)
    measured[VOLUME] = replace(measured[VOLUME], values=np.array(shares))
    rows = np.arange(len(shares))
    assert CHECK.overall is not None
    return list(CHECK.overall(Table(batch.schema, batch.recipe, rows, {}, measured), CHECK.settings()))


def test_sound_rows_raise_nothing(meshes: Batch, labels: Batch) -> None:
    for batch in (meshes, labels, as_cache(labels)):
        assert broken(CHECK, batch) == {}


def test_samples_of_ingest_have_the_share_of_the_recipe(labels: Batch) -> None:
    found = measures(CHECK, labels)
    assert found[VOLUME].values == pytest.approx(0.5)
    assert found[NEAR].values == pytest.approx(0.5, abs=0.01)
    assert measures(CHECK, label_batch("volume.inside_ratio=0.1"))[VOLUME].values == pytest.approx(0.9)


@given(st.integers(0, 100), st.floats(0.1, 1))
def test_the_band_holds_the_expected_share_and_never_all_on_one_side(labels: Batch, percent: int, kept: float) -> None:
    inside = percent / 100
    recipe = labels.recipe.model_copy(update={"volume": VolumePart(inside_ratio=inside)})
    found = measures(CHECK, replace(labels, recipe=recipe), kept=kept)[VOLUME]
    assert found.low <= 1 - inside <= found.high
    assert (found.low > 0) == (inside < 1)
    assert (found.high < 1) == (inside > 0)


@pytest.mark.parametrize("to_one_side", [np.abs, lambda values: -np.abs(values) - 1e-6])
def test_samples_that_all_lie_on_one_side_are_out_of_the_band(labels: Batch, to_one_side: np.ufunc) -> None:
    assert broken(CHECK, spoilt(labels, vol_sdf=to_one_side))[VOLUME] == [0, 1]
    assert broken(CHECK, spoilt(labels, near_sdf=to_one_side))[NEAR] == [0, 1]
    assert broken(CHECK, spoilt(as_cache(labels), vol_sdf=to_one_side))[VOLUME] == [0, 1]


def test_a_flipped_sign_is_seen_beyond_the_unit_ball_though_the_share_is_kept(labels: Batch, meshes: Batch) -> None:
    assert broken(CHECK, spoilt(labels, vol_sdf=np.negative)) == {VOLUME_BEYOND: [0, 1]}
    assert broken(CHECK, spoilt(meshes, pt_sdf_pool=np.negative))[POOL_BEYOND] == [0, 1]
    assert broken(CHECK, spoilt(meshes, sdf_grid=np.negative)) == {GRID: [0, 1], GRID_BEYOND: [0, 1]}


def test_one_inside_position_beyond_the_unit_ball_breaks_the_law(labels: Batch) -> None:
    def one(values: np.ndarray) -> np.ndarray:
        far = np.linalg.norm(labels.arrays["vol_points"], axis=2) > 1.1
        values[1, np.flatnonzero(far[1])[0]] *= -1
        return values

    assert broken(CHECK, spoilt(labels, vol_sdf=one)) == {VOLUME_BEYOND: [1]}
    assert broken(CHECK, spoilt(labels, vol_sdf=one), inside_beyond=0.1) == {}


def test_fields_that_are_extrapolated_by_choice_are_warned_of_only(labels: Batch) -> None:
    edt = labels.recipe.model_copy(update={"labels": LabelsPart(scheme="single", distance="edt")})
    assert measures(CHECK, labels)[VOLUME_BEYOND].severity is None
    assert measures(CHECK, replace(labels, recipe=edt))[VOLUME_BEYOND].severity == "warning"


def test_a_row_without_samples_has_nothing_to_measure(labels: Batch) -> None:
    lost = spoilt(labels, vol_sdf=lambda values: np.full_like(values, np.nan))
    assert np.isnan(measures(CHECK, lost)[VOLUME].values).all()
    assert np.isnan(measures(CHECK, lost)[VOLUME_BEYOND].values).all()
    centred = spoilt(labels, vol_points=lambda values: values * 0.1)
    assert np.isnan(measures(CHECK, centred)[VOLUME_BEYOND].values).all()


def test_entries_past_the_count_are_left_out(labels: Batch) -> None:
    counted = sample_family("near", 1000, label_codes(("structure",)), counted=True)
    schema = labels.schema.model_copy(update={"families": (counted,)})
    values = np.where(np.arange(1000) < 600, np.resize([1, -1], 1000), -1)
    batch = replace(
        labels,
        schema=schema,
        index={**labels.index, "near_count": np.array([600, 0])},
        arrays={**labels.arrays, "near_sdf": np.stack([values, values])},
    )
    assert measures(CHECK, batch)[NEAR].values == pytest.approx([0.5, np.nan], nan_ok=True)


def test_the_numbers_do_not_depend_on_the_batch(meshes: Batch, labels: Batch) -> None:
    for batch in (meshes, labels):
        whole = measures(CHECK, batch)
        for row in range(len(batch)):
            for name, alone in measures(CHECK, row_of(batch, row)).items():
                np.testing.assert_array_equal(alone.values, whole[name].values[row : row + 1])


def test_the_store_is_judged_by_the_mean_and_the_deviation_of_its_rows(labels: Batch) -> None:
    sound = np.random.default_rng(0).normal(0.552, 0.033, 200).tolist()
    assert overall(labels, sound) == []
    (mean,) = overall(labels, [0.65] * 50)
    assert (mean.severity, mean.value) == ("error", pytest.approx(0.65))
    (spread,) = overall(labels, [0.4, 0.62] * 50)
    assert (spread.severity, spread.value) == ("warning", pytest.approx(0.11))


def test_rows_without_a_number_do_not_count_in_the_mean(labels: Batch) -> None:
    assert overall(labels, [0.5, np.nan]) == []
    assert overall(labels, [np.nan]) == []


def test_stores_without_signs_are_left_out(meshes: Batch) -> None:
    unsigned = load_recipe("nepa-scanobjectnn")
    assert CHECK.applies(meshes.schema, meshes.recipe) is None
    assert list(CHECK.measure(replace(meshes, schema=schema_of(unsigned)), CHECK.settings())) == []
