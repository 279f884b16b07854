"""Deriving an array later gives what computing it at once would have given, and new rows have it too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.errors import UsageError
from shapestore.preprocess.derivations import DERIVATIONS

WITHOUT = (
    "points.count=128",
    "points.fps_order=0",
    "queries.count=300",
    "queries.fps_order=0",
    "queries.cloud_distance=false",
    "queries.grid_distance=false",
    "grid.size=8",
    "rays.count=40",
    "rays.views=4",
    "rays.rays_per_view=10",
)
WITH = (
    *WITHOUT,
    "points.fps_order=128",
    "queries.fps_order=300",
    "queries.cloud_distance=true",
    "queries.grid_distance=true",
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shapenet(tmp_path_factory.mktemp("raw"), models_per_class=2)
    (folder / "03001627" / "empty" / "models").mkdir(parents=True)
    (folder / "03001627" / "empty" / "models" / "model_normalized.obj").write_text("v 0 0 0\n")
    return folder


def a_model(raw: Path) -> Path:
    """One mesh that is not the empty one: which of several a glob names first is up to the file system."""
    return min(file for file in raw.glob("03001627/*/models/*.obj") if file.parts[-3] != "empty")


@pytest.fixture(scope="module")
def at_once(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("at_once") / "s.zarr"
    api.ingest("shapenet", raw, path, recipe="nepa-shapenet", settings=WITH, workers=0)
    return path


@pytest.fixture(scope="module")
def plain(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "s.zarr"
    api.ingest("shapenet", raw, path, recipe="nepa-shapenet", settings=WITHOUT, workers=0)
    return path


@pytest.fixture
def later(plain: Path, tmp_path: Path) -> Path:
    shutil.copytree(plain, tmp_path / "later.zarr")
    return tmp_path / "later.zarr"


@pytest.mark.parametrize("name", DERIVATIONS)
def test_later_is_the_same_as_at_once(at_once: Path, later: Path, name: str) -> None:
    api.derive(later, name, workers=0)
    one, other = api.open(at_once), api.open(later)
    np.testing.assert_array_equal(other.read(other.rows(), [name])[name], one.read(one.rows(), [name])[name])
    assert other.root.content.by_name[name] == one.root.content.by_name[name]
    assert api.validate(later, "full", workers=0).passed


def test_new_rows_have_it_too(raw: Path, at_once: Path, later: Path, tmp_path: Path) -> None:
    api.derive(later, "pt_fps_order", workers=0)
    grown = tmp_path / "grown"
    shutil.copytree(raw, grown)
    shutil.copytree(a_model(raw).parent, grown / "03001627" / "zzz" / "models")
    assert api.ingest("shapenet", grown, later, workers=0).computed == 1
    store = api.open(later)
    order = store.row("pt_fps_order", store.row_of("03001627/zzz"))
    assert sorted(order.tolist()) == list(range(300))
    assert api.validate(later, "full", workers=0).passed


def test_a_retried_row_gets_it_and_keeps_its_part(raw: Path, later: Path, tmp_path: Path) -> None:
    api.derive(later, "pc_fps_order", workers=0)
    api.split(later, "fold", {"a": 0.5, "b": 0.5})
    before = api.open(later).index("fold")
    mended = tmp_path / "mended"
    shutil.copytree(raw, mended)
    broken = mended / "03001627" / "empty" / "models" / "model_normalized.obj"
    shutil.copy(a_model(raw), broken)
    result = api.ingest("shapenet", mended, later, workers=0, retry=True)
    assert (result.computed, result.quarantined) == (1, 0)
    store = api.open(later)
    np.testing.assert_array_equal(store.index("fold"), before)
    assert sorted(store.row("pc_fps_order", store.row_of("03001627/empty")).tolist()) == list(range(128))


@pytest.mark.parametrize(
    ("name", "text"), [("pc_xyz", "already"), ("pc_nonsense", "cannot be derived"), ("pt_dist_udf_pool", "udf_grid")]
)
def test_what_cannot_be_derived_is_refused(raw: Path, tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "s.zarr"
    api.ingest("shapenet", raw, path, recipe="points", settings=("points.count=32", "points.fps_order=0"), workers=0)
    with pytest.raises(UsageError, match=text):
        api.derive(path, name, workers=0)
    assert api.validate(path, "full", workers=0).passed


def test_a_failure_leaves_no_trace(later: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shapestore.preprocess import derivations

    broken = DERIVATIONS["pc_fps_order"]
    wrong = type(broken)(broken.needs, broken.declare, lambda arrays, length: np.zeros(length, np.int32))
    monkeypatch.setitem(derivations.DERIVATIONS, "pc_fps_order", wrong)  # type: ignore[arg-type]
    before = sorted(path.relative_to(later).as_posix() for path in later.rglob("*"))
    with pytest.raises(Exception, match="order-prefix"):
        api.derive(later, "pc_fps_order", workers=0)
    assert sorted(path.relative_to(later).as_posix() for path in later.rglob("*")) == before
