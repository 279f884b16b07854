from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.heart import write_vecsetx_cache
from demo.raw import write_nepa_cache
from shapestore.errors import RowEmpty, UsageError
from shapestore.preprocess.sources.npz import Npz
from shapestore.schemas.recipe_file import load_recipe
from shapestore.store.entries import GroupCommit, RowEntry
from shapestore.store.export import export_npz
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.reader import Store, open_store
from shapestore.store.writer import StoreWriter

DESCRIBED = {"shape_id", "split", "category", "source", "shift", "scale"}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def loaded(file: Path) -> dict[str, NDArray[Any]]:
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def store(built: Any) -> Store:
    return open_store(built.path)


def test_every_valid_row_is_one_file_by_split_and_id(store: Store, built: Any, tmp_path: Path) -> None:
    assert export_npz(store, tmp_path / "out") == len(built.valid)
    expected = {f"{built.entry(row).split or 'all'}/{built.entry(row).shape_id}.npz" for row in built.valid}
    assert set(tree(tmp_path / "out")) == expected


def test_a_file_holds_the_row(store: Store, built: Any, tmp_path: Path) -> None:
    export_npz(store, tmp_path / "out")
    for row in built.valid:
        entry, arrays = built.entry(row), built.arrays(row)
        found = loaded(tmp_path / "out" / (entry.split or "all") / f"{entry.shape_id}.npz")
        assert found.keys() == arrays.keys() | DESCRIBED
        for name, value in arrays.items():
            filled = value[: entry.declared["near_count"]] if name.startswith("near_") else value
            np.testing.assert_array_equal(found[name], filled, strict=True)
        for name in ("shape_id", "split", "category", "source", "scale"):
            assert found[name].shape == ()
            assert found[name].item() == getattr(entry, name)
        assert tuple(found["shift"].tolist()) == entry.shift
        assert found["shift"].dtype == found["scale"].dtype == np.float64


def test_members_are_stored_and_readable_by_anybody(store: Store, tmp_path: Path) -> None:
    export_npz(store, tmp_path / "out", rows=[0])
    (file,) = (tmp_path / "out").rglob("*.npz")
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}


def test_the_same_rows_give_the_same_bytes(store: Store, tmp_path: Path) -> None:
    export_npz(store, tmp_path / "one")
    export_npz(store, tmp_path / "two", rows=store.rows()[::-1])
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_rows_and_arrays_can_be_chosen(store: Store, tmp_path: Path) -> None:
    assert export_npz(store, tmp_path / "out", rows=[5, 2, 5], names=["near_sdf", "pc_xyz", "near_count"]) == 2
    for file in (tmp_path / "out").rglob("*.npz"):
        found = loaded(file)
        assert found.keys() == {"pc_xyz", "near_sdf", "near_count"} | DESCRIBED
        assert len(found["near_sdf"]) == found["near_count"].item()


def test_no_rows_give_an_empty_folder(store: Store, tmp_path: Path) -> None:
    assert export_npz(store, tmp_path / "out", rows=[]) == 0
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_folder_is_taken_and_a_used_one_refused(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_npz(store, out, rows=[0])
    before = tree(out)
    with pytest.raises(UsageError, match="not an empty folder"):
        export_npz(store, out, rows=[1])
    assert tree(out) == before
    file = min(out.rglob("*.npz"))
    with pytest.raises(UsageError, match="not an empty folder"):
        export_npz(store, file)


def test_what_cannot_be_exported_is_refused_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RowEmpty):
        export_npz(store, tmp_path / "out", rows=[2, 3])
    with pytest.raises(UsageError, match="no array 'pc_xzy'"):
        export_npz(store, tmp_path / "out", names=["pc_xzy"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape_id": "../../away"}, "cannot be a path"),
        ({"shape_id": "/etc/away"}, "cannot be a path"),
        ({"split": ".."}, "cannot be a path"),
        ({"split": "a/b"}, "cannot be the name of a folder"),
        ({"shape_id": "one.npz/two"}, r"train/one\.npz would have to be a file and a folder"),
    ],
)
def test_a_foreign_store_cannot_write_outside(tmp_path: Path, changes: Mapping[str, str], said: str) -> None:
    entries = [entry(0, shape_id="one"), entry(1, shape_id="two").model_copy(update=changes)]
    arrays = [{"pc_xyz": np.zeros((4, 3), np.float32)}] * 2
    recipe = load_recipe("points", ["points.count=4", "points.fps_order=0", "points.normals=false"])
    path = written(tmp_path / "foreign.zarr", recipe, entries, arrays)
    with pytest.raises(UsageError, match=said):
        export_npz(open_store(path), tmp_path / "deep" / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["foreign.zarr"]


@pytest.mark.parametrize("kind", ["mesh", "scan", "vecsetx"])
def test_an_adopted_cache_comes_out_as_it_was_adopted(tmp_path: Path, kind: str) -> None:
    raw = tmp_path / "raw"
    if kind == "vecsetx":
        write_vecsetx_cache(raw, cases=2, surface=320, volume=64)
    else:
        write_nepa_cache(raw, kind, train=2, test=1, points=32, pool=50, grid=8, views=2, rays_per_view=8)  # type: ignore[arg-type]
    source = Npz()
    recipe = source.complete(raw, load_recipe("npz"))
    items = sorted(source.discover(raw, recipe).items, key=lambda item: item.shape_id)
    adopted = [dict(source.read(raw, item, recipe).arrays) for item in items]
    entries = [
        entry(row, shape_id=item.shape_id, split=item.split, category=item.category, source=item.path)
        for row, item in enumerate(items)
    ]
    path = written(tmp_path / "s.zarr", recipe, entries, adopted)
    export_npz(open_store(path), tmp_path / "out")

    for item, arrays in zip(items, adopted, strict=True):
        file = tmp_path / "out" / (item.split or "all") / f"{item.shape_id}.npz"
        found = loaded(file)
        counts = {name for name in arrays if name.endswith("_count")}
        assert found.keys() - DESCRIBED == arrays.keys() - counts
        for name in arrays.keys() - counts:
            filled = arrays.get(f"{name.split('_')[0]}_count", np.array(None)).item()
            np.testing.assert_array_equal(found[name], arrays[name][:filled], strict=True)


def entry(row: int, **values: Any) -> RowEntry:
    return RowEntry.model_validate(
        {"row": row, "split": "train", "group": str(row), "source": "x", "source_sha256": "0" * 64, "seed": row}
        | values
    )


def written(path: Path, recipe: Any, entries: list[RowEntry], arrays: list[dict[str, NDArray[Any]]]) -> Path:
    """Write a store of one row group by hand."""
    with WriterLock(path):
        writer = StoreWriter.create(path, recipe, "npz")
        work, schema = work_folder(path), writer.root.content
        counts = [spec.name for spec in schema.index_arrays]
        entries = [
            each.model_copy(update={"declared": {name: int(values[name]) for name in counts}})
            for each, values in zip(entries, arrays, strict=True)
        ]
        with PartWriter(work / "part", schema) as part:
            for row, values in enumerate(arrays):
                part.append(row, values)
        task = SealTask(
            group=0,
            first_row=0,
            rows=len(entries),
            parts=(Part(file="part", entries=tuple(entries), sizes=part.sizes),),
        )
        shards = seal(path, work, schema, writer.root.rows_per_shard, task)
        root = writer.with_codes({"split": [e.split for e in entries], "category": [e.category for e in entries]})
        writer.commit(root, [GroupCommit(0, {e.row: e for e in entries}, shards)])
        (work / "part").unlink()
        (work / "sealing").rmdir()
    return path
