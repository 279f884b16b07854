from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.raw import RawLabelMap
from shapestore.quality.check import Batch
from shapestore.quality.checks.label_consistency import CHECK
from shapestore.schemas.recipe import LabelsPart
from shapestore.schemas.recipe_file import load_recipe
from tests.quality.helpers import batch_of, broken, measures, record_of, spoilt

RECIPE = load_recipe(
    "cardiac-sdf",
    [
        "labels.scheme=mapping",
        "labels.classes={left: 1, right: 2, shell: 3, apart: 4}",
        *("surface.count=6000", "surface.per_class_minimum=500"),
        *("volume.count=6000", "volume.per_class_minimum=300", "near.count=6000"),
    ],
)
BARE = "largest share of a class in surface_labels without an inside close by"
LOST = "largest share of a class in vol_labels without a surface close by"
CROWDED = "share of the inside in vol_labels with another class too near"


def chambers() -> RawLabelMap:
    """Two halves of a ball, a shell around both, and a ball apart from them."""
    x, y, z = np.indices((48, 36, 36))
    radius = np.linalg.norm([x - 17, y - 17.5, z - 17.5], axis=0)
    apart = np.linalg.norm([x - 40, y - 17.5, z - 17.5], axis=0) < 5
    codes = np.select([(radius < 10) & (x < 17), radius < 10, radius < 14, apart], [1, 2, 3, 4])
    return RawLabelMap(codes.astype(np.uint8), np.diag([1.5, 1.5, 1.5, 1.0]))


@pytest.fixture(scope="module")
def sound() -> Batch:
    return batch_of([record_of(chambers(), RECIPE, name) for name in ("a", "b")], RECIPE)


@pytest.fixture(scope="module")
def field() -> LabelField:
    raw = chambers()
    surfaces = class_surfaces(label_volume(raw.codes, raw.affine), 0.7)
    return LabelField(surfaces, surfaces.frame())


def recoded(*codes: int) -> Callable[[np.ndarray], np.ndarray]:
    """Classes 1, 2, ... get these codes."""
    table = np.array([0, *codes], np.int8)
    return lambda labels: table[labels]


def first_row(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.concatenate([change(values[:1]), values[1:]])


def shifted(batch: Batch, field: LabelField, voxels: float) -> Batch:
    """Classes of insides are read from the label map that many voxels further along; signs and distances are kept."""
    step = voxels * 1.5 * float(batch.index["scale"][0]) * np.array([1.0, 0, 0])

    def read(tag: str) -> np.ndarray:
        held, found = batch.arrays[f"{tag}_labels"], field.labels(batch.arrays[f"{tag}_points"].reshape(-1, 3) + step)
        found = found.reshape(held.shape)
        return np.where((held > 0) & (found > 0), found, held)

    return spoilt(batch, vol_labels=lambda _: read("vol"), near_labels=lambda _: read("near"))


def test_sound_rows_raise_nothing_and_are_far_from_the_bounds(sound: Batch) -> None:
    found = measures(CHECK, sound)
    assert found[BARE].values.max() < 0.01
    assert found[LOST].values.max() < 0.01
    assert found[CROWDED].values.max() < 0.003


@pytest.mark.parametrize("codes", [(2, 1, 3, 4), (1, 2, 4, 3), (2, 3, 4, 1), (3, 1, 2, 4)])
def test_classes_that_are_permuted_on_the_surface_or_inside_are_caught(sound: Batch, codes: tuple[int, ...]) -> None:
    permuted = first_row(recoded(*codes))
    for spoiled in (
        spoilt(sound, surface_labels=permuted),
        spoilt(sound, vol_labels=permuted, near_labels=permuted),
    ):
        assert broken(CHECK, spoiled)[BARE] == [0]
        assert broken(CHECK, spoiled)[LOST] == [0]
        assert measures(CHECK, spoiled)[LOST].values[0] > 0.3


def test_classes_that_are_permuted_everywhere_are_no_contradiction(sound: Batch) -> None:
    renamed = recoded(3, 4, 1, 2)
    assert broken(CHECK, spoilt(sound, surface_labels=renamed, vol_labels=renamed, near_labels=renamed)) == {}


@pytest.mark.parametrize("voxels", [0.5, 1.0])
def test_classes_of_a_shifted_grid_are_caught(sound: Batch, field: LabelField, voxels: float) -> None:
    assert broken(CHECK, shifted(sound, field, 0.0)) == {}
    assert broken(CHECK, shifted(sound, field, voxels))[CROWDED] == [0, 1]


def test_insides_that_are_guessed_by_the_nearest_surface_point_are_caught(sound: Batch) -> None:
    """The blobs of the depth-ratio rule: inside is what is nearer to the centre than the surface beside it."""
    rng = np.random.default_rng(0)

    def blob(values: np.ndarray) -> np.ndarray:
        values[0, rng.permutation(values.shape[1])[:1500]] = 4
        return values

    assert LOST in broken(CHECK, spoilt(sound, vol_labels=blob, vol_sdf=lambda sdf: -np.abs(sdf)))


def test_depths_that_leave_no_room_for_a_neighbour_are_caught(sound: Batch) -> None:
    doubled = spoilt(sound, vol_sdf=lambda sdf: 2 * sdf, near_sdf=lambda sdf: 2 * sdf)
    assert CROWDED in broken(CHECK, doubled)


def test_a_class_without_any_inside_or_any_surface_is_caught(sound: Batch) -> None:
    gone = recoded(1, 2, 3, 3)
    assert BARE in broken(CHECK, spoilt(sound, vol_labels=gone, near_labels=gone))
    assert LOST in broken(CHECK, spoilt(sound, surface_labels=gone))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1))
def test_radii_follow_the_sampling(sound: Batch, seed: int, share: float) -> None:
    """Few inside samples beside many surface points are no contradiction, nor are few surface points."""
    rng = np.random.default_rng(seed)

    def thinned(labels: np.ndarray) -> np.ndarray:
        return np.where(rng.random(labels.shape) < share, labels, 0)

    assert broken(CHECK, spoilt(sound, vol_labels=thinned, near_labels=np.zeros_like)) == {}
    assert broken(CHECK, spoilt(sound, surface_labels=thinned)) == {}


def test_bounds_can_be_set(sound: Batch) -> None:
    swapped = spoilt(sound, surface_labels=recoded(2, 1, 3, 4))
    assert broken(CHECK, swapped, astray=1.0) == {}
    assert broken(CHECK, swapped, spacing=1000.0) == {}
    assert CROWDED in broken(CHECK, spoilt(sound, vol_sdf=lambda sdf: 1.01 * sdf - 1e-3 * (sdf < 0)), crowded=0.0)


def test_depths_between_voxel_centres_are_warned_of_only(sound: Batch) -> None:
    edt = sound.recipe.model_copy(update={"labels": LabelsPart(scheme="single", distance="edt")})
    found = measures(CHECK, replace(sound, recipe=edt))
    assert [found[name].severity for name in (BARE, LOST, CROWDED)] == [None, None, "warning"]


def test_what_is_not_finite_or_of_no_class_is_left_out(sound: Batch) -> None:
    def holed(values: np.ndarray) -> np.ndarray:
        values[0, ::7], values[0, 1::7] = np.nan, np.inf
        return values

    assert broken(CHECK, spoilt(sound, surface_points=holed, vol_points=holed, near_sdf=holed)) == {}
    empty = spoilt(sound, surface_labels=lambda labels: np.full_like(labels, -3))
    assert np.isnan([each.values for each in measures(CHECK, empty).values()]).all()
    outside = spoilt(sound, vol_labels=np.zeros_like, near_labels=np.zeros_like)
    assert np.isnan([each.values for each in measures(CHECK, outside).values()]).all()


def test_the_numbers_do_not_depend_on_the_batch(sound: Batch) -> None:
    batch = spoilt(sound, surface_labels=first_row(recoded(2, 1, 3, 4)))
    whole = measures(CHECK, batch)
    for row in range(len(batch)):
        part = slice(row, row + 1)
        alone = replace(
            batch,
            rows=batch.rows[part],
            index={name: values[part] for name, values in batch.index.items()},
            arrays={name: values[part] for name, values in batch.arrays.items()},
        )
        for name, found in measures(CHECK, alone).items():
            np.testing.assert_array_equal(found.values, whole[name].values[part])


def test_stores_without_labels_of_surface_and_inside_are_left_out(sound: Batch) -> None:
    assert CHECK.applies(sound.schema, sound.recipe) is None
    inside = tuple(family for family in sound.schema.families if getattr(family, "where", "") != "surface")
    assert "surface" in str(CHECK.applies(sound.schema.model_copy(update={"families": inside}), sound.recipe))
