"""Rebuild: what is computed once more is what the store holds, to the byte; and what is not is found and replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import zstd

from demo.raw import write_hearts, write_modelnet, write_nepa_cache, write_scanobjectnn, write_shapenet
from shapestore.errors import StoppedEarly, UsageError
from shapestore.preprocess import rebuild as rebuild_module
from shapestore.preprocess import rebuilt as rebuilt_module
from shapestore.preprocess.cluster import DaskWorkers
from shapestore.preprocess.compute import compute_row, no_gate
from shapestore.preprocess.derive import derive
from shapestore.preprocess.ingest import Request, prepare, run
from shapestore.preprocess.plan import Plan, PlannedItem
from shapestore.preprocess.rebuild import rebuild
from shapestore.preprocess.rebuilt import RebuiltRow, array_changes
from shapestore.preprocess.source import Discovery, SourceItem
from shapestore.preprocess.sources.meshes import Meshes
from shapestore.preprocess.split_set import write_split
from shapestore.preprocess.workers import InProcess, Workers
from shapestore.schemas.recipe import Recipe
from shapestore.store.layout import work_folder
from shapestore.store.reader import open_store
from shapestore.store.rowcodec import CHECKSUM_BYTES, crc32c
from tests.integration.conftest import tree_digest

POINTS = ("points.count=128", "points.fps_order=32")
SHAPE = (
    *POINTS,
    "queries.count=200",
    "queries.fps_order=32",
    "grid.size=8",
    "rays.count=20",
    "rays.views=2",
    "rays.rays_per_view=10",
)
SCAN = (*POINTS, "queries.count=200", "queries.fps_order=32")
HEART = (
    "surface.count=400",
    "surface.per_class_minimum=10",
    "volume.count=400",
    "volume.per_class_minimum=10",
    "near.count=400",
)
KINDS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "shapenet": (lambda to: write_shapenet(to, models_per_class=1), "nepa-shapenet", (*SHAPE, "queries.signed=true")),
    "modelnet40": (lambda to: write_modelnet(to, "off", train=1, test=1), "nepa-modelnet40", SHAPE),
    "scanobjectnn": (lambda to: write_scanobjectnn(to, objects=4, points=256), "nepa-scanobjectnn", SCAN),
    "cardiac": (lambda to: write_hearts(to, cases=1, size=40), "cardiac-sdf", HEART),
    "meshes": (lambda to: write_shapenet(to, models_per_class=1), "points", POINTS),
    "npz": (lambda to: write_nepa_cache(to, train=2, test=1), "npz", ()),
}
"""Source kind to what writes raw files of it, and to a recipe that is computed in no time."""


def ingest(kind: str, raw: Path, store: Path, recipe: str, settings: Sequence[str] = ()) -> None:
    request = Request(kind, raw, store, recipe, tuple(settings))
    run(request, prepare(request), InProcess, lambda _: None)


def again(
    store: Path,
    shape_ids: Sequence[str] | None = None,
    *,
    raw: Path | None = None,
    write: bool = False,
    workers: Callable[[], Workers] = InProcess,
) -> list[RebuiltRow]:
    return rebuild(store, shape_ids, raw, write, workers, lambda *_: None, lambda _: no_gate)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small store of every source kind."""
    stores = {}
    for kind, (write, recipe, changes) in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        ingest(kind, write(folder), folder / "s.zarr", recipe, changes)
        stores[kind] = folder / "s.zarr"
    return stores


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskWorkers]:
    with DaskWorkers(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw meshes, one of them empty, and their store."""
    folder = tmp_path_factory.mktemp("made")
    shutil.move(write_shapenet(folder, models_per_class=1), folder / "raw")
    (folder / "raw" / "empty.obj").write_text("# nothing\n")
    ingest("meshes", folder / "raw", folder / "s.zarr", "points", POINTS)
    return folder


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "raw", tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "s.zarr", tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_of_every_source_is_identical(kinds: dict[str, Path], kind: str) -> None:
    before = tree_digest(kinds[kind])
    rows = again(kinds[kind])
    assert len(rows) == len(open_store(kinds[kind])) > 0
    assert [row for row in rows if row.outcome != "identical"] == []
    assert tree_digest(kinds[kind]) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_of_every_source_is_identical_on_two_workers(
    kinds: dict[str, Path], kind: str, cluster: DaskWorkers
) -> None:
    rows = again(kinds[kind], workers=lambda: nullcontext(cluster))  # type: ignore[arg-type,return-value]
    assert len(rows) == len(open_store(kinds[kind]))
    assert [row for row in rows if row.outcome != "identical"] == []


def test_derived_arrays_are_computed_too(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "derived.zarr"
    ingest("meshes", raw, store, "points", ("points.count=128", "points.fps_order=0"))
    derive(store, "pc_fps_order", InProcess, lambda *_: None)
    assert {row.outcome for row in again(store)} == {"identical"}


def test_another_split_is_no_difference(store: Path) -> None:
    write_split(store, "split", {"left": 0.5, "right": 0.5}, seed=3, replace=True)
    assert {row.outcome for row in again(store)} == {"identical"}


def test_a_changed_file_is_told_with_the_arrays_that_differ_and_replaced(store: Path, raw: Path) -> None:
    first, second, *_ = sorted(raw.rglob("model_normalized.obj"))
    shape_id = str(first.relative_to(raw))
    shutil.copy(second, first)
    before = open_store(store)
    kept = {name: before.read(before.rows(), [name])[name] for name in before.arrays if name.startswith("pc_")}
    told = again(store, raw=raw)
    (changed,) = [row for row in told if row.outcome != "identical"]
    assert (changed.shape_id, changed.outcome, changed.source_changed, changed.written) == (
        shape_id,
        "different",
        True,
        False,
    )
    assert [change.array for change in changed.arrays] == ["pc_xyz", "pc_n", "pc_fps_order"]
    assert {"source_sha256", "scale"} <= {change.name for change in changed.index}

    (written,) = [row for row in again(store, raw=raw, write=True) if row.written]
    after = open_store(store)
    row = after.row_of(shape_id)
    assert written.row == row
    assert {each.outcome for each in again(store, raw=raw)} == {"identical"}
    others = before.rows() != row
    for name, values in kept.items():
        np.testing.assert_array_equal(after.read(after.rows(), [name])[name][others], values[others])
    assert not np.array_equal(after.row("pc_xyz", row), kept["pc_xyz"][~others][0])


def test_a_damaged_row_is_found_and_mended_to_the_byte(store: Path, raw: Path) -> None:
    whole = tree_digest(store)
    shard = store / "pc_n" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    (told,) = [row for row in again(store, raw=raw, write=True) if row.outcome != "identical"]
    assert (told.row, told.outcome, told.written) == (0, "different", True)
    assert [(change.array, change.damaged) for change in told.arrays] == [("pc_n", True)]
    assert tree_digest(store) == whole


def test_a_quarantined_shape_is_filled_when_its_file_is_mended(store: Path, raw: Path) -> None:
    (row,) = again(store, ["empty.obj"], raw=raw, write=True)
    assert (row.outcome, row.written) == ("quarantined", False)
    assert row.failure == row.quarantined
    shutil.copy(min(raw.rglob("model_normalized.obj")), raw / "empty.obj")
    (row,) = again(store, ["empty.obj"], raw=raw)
    assert (row.outcome, row.failure, row.written) == ("mended", None, False)
    assert list(open_store(store).quarantine()), "nothing is written unless it is asked for"
    (row,) = again(store, ["empty.obj"], raw=raw, write=True)
    assert row.written
    opened = open_store(store)
    assert not list(opened.quarantine())
    assert opened.row("pc_xyz", opened.row_of("empty.obj")).any()


def test_a_shape_that_has_got_a_new_category_is_told_and_replaced(
    store: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover = Meshes.discover

    def renamed(self: Meshes, root: Path, recipe: Recipe) -> Discovery:
        items = discover(self, root, recipe).items
        return Discovery(tuple(replace(item, category="new", split="new") for item in items))

    monkeypatch.setattr(Meshes, "discover", renamed)
    shape_id = str(min(raw.rglob("model_normalized.obj")).relative_to(raw))
    (row,) = again(store, [shape_id], raw=raw, write=True)
    assert [change.name for change in row.index] == ["category"]
    opened = open_store(store)
    assert opened.rows(category="new").tolist() == [row.row]
    assert opened.rows(split="new").tolist() == [], "a row stays in the parts that it was given"


@pytest.mark.parametrize("how", ["removed", "broken"])
def test_what_cannot_be_computed_any_more_keeps_its_data(store: Path, raw: Path, how: str) -> None:
    file = min(raw.rglob("model_normalized.obj"))
    if how == "removed":
        file.unlink()
    else:
        file.write_text("v 0 0 nonsense\n")
    before = tree_digest(store)
    (row,) = again(store, [str(file.relative_to(raw))], raw=raw, write=True)
    assert (row.outcome, row.written, row.source_changed) == ("failed", False, True)
    assert row.failure is not None
    assert tree_digest(store) == before


def test_the_same_values_compressed_otherwise_are_told_as_such(
    kinds: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = rebuilt_module.row_encoder

    def other_level(spec):  # type: ignore[no-untyped-def]
        def encode(row):  # type: ignore[no-untyped-def]
            body = zstd.compress(np.ascontiguousarray(row, spec.numpy_dtype).tobytes(), 19)
            return body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little")

        return encode if spec.kind == "packed" else encoder(spec)

    monkeypatch.setattr(rebuilt_module, "row_encoder", other_level)
    row, *_ = again(kinds["shapenet"])
    assert row.outcome == "different"
    assert {change.differing for change in row.arrays} == {0}


@given(st.lists(st.tuples(st.integers(0, 383), st.floats(2**-10, 8, width=32)), max_size=6, unique_by=lambda e: e[0]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_differing_values_are_counted_and_measured(made: Path, spoilt: list[tuple[int, float]]) -> None:
    opened = open_store(made / "s.zarr")
    row = int(opened.rows()[0])
    item = SourceItem(opened.index("shape_id")[row], opened.index("source")[row], opened.index("group")[row])
    job = rebuild_module._job(opened, made / "raw", no_gate)
    _, record = compute_row(job, PlannedItem(row, item))
    assert record is not None
    points = record.arrays["pc_xyz"].copy()
    stored = points.copy()
    for position, by in spoilt:
        points.flat[position] += np.float32(by)
    changes = list(
        array_changes(opened, row, record.model_copy(update={"arrays": {**record.arrays, "pc_xyz": points}}))
    )
    if not spoilt:
        assert changes == []
        return
    (change,) = changes
    assert (change.array, change.values, change.differing) == ("pc_xyz", 384, len(spoilt))
    assert change.largest == np.abs(points.astype(np.float64) - stored).max()


def test_an_interrupted_replacement_is_gone_on_with(store: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third, *_ = sorted(raw.rglob("model_normalized.obj"))
    shutil.copy(third, first)
    shutil.copy(third, second)
    real = rebuild_module.ingest.run

    def interrupted(request, work, workers, report, gate):  # type: ignore[no-untyped-def]
        def stop(progress):  # type: ignore[no-untyped-def]
            if progress.done:
                raise StoppedEarly("interrupted")

        return real(request, work, workers, stop, gate)

    monkeypatch.setattr(rebuild_module.ingest, "run", interrupted)
    with pytest.raises(StoppedEarly):
        again(store, raw=raw, write=True)
    monkeypatch.undo()
    assert work_folder(store).exists()
    assert len([row for row in again(store, raw=raw, write=True) if row.written]) == 2
    assert not work_folder(store).exists()
    opened = open_store(store)
    assert [run["mode"] for run in json.loads(opened.index("provenance/runs")[0])] == ["append", "rebuild", "rebuild"]
    assert set(opened.index("provenance/run").tolist()) == {0, 1, 2}, "one row each, and none computed twice"
    assert {row.outcome for row in again(store, raw=raw)} == {"identical"}


def test_an_unfinished_ingest_is_not_gone_on_with(store: Path, raw: Path) -> None:
    opened = open_store(store)
    items = (PlannedItem(opened.root.rows, SourceItem("new.obj", "new.obj", "new")),)
    work_folder(store).mkdir()
    Plan("append", opened.root.recipe_digest, opened.root.rows_per_shard, items).save(work_folder(store))
    with pytest.raises(UsageError, match="unfinished ingest"):
        again(store, raw=raw, write=True)
    assert {row.outcome for row in again(store, raw=raw)} == {"identical"}, "to compare needs no writer"


def test_what_is_not_there_is_said(store: Path, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'empty\.obj'"):
        again(store, ["empty.ob"], raw=raw)
    with pytest.raises(UsageError, match="nowhere does not exist"):
        again(store, raw=tmp_path / "nowhere")
    ingest("meshes", raw, tmp_path / "other.zarr", "points", POINTS)
    shutil.rmtree(raw)
    with pytest.raises(UsageError, match=r"other\.zarr was made from .*raw, which does not exist.*--raw"):
        again(tmp_path / "other.zarr")
