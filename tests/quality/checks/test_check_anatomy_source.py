from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import euler_number as euler_number_of_skimage

from demo.raw import write_hearts
from shapestore.quality.check import Batch
from shapestore.quality.checks.anatomy_source import CHECK, VOLUMES, euler_number
from shapestore.quality.truth_labels import LabelTruth
from shapestore.schemas.recipe import HEART_10, Recipe, VolumePart
from shapestore.schemas.recipe_schema import schema_of
from tests.quality.helpers import broken, measures, spoilt
from tests.quality.raw_rows import heart_recipe, only, rows_of

GIVEN = partial(settings, deadline=None, max_examples=20, derandomize=True)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Hearts of the size of a man's; row 1 has no LAA, row 2 has voxels that are no cubes."""
    root = write_hearts(tmp_path_factory.mktemp("hearts"), cases=3, size=48, spacing=(3.0, 3.0, 3.0))
    return rows_of("cardiac", root, heart_recipe())


def rewritten(batch: Batch, folder: Path, change: Callable[[np.ndarray], None], zoom: float = 1) -> Batch:
    """The batch with its first raw map changed in place."""
    assert batch.raw is not None
    root = shutil.copytree(batch.raw, folder / "raw")
    path = root / str(batch.index["source"][0])
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    change(voxels)
    nib.save(nib.Nifti1Image(voxels, image.affine @ np.diag([zoom, zoom, zoom, 1])), path)
    return only(replace(batch, raw=root), [0])


def numbers(batch: Batch) -> dict[str, np.ndarray]:
    return {name: each.values for name, each in measures(CHECK, batch).items()}


def test_healthy_hearts_break_nothing(hearts: Batch) -> None:
    assert broken(CHECK, hearts) == {}


def test_pieces_volumes_and_surfaces_of_hearts_are_those_of_their_making(hearts: Batch) -> None:
    found = numbers(hearts)
    assert found["pieces of LV"].tolist() == [1, 1, 1]
    assert found["handles of LV"].tolist() == [0, 0, 0]
    assert found["pieces of Coronary"].min() >= 2
    assert np.isnan(found["volume of LAA"]).tolist() == [False, True, False]
    voxel = np.array([27, 27, 3 * 3 * 4.5]) / 1000
    assert found["volume of RV"] == pytest.approx(np.asarray(hearts.arrays["class_voxels"])[:, 4] * voxel)
    for name in ("LV", "RV", "Myocardium"):
        assert found[f"volume in surface_points of {name}"] == pytest.approx(1, abs=0.05)


def test_numbers_do_not_depend_on_how_rows_are_batched(hearts: Batch) -> None:
    whole = numbers(hearts)
    for row in range(3):
        alone = numbers(only(hearts, [row]))
        assert alone.keys() == whole.keys()
        assert all(np.array_equal(alone[name], whole[name][[row]], equal_nan=True) for name in whole)


def test_counts_of_voxels_that_are_not_the_maps_are_errors(hearts: Batch) -> None:
    wrong = spoilt(hearts, class_voxels=lambda counts: counts + np.eye(3, 10, dtype=int)[[1]] * [[0], [1], [0]])
    assert broken(CHECK, wrong) == {"wrong counts of class_voxels": [1]}
    assert measures(CHECK, wrong)["wrong counts of class_voxels"].severity == "error"


def test_a_chamber_in_two_pieces_is_reported(hearts: Batch, tmp_path: Path) -> None:
    def change(voxels: np.ndarray) -> None:
        middle = np.argwhere(voxels == HEART_10["RV"]).mean(axis=0).astype(int)[2]
        part = voxels[:, :, middle - 1 : middle + 2]
        part[part == HEART_10["RV"]] = 0

    batch = rewritten(hearts, tmp_path, change)
    assert broken(CHECK, batch)["share of RV in its largest piece"] == [0]
    assert numbers(batch)["pieces of RV"].item() >= 2


def test_a_chamber_with_a_hollow_is_reported(hearts: Batch, tmp_path: Path) -> None:
    def change(voxels: np.ndarray) -> None:
        x, y, z = np.argwhere(voxels == HEART_10["LV"]).mean(axis=0).astype(int)
        voxels[x - 2 : x + 3, y - 2 : y + 3, z - 2 : z + 3] = 0

    batch = rewritten(hearts, tmp_path, change)
    assert broken(CHECK, batch)["cavities of LV"] == [0]


def test_a_voxel_size_that_is_lost_is_reported(hearts: Batch, tmp_path: Path) -> None:
    batch = rewritten(hearts, tmp_path, lambda voxels: None, zoom=0.1)
    assert {f"volume of {name}" for name in VOLUMES} <= broken(CHECK, batch).keys()


def test_class_surfaces_that_were_taken_a_voxel_too_far_out_are_reported(hearts: Batch) -> None:
    labels = np.asarray(hearts.arrays["surface_labels"])

    def change(points: np.ndarray) -> np.ndarray:
        for row in range(len(points)):
            chamber = labels[row] == HEART_10["LV"]
            middle = points[row, chamber].mean(axis=0)
            points[row, chamber] = middle + (points[row, chamber] - middle) * 1.15
        return points

    swollen = spoilt(hearts, surface_points=change)
    assert broken(CHECK, swollen) == {"volume in surface_points of LV": [0, 1, 2]}
    assert numbers(swollen)["volume in surface_points of LV"].min() > 1.2


def test_a_raw_file_that_is_lost_is_left_to_distance_truth(hearts: Batch, tmp_path: Path) -> None:
    batch = replace(hearts, raw=tmp_path)
    assert broken(CHECK, batch) == {}
    assert all(np.isnan(values).all() for values in numbers(batch).values())


def test_a_raw_file_that_is_no_map_is_left_to_distance_truth(hearts: Batch, tmp_path: Path) -> None:
    for source in hearts.index["source"]:
        (tmp_path / str(source)).write_bytes(b"no map")
    assert all(np.isnan(values).all() for values in numbers(replace(hearts, raw=tmp_path)).values())


def test_classes_of_other_schemes_have_no_bounds_of_hearts(tmp_path: Path) -> None:
    recipe = heart_recipe(scheme="mapping", classes={"LV": 3, "rest": 5}, undeclared="background")
    batch = rows_of("cardiac", write_hearts(tmp_path, cases=1, size=40, spacing=(0.1, 0.1, 0.1)), recipe)
    assert broken(CHECK, batch) == {}
    assert np.isfinite(numbers(batch)["volume of LV"]).all()


def test_it_applies_to_label_maps_only() -> None:
    heart = Recipe(input=("label_map",), labels=heart_recipe().labels, volume=VolumePart(count=8))
    assert CHECK.applies(schema_of(heart), heart) is None
    assert "no label maps" in (CHECK.applies(schema_of(heart), heart.model_copy(update={"labels": None})) or "")


def test_settings_reach_the_bounds(hearts: Batch) -> None:
    tight = broken(CHECK, hearts, surface_volume=1e-9)
    assert "volume in surface_points of LV" in tight
    assert broken(CHECK, hearts, largest_piece=1, cavities=0) == {}


@GIVEN()
@given(mask=arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)))
def test_the_euler_number_is_that_of_skimage(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    assert euler_number(padded) == euler_number_of_skimage(padded, connectivity=3)


def test_a_ring_has_a_handle_and_a_shell_a_cavity() -> None:
    ring = np.zeros((5, 5, 3), bool)
    ring[1:4, 1:4, 1] = True
    ring[2, 2, 1] = False
    shell = np.pad(np.ones((3, 3, 3), bool), 1)
    shell[2, 2, 2] = False
    assert (euler_number(ring), euler_number(shell)) == (0, 2)


@GIVEN()
@given(
    size=st.tuples(*[st.integers(1, 6)] * 3),
    edges=st.tuples(*[st.floats(0.2, 4)] * 3),
)
def test_a_box_has_the_faces_of_a_box(size: tuple[int, int, int], edges: tuple[float, float, float]) -> None:
    codes = np.pad(np.full(size, 2, np.uint8), 1)
    truth = LabelTruth(codes, np.diag([*edges, 1.0]))
    a, b, c = np.multiply(size, edges)
    assert truth.face_area(2) == pytest.approx(2 * (a * b + b * c + c * a))
    assert truth.face_area(1) == 0
    assert truth.voxels[2] * truth.voxel_volume == pytest.approx(a * b * c)
