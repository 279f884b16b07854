from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from demo.raw import write_hearts
from shapestore.quality.check import Batch
from shapestore.quality.checks.anatomy import CHAMBERS, CHECK
from shapestore.schemas.recipe import HEART_10, CachePart, LabelsPart, Recipe, VolumePart
from shapestore.schemas.recipe_schema import schema_of
from tests.quality.helpers import broken, measures, spoilt
from tests.quality.raw_rows import heart_recipe, only, rows_of

VENTRICLES, ATRIA, HANDED = "way to the right from LV to RV", "way to the right from LA to RA", "handedness"
GIVEN = partial(settings, deadline=None, max_examples=20, derandomize=True)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """The last one lies oblique in its map, and its map is flipped in two axes."""
    return rows_of("cardiac", write_hearts(tmp_path_factory.mktemp("hearts"), cases=3, size=40), heart_recipe())


def turned(batch: Batch, matrix: np.ndarray) -> Batch:
    arrays = ("surface_points", "vol_points", "near_points")
    return spoilt(batch, **dict.fromkeys(arrays, lambda points: points @ matrix.T))


def numbers(batch: Batch) -> dict[str, np.ndarray]:
    return {name: each.values for name, each in measures(CHECK, batch).items()}


def test_hearts_in_any_pose_are_right(hearts: Batch) -> None:
    assert broken(CHECK, hearts) == {}
    found = numbers(hearts)
    assert found.keys() == {VENTRICLES, ATRIA, HANDED}
    assert all(values.min() > 0.5 for values in found.values())


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ([-1, 1, 1], {VENTRICLES, ATRIA, HANDED}),
        ([1, -1, 1], {HANDED}),
        ([1, 1, -1], {HANDED}),
        ([-1, -1, 1], {VENTRICLES, ATRIA}),
    ],
    ids=["left and right", "front and back", "head and foot", "LPS read as RAS"],
)
def test_hearts_whose_axes_are_wrong_are_caught(axes: list[int], expected: set[str], hearts: Batch) -> None:
    assert broken(CHECK, turned(hearts, np.diag(axes))) == {name: [0, 1, 2] for name in expected}


@GIVEN()
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), mirrored=st.booleans())
def test_handedness_is_the_same_however_a_heart_is_turned_and_the_opposite_of_its_mirror_image(
    hearts: Batch, angles: tuple[float, float, float], mirrored: bool
) -> None:
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * (-1 if mirrored else 1)
    found = numbers(turned(hearts, matrix))[HANDED]
    assert found == pytest.approx(numbers(hearts)[HANDED] * (-1 if mirrored else 1), rel=1e-4)


@GIVEN()
@given(size=st.floats(0.01, 1))
def test_numbers_do_not_depend_on_size(hearts: Batch, size: float) -> None:
    small = numbers(turned(hearts, np.eye(3) * size))
    assert all(values == pytest.approx(numbers(hearts)[name], rel=1e-4) for name, values in small.items())


def test_a_heart_without_a_chamber_has_nothing_to_measure(hearts: Batch) -> None:
    def without(name: str, labels: np.ndarray) -> np.ndarray:
        labels[1][labels[1] == HEART_10[name]] = HEART_10["Aorta"]
        return labels

    found = numbers(spoilt(hearts, vol_labels=partial(without, "RA")))
    assert np.isnan(found[ATRIA]).tolist() == [False, True, False]
    found = numbers(spoilt(hearts, vol_labels=partial(without, "PA")))
    assert np.isnan(found[HANDED]).tolist() == [False, True, False]
    assert not np.isnan(found[ATRIA]).any()


def test_positions_that_are_not_finite_are_left_to_the_schema(hearts: Batch) -> None:
    def change(points: np.ndarray) -> np.ndarray:
        points[0, ::9] = np.nan
        points[1, ::9] = np.inf
        points[2] = np.nan
        return points

    found = spoilt(hearts, vol_points=change)
    assert broken(CHECK, found) == {}
    assert np.isnan(numbers(found)[HANDED]).tolist() == [False, False, True]


def test_numbers_do_not_depend_on_how_rows_are_batched(hearts: Batch) -> None:
    whole = numbers(hearts)
    for row in range(3):
        alone = numbers(only(hearts, [row]))
        assert all(np.array_equal(alone[name], whole[name][[row]]) for name in whole)


def test_surface_samples_do_where_there_are_no_volume_samples(tmp_path: Path) -> None:
    recipe = heart_recipe().model_copy(update={"volume": None, "near": None})
    batch = rows_of("cardiac", write_hearts(tmp_path, cases=1, size=40), recipe)
    assert broken(CHECK, batch) == {}
    mirrored = spoilt(batch, surface_points=lambda points: points * [-1, 1, 1])
    assert broken(CHECK, mirrored).keys() == {VENTRICLES, ATRIA, HANDED}


def test_it_applies_to_label_maps_with_the_four_chambers_only() -> None:
    heart = Recipe(input=("label_map",), labels=LabelsPart(), volume=VolumePart(count=8))
    assert CHECK.applies(schema_of(heart), heart) is None
    organs = heart.model_copy(update={"labels": LabelsPart(scheme="mapping", classes={"LV": 1, "liver": 2})})
    assert "LA, LV, RA, RV" in (CHECK.applies(schema_of(organs), organs) or "")
    shapes = {"vol_points": (8, 3), "vol_sdf": (8,), "vol_labels": (8,)}
    cache = Recipe(input=("cache",), cache=CachePart(layout="vecsetx", shapes=shapes))
    assert "patient" in (CHECK.applies(schema_of(cache), cache) or "")


def test_of_the_four_chambers_alone_only_the_ways_are_measured(tmp_path: Path) -> None:
    root = write_hearts(tmp_path, cases=1, size=40)
    [path] = root.rglob("*.nii.gz")
    image = nibabel.load(path)
    codes = np.asarray(image.dataobj)
    chambers = {name: HEART_10[name] for name in CHAMBERS}
    kept = np.where(np.isin(codes, list(chambers.values())), codes, 0).astype(codes.dtype)
    nibabel.save(nibabel.Nifti1Image(kept, image.affine, image.header), path)
    alone = rows_of("cardiac", root, heart_recipe(scheme="mapping", classes=chambers))
    assert numbers(alone).keys() == {VENTRICLES, ATRIA}
    assert broken(CHECK, alone) == {}
    assert broken(CHECK, turned(alone, np.diag([-1, 1, 1]))).keys() == {VENTRICLES, ATRIA}


def test_settings_reach_the_bounds(hearts: Batch) -> None:
    assert broken(CHECK, hearts, to_the_right=9, handedness=9).keys() == {VENTRICLES, ATRIA, HANDED}
    mirrored = turned(hearts, np.diag([-1, 1, 1]))
    assert broken(CHECK, mirrored, to_the_right=-9, handedness=-9) == {}
