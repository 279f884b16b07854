"""Labels that contradict the geometry, classes that got lost, and hearts that are mirrored."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from shapestore import api
from shapestore.schemas.recipe import HEART_10
from shapestore.store.reader import Store
from tests.quality.defects.conftest import Made
from tests.quality.defects.spoil import Arrays, Change, spoil, values_of
from tests.quality.defects.verdict import assert_caught, examine

ROWS = [0, 3]
"""40 % of the rows."""


def without_class(code: int) -> Change:
    """No sample of one class; others take the places."""

    def change(store: Store, row: int) -> Arrays:
        changed: dict[str, np.ndarray] = {}
        for tag in ("surface", "vol", "near"):
            labels = store.row(f"{tag}_labels", row)
            others = np.flatnonzero((labels != code) & (labels > 0))
            kept = np.arange(len(labels))
            kept[labels == code] = np.resize(others, np.count_nonzero(labels == code))
            names = [f"{tag}_{what}" for what in ("points", "sdf", "labels") if f"{tag}_{what}" in store]
            changed |= {name: store.row(name, row)[kept] for name in names}
        return changed

    return change


def inconsistent(store: Store, row: int) -> Arrays:
    """Labels of another space: 36.9 % outside but labelled, 10.4 % inside without a label, 52.7 % consistent."""
    changed: dict[str, np.ndarray] = {}
    for tag in ("vol", "near"):
        labels = store.row(f"{tag}_labels", row).copy()
        outside, inside = np.flatnonzero(labels == 0), np.flatnonzero(labels > 0)
        labels[outside[: round(0.369 * len(labels))]] = 1
        labels[inside[: round(0.104 * len(labels))]] = 0
        changed[f"{tag}_labels"] = labels
    return changed


def rolled(labels: np.ndarray) -> np.ndarray:
    """Class codes off by one, 0 kept: the order of classes was another one when they were written."""
    return np.where(labels > 0, labels % 10 + 1, 0)


def with_maps(hearts: Made, folder: Path, change: Callable[[np.ndarray], np.ndarray], cases: Sequence[str]) -> Made:
    """The store that ingest makes of the same maps, some of them changed."""
    raw = Path(shutil.copytree(hearts.raw, folder / "raw"))
    for case in cases:
        path = raw / f"{case}.nii.gz"
        image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        changed = nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine, image.header)
        path.write_bytes(gzip.compress(changed.to_bytes(), mtime=0))
    return hearts.again(raw, folder / "s.zarr")


def cases(hearts: Made, rows: Sequence[int]) -> list[str]:
    return [str(name) for name in api.open(hearts.store).index("shape_id")[list(rows)]]


def test_labels_that_contradict_the_distance_are_caught(hearts: Made, tmp_path: Path) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", inconsistent, ROWS)
    verdict = examine(store)
    assert_caught(verdict, "schema", rows=ROWS)
    places = {each.place for each in verdict.of("schema")}
    assert places == {"vol_labels", "near_labels"}


@pytest.mark.parametrize("array", ["surface_labels", "vol_labels"])
def test_class_codes_off_by_one_are_caught(array: str, hearts: Made, tmp_path: Path) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", values_of(**{array: rolled}), ROWS)
    assert_caught(examine(store), "label-consistency", rows=ROWS)


def test_class_codes_off_by_one_everywhere_contradict_the_raw_map(hearts: Made, tmp_path: Path) -> None:
    change = values_of(surface_labels=rolled, vol_labels=rolled, near_labels=rolled)
    store = spoil(hearts.store, tmp_path / "s.zarr", change, ROWS)
    assert_caught(examine(store, hearts.raw), "distance-truth", rows=ROWS)


@pytest.mark.parametrize("name", ["LV", "LA", "Coronary"])
def test_a_class_that_the_samples_lost_in_40_percent_of_the_rows_is_caught(
    name: str, hearts: Made, tmp_path: Path
) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", without_class(HEART_10[name]), ROWS)
    verdict = examine(store)
    assert_caught(verdict, "class-coverage")
    accused = {each.row for each in verdict.of("class-coverage") if each.row is not None}
    assert accused == set(ROWS), str(verdict)
    assert all(name in each.message for each in verdict.of("class-coverage"))


@pytest.mark.parametrize("name", ["LV", "LA"])
def test_a_class_that_40_percent_of_the_maps_lack_is_caught(name: str, hearts: Made, tmp_path: Path) -> None:
    def dropped(voxels: np.ndarray) -> np.ndarray:
        return np.where(voxels == HEART_10[name], 0, voxels).astype(voxels.dtype)

    made = with_maps(hearts, tmp_path, dropped, cases(hearts, ROWS))
    verdict = examine(made.store)
    assert_caught(verdict, "class-coverage")
    assert any(name in each.message and each.row is None for each in verdict.of("class-coverage")), str(verdict)


def test_mirrored_hearts_are_caught(hearts: Made, tmp_path: Path) -> None:
    made = with_maps(hearts, tmp_path, lambda voxels: voxels[::-1].copy(), cases(hearts, ROWS))
    assert_caught(examine(made.store, made.raw), "anatomy", rows=ROWS)


def test_points_mirrored_after_they_were_read_are_caught(hearts: Made, tmp_path: Path) -> None:
    def mirrored(points: np.ndarray) -> np.ndarray:
        return points * [-1, 1, 1]

    change = values_of(surface_points=mirrored, vol_points=mirrored, near_points=mirrored)
    store = spoil(hearts.store, tmp_path / "s.zarr", change, ROWS)
    assert_caught(examine(store, hearts.raw), "anatomy", "distance-truth", rows=ROWS)
