"""Adopted npz caches: counts that differ, counts that lie, copies, and what their loaders did not notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_nepa_cache, write_vecsetx_cache
from shapestore import api
from tests.quality.defects.conftest import UNGATED, Made
from tests.quality.defects.spoil import spoil
from tests.quality.defects.verdict import assert_caught, assert_sound, examine

COUNTS = (51018, 51020)
"""Near points of two files of the real cache."""


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    with np.load(path) as file:
        held = dict(file)
    np.savez_compressed(path, **{**held, **change(held)})


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A cache of two cases whose near counts are those of the seeds' log."""
    folder = tmp_path_factory.mktemp("uneven")
    raw = write_vecsetx_cache(folder / "raw", cases=2, surface=52_000, volume=2000)
    for path, count in zip(sorted(raw.iterdir()), COUNTS, strict=True):
        rewrite(path, lambda held, count=count: {k: v[:count] for k, v in held.items() if k.startswith("near_")})
    api.ingest("npz", raw, folder / "s.zarr", workers=0)
    return Made("npz", raw, folder / "s.zarr")


def test_near_counts_that_differ_are_kept_and_raise_nothing(uneven: Made) -> None:
    assert api.open(uneven.store).index("near_count").tolist() == list(COUNTS)
    assert_sound(uneven.store)


@pytest.mark.parametrize("count", [-1, 51021])
def test_a_count_that_the_row_has_no_room_for_is_caught(count: int, uneven: Made, tmp_path: Path) -> None:
    store = spoil(uneven.store, tmp_path / "s.zarr", lambda s, row: {"near_count": count}, rows=[0])
    assert_caught(examine(store), "schema", rows=[0])


def test_a_file_whose_near_arrays_differ_in_count_is_quarantined(tmp_path: Path) -> None:
    raw = write_vecsetx_cache(tmp_path / "raw")
    rewrite(raw / "2.nii.img.npz", lambda held: {"near_sdf": held["near_sdf"][:-2]})
    result = api.ingest("npz", raw, tmp_path / "s.zarr", workers=0)
    assert (result.valid, result.quarantined) == (2, 1)
    (item,) = api.open(tmp_path / "s.zarr").quarantine()
    assert "near_sdf" in item["message"]
    assert item["shape_id"] == "2.nii.img"


@pytest.mark.parametrize("tag", ["vol", "near"])
def test_a_cache_of_wrong_signs_is_caught(tag: str, tmp_path: Path) -> None:
    """As in the seeds: all volume distances about -89, all near ones positive."""
    raw = write_vecsetx_cache(tmp_path / "raw")
    wrong = {"vol": -89.0, "near": 0.01}[tag]
    for path in raw.iterdir():
        rewrite(
            path,
            lambda held: {
                f"{tag}_sdf": np.full_like(held[f"{tag}_sdf"], wrong),
                f"{tag}_labels": np.full_like(held[f"{tag}_labels"], wrong < 0),
            },
        )
    api.ingest("npz", raw, tmp_path / "s.zarr", settings=UNGATED, workers=0)
    assert_caught(examine(tmp_path / "s.zarr"), "sign-balance", rows=range(3))


def test_a_copied_file_in_another_split_is_caught(tmp_path: Path) -> None:
    raw = write_nepa_cache(tmp_path / "raw")
    original = sorted((raw / "train" / "03797390").iterdir())[0]
    copy = raw / "test" / "03797390" / f"{'e' * 32}.npz"
    with np.load(original) as file:
        np.savez(copy, **dict(file))  # the same arrays in other bytes
    api.ingest("npz", raw, tmp_path / "s.zarr", workers=0)
    verdict = examine(tmp_path / "s.zarr")
    assert_caught(verdict, "duplicates")
    assert all(each.check == "duplicates" for each in verdict.result.findings), str(verdict)
