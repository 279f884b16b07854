"""No false alarm: what our own ingest makes of sound raw files, and sound caches, raises no error and no warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from demo.raw import write_hearts, write_modelnet, write_shapenet
from shapestore import api
from tests.quality.defects.conftest import FEW_SAMPLES, SIGNED, Made
from tests.quality.defects.verdict import assert_sound, examine

HEALTHY = ("meshes", "scans", "variants", "hearts", "nepa_cache", "vecsetx_cache")


@pytest.mark.parametrize("with_raw", [False, True], ids=["content", "with raw files"])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_store_raises_nothing(name: str, with_raw: bool, request: pytest.FixtureRequest) -> None:
    healthy: Made = request.getfixturevalue(name)
    assert_sound(healthy.store, healthy.raw if with_raw else None)


def test_distances_just_below_zero_are_inside_and_raise_nothing(hearts: Made, tmp_path: Path) -> None:
    """The seeds' checker took -1e-4 for the threshold where the labels had 0, and called 24 % of a sound set wrong."""
    close = Made(hearts.kind, hearts.raw, tmp_path, (*hearts.settings, "near.sigma=0.0001"))
    store = close.again(hearts.raw, tmp_path / "s.zarr").store
    opened = api.open(store)
    sdf = opened.read(opened.rows(), ["near_sdf"])["near_sdf"]
    labels = opened.read(opened.rows(), ["near_labels"])["near_labels"]
    barely_inside = (sdf < 0) & (sdf > -1e-4)
    assert barely_inside.mean() > 0.24
    assert (labels[barely_inside] > 0).all()
    assert_sound(store, hearts.raw)


@pytest.mark.parametrize(
    ("name", "setting"),
    [("meshes", "queries.distance=sampled"), ("meshes", "grid.udf=occupancy"), ("hearts", "labels.distance=edt")],
)
def test_a_mode_of_reproduction_that_the_recipe_names_is_no_error(
    name: str, setting: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    healthy: Made = request.getfixturevalue(name)
    settings = tuple(each for each in healthy.settings if each not in SIGNED)
    made = Made(healthy.kind, healthy.raw, tmp_path, (*settings, setting)).again(healthy.raw, tmp_path / "s.zarr")
    verdict = examine(made.store, made.raw)
    assert verdict.result.passed, str(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shapenet", "modelnet40", "cardiac"])
def test_the_built_in_recipes_as_they_are_raise_nothing(kind: str, tmp_path: Path) -> None:
    write: dict[str, Callable[[], Path]] = {
        "shapenet": lambda: write_shapenet(tmp_path, models_per_class=3),
        "modelnet40": lambda: write_modelnet(tmp_path, "off"),
        "cardiac": lambda: write_hearts(tmp_path / "raw", cases=3, spacing=(1.6, 1.6, 1.6)),
    }
    raw = write[kind]()
    api.ingest(kind, raw, tmp_path / "s.zarr", workers=0)
    assert_sound(tmp_path / "s.zarr", raw)


def test_real_left_atria_raise_nothing(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "cardiac" / "heart-segmentation-monai"
    settings = ("labels.scheme=single", *FEW_SAMPLES)
    assert_sound(Made("cardiac", raw, tmp_path, settings).again(raw, tmp_path / "s.zarr").store, raw)


@pytest.mark.slow
def test_real_meshes_raise_no_error_and_only_what_is_true(shared_data: Path, tmp_path: Path) -> None:
    """Six files hold the same cube, one is a flat polygon, some are so open that inside is a matter of opinion."""
    raw = shared_data / "mesh"
    settings = (*SIGNED, "queries.count=5000", "grid.size=32")
    api.ingest("meshes", raw, tmp_path / "s.zarr", recipe="nepa-shapenet", settings=settings, workers=0)
    verdict = examine(tmp_path / "s.zarr", raw)
    assert verdict.result.passed, str(verdict)
    assert {each.check for each in verdict.result.findings} <= {"duplicates", "degenerate", "sign-confidence"}
