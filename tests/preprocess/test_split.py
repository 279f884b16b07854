from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import shapestore
from shapestore.errors import NotAStore, StoreLocked, UsageError
from shapestore.preprocess.plan import Plan, PlannedItem
from shapestore.preprocess.source import SourceItem
from shapestore.preprocess.split import split_by_group
from shapestore.preprocess.split_set import write_split, write_unpaired
from shapestore.schemas.recipe_file import load_recipe
from shapestore.store.entries import Failure, GroupCommit, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.reader import Store, open_store
from shapestore.store.writer import StoreWriter

HALVES = {"a": 0.5, "b": 0.5}
TRAIN_VAL_TEST = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Table:
    """Rows whose groups each lie in one stratum."""

    groups: list[str]
    strata: list[str]

    def take(self, rows: Sequence[int]) -> Table:
        return Table([self.groups[row] for row in rows], [self.strata[row] for row in rows])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to 3 strata of up to 12 groups of 1 to 5 rows, in any order."""
    sizes = draw(st.lists(st.lists(st.integers(1, 5), max_size=12), max_size=3))
    rows = [(f"{s}.{g}", f"s{s}") for s, each in enumerate(sizes) for g, size in enumerate(each) for _ in range(size)]
    shuffled = draw(st.permutations(rows))
    return Table([group for group, _ in shuffled], [stratum for _, stratum in shuffled])


@st.composite
def shares(draw: st.DrawFn) -> dict[str, float]:
    weights = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    return {f"part{i}": weight / sum(weights) for i, weight in enumerate(weights)}


# ------------------------------------------------------------------------------------------------ the pure function


@given(table=tables(), parts=shares(), seed=st.integers(0, 2**32))
def test_no_group_is_parted(table: Table, parts: dict[str, float], seed: int) -> None:
    codes = split_by_group(table.groups, table.strata, parts, seed)
    assert codes.dtype == np.int8
    assert codes.shape == (len(table.groups),)
    homes = defaultdict(set)
    for group, code in zip(table.groups, codes.tolist(), strict=True):
        homes[group].add(code)
    assert all(len(home) == 1 for home in homes.values())
    assert {code for home in homes.values() for code in home} <= set(range(len(parts)))


@given(table=tables(), parts=shares(), seed=st.integers(0, 2**32))
def test_each_part_has_its_share_to_within_the_largest_group(table: Table, parts: dict[str, float], seed: int) -> None:
    codes = split_by_group(table.groups, table.strata, parts, seed)
    for stratum in set(table.strata):
        chosen = np.array([each == stratum for each in table.strata])
        sizes = Counter(group for group, home in zip(table.groups, table.strata, strict=True) if home == stratum)
        largest, rows = max(sizes.values()), sum(sizes.values())
        found = np.bincount(codes[chosen], minlength=len(parts))
        if len(sizes) >= len(parts):
            assert (found > 0).all()
        # A part whose share is less than a group is given one all the same, at the others' cost.
        if len(sizes) < len(parts) or min(parts.values()) * rows >= largest:
            assert np.abs(found - rows * np.array(list(parts.values()))).max() <= largest + 1e-9


@given(table=tables(), parts=shares(), seed=st.integers(0, 2**32), data=st.data())
def test_the_order_of_rows_does_not_matter(
    table: Table, parts: dict[str, float], seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(table.groups))))
    moved = table.take(order)
    expected = split_by_group(table.groups, table.strata, parts, seed)[np.array(order, int)]
    np.testing.assert_array_equal(split_by_group(moved.groups, moved.strata, parts, seed), expected)


@given(table=tables(), parts=shares(), seed=st.integers(0, 2**32))
def test_other_strata_do_not_matter(table: Table, parts: dict[str, float], seed: int) -> None:
    codes = split_by_group(table.groups, table.strata, parts, seed)
    for stratum in set(table.strata):
        rows = [row for row, each in enumerate(table.strata) if each == stratum]
        alone = table.take(rows)
        np.testing.assert_array_equal(split_by_group(alone.groups, alone.strata, parts, seed), codes[rows])


def test_a_group_of_several_strata_counts_to_that_of_its_first_row() -> None:
    groups = [f"g{i}" for i in range(20)]
    strata = ["x"] * 20
    extra = split_by_group([*groups, "g3", "g3"], [*strata, "y", "y"], HALVES, 0)
    assert extra[20] == extra[21] == extra[3]
    sizes_as_in_x = split_by_group([*groups, "g3", "g3"], ["x"] * 22, HALVES, 0)
    np.testing.assert_array_equal(extra, sizes_as_in_x)


def test_single_groups_of_many_strata_do_not_all_go_to_one_part() -> None:
    names = [str(i) for i in range(600)]
    found = np.bincount(split_by_group(names, names, {"a": 0.34, "b": 0.33, "c": 0.33}, 0), minlength=3)
    assert found.min() > 150  # a third of 600, five standard deviations off at most


def test_the_seed_decides_the_shuffle() -> None:
    groups = [str(i) for i in range(100)]
    first, again, other = (split_by_group(groups, [""] * 100, HALVES, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 20 < np.count_nonzero(first != other) < 80
    assert np.count_nonzero(first != np.sort(first)) > 20


def test_known_assignment_stays() -> None:
    """The bytes of published split sets: a change here changes every set that is made anew."""
    groups = [f"g{i}" for i in range(12)]
    codes = split_by_group(groups, ["chair"] * 6 + ["table"] * 6, TRAIN_VAL_TEST, 7)
    assert codes.tolist() == [0, 0, 2, 0, 0, 1, 0, 0, 1, 0, 0, 2]


def test_no_rows_give_no_codes() -> None:
    assert split_by_group([], [], HALVES, 0).tolist() == []


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"a": 0.5, "b": 0.4}, "a=0.5, b=0.4 sum to 0.9"),
        ({"a": 1.5, "b": -0.5}, "above 0"),
        ({"a": 1.0, "b": 0.0}, "above 0"),
        ({"a": float("nan")}, "sum to nan"),
        ({}, "1 to 127 parts"),
        ({"": 1.0}, "a name"),
        ({str(i): 1 / 128 for i in range(128)}, "got 128"),
    ],
)
def test_wrong_shares_are_refused(parts: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split_by_group(["g"], [""], parts, 0)


# ------------------------------------------------------------------------------------------------- sets of a store


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def entries() -> list[RowEntry]:
    """30 rows: ten objects of two variants in `train`, ten single ones in `test`; row 4 is quarantined."""
    found = []
    for row in range(30):
        train = row < 20
        found.append(
            RowEntry(
                row=row,
                shape_id=f"{row:02d}",
                split="train" if train else "test",
                category="chair" if row % 4 < 2 else "table",
                group=f"object{row // 2}" if train else f"single{row}",
                source=f"{row}.obj",
                source_sha256="0" * 64,
                seed=row,
                failure=Failure(reason="no faces", message="none") if row == 4 else None,
            )
        )
    return found


def make_store(path: Path, rows: Sequence[RowEntry]) -> Path:
    """Write a store of tiny point clouds in one row group."""
    recipe = load_recipe("points", ["points.count=8", "points.fps_order=0", "points.normals=false"])
    with WriterLock(path):
        writer = StoreWriter.create(path, recipe, "meshes")
        work, schema, rows_per_shard = work_folder(path), writer.root.content, writer.root.rows_per_shard
        with PartWriter(work / "part", schema) as part:
            for entry in rows:
                if entry.failure is None:
                    part.append(entry.row, {"pc_xyz": np.full((8, 3), entry.row / 100, np.float32)})
        task = SealTask(
            group=0,
            first_row=0,
            rows=len(rows),
            parts=(Part(file="part", entries=tuple(rows), sizes=part.sizes),) if rows else (),
        )
        commits = []
        if rows:
            commits = [GroupCommit(0, {e.row: e for e in rows}, seal(path, work, schema, rows_per_shard, task))]
            (work / "sealing").rmdir()
        root = writer.with_codes({"split": [e.split for e in rows], "category": [e.category for e in rows]})
        writer.commit(root, commits)
        (work / "part").unlink(missing_ok=True)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path / "s.zarr", entries())


def files(store: Path) -> dict[str, bytes]:
    """Every file but those of `provenance`."""
    found = {file.relative_to(store): file.read_bytes() for file in store.rglob("*") if file.is_file()}
    return {str(name): data for name, data in found.items() if name.parts[0] != "provenance"}


def parts_of(store: Store, name: str) -> dict[str, str]:
    """Shape id to part, for rows that hold data."""
    names = [*store.names(name), ""]
    ids, codes = store.index("shape_id"), store.index(name)
    return {ids[row]: names[codes[row]] for row in store.rows().tolist()}


def test_rows_can_be_chosen_by_the_set(path: Path) -> None:
    counts = write_split(path, "fold", TRAIN_VAL_TEST, seed=3)
    store = open_store(path)
    assert list(counts) == ["train", "val", "test"]
    assert {part: len(store.rows(fold=part)) for part in counts} == counts
    assert sum(counts.values()) == len(store) == 29
    assert store.names("fold") == ("train", "val", "test")
    assert store.index("fold").dtype == np.int8
    assert store.index("fold")[4] >= 0, "a quarantined row has a part, too"
    assert not work_folder(path).exists()
    categories = np.array([*store.names("category")])[store.index("category")]
    expected = split_by_group(store.index("group").tolist(), categories.tolist(), TRAIN_VAL_TEST, 3)
    np.testing.assert_array_equal(store.index("fold"), expected)


def test_other_readers_see_the_set(path: Path) -> None:
    write_split(path, "fold", HALVES, seed=0)
    store = open_store(path)
    array = zarr.open_group(path, mode="r")["fold"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[:], store.index("fold"))
    assert array.attrs["flag_meanings"] == "a b"
    with xarray.open_zarr(path) as dataset:
        assert "fold" in dataset.coords
        np.testing.assert_array_equal(dataset["fold"].values, store.index("fold"))
    labelled = store.to_xarray()
    assert set(labelled.coords["fold"].values.tolist()) == {"a", "b"}


def test_only_rows_within_a_split_have_a_part(path: Path) -> None:
    write_split(path, "fold", HALVES, seed=0, within="train")
    codes = open_store(path).index("fold")
    assert (codes[:20] >= 0).all()
    assert (codes[20:] == -1).all()


def test_unpaired_takes_train_apart_and_keeps_test_whole(path: Path) -> None:
    counts = write_unpaired(path)
    store = open_store(path)
    assert list(counts) == ["train_mesh", "train_pc", "train_udf", "eval"]
    np.testing.assert_array_equal(store.rows(unpaired="eval"), store.rows(split="test"))
    np.testing.assert_array_equal(
        store.rows(unpaired=["train_mesh", "train_pc", "train_udf"]), store.rows(split="train")
    )
    assert len(store.rows(unpaired="train_mesh")) == counts["train_mesh"] > 0
    groups, codes = store.index("group"), store.index("unpaired")
    assert all(len(set(codes[groups == group].tolist())) == 1 for group in set(groups.tolist()))


def test_the_same_set_has_the_same_bytes(path: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other.zarr", entries())
    write_unpaired(path)
    once = files(path)
    write_unpaired(other)
    assert files(other) == once
    write_unpaired(path, replace=True)
    assert files(path) == once


def test_the_order_of_rows_in_the_store_does_not_matter(path: Path, tmp_path: Path) -> None:
    order = [*range(29, -1, -1)]
    # Half of each group in another category: which row comes first then matters, and it is to be the one of lowest id.
    mixed = [e.model_copy(update={"category": "lamp"}) if e.row % 3 == 0 else e for e in entries()]
    one = make_store(tmp_path / "one.zarr", mixed)
    moved = [mixed[old].model_copy(update={"row": row}) for row, old in enumerate(order)]
    two = make_store(tmp_path / "two.zarr", moved)
    for seed in range(4):
        for store in (one, two):
            write_split(store, "fold", HALVES, seed=seed, replace=True)
        assert parts_of(open_store(one), "fold") == parts_of(open_store(two), "fold")


def test_a_set_is_replaced_only_on_request(path: Path) -> None:
    write_split(path, "fold", HALVES, seed=0)
    before = files(path)
    with pytest.raises(UsageError, match="has fold with a, b"):
        write_split(path, "fold", {"c": 1.0}, seed=0)
    assert files(path) == before
    write_split(path, "fold", {"b": 0.5, "c": 0.5}, seed=0, replace=True)
    store = open_store(path)
    assert store.names("fold") == ("a", "b", "c"), "codes are only ever appended"
    assert set(store.index("fold").tolist()) == {1, 2}


def test_the_datasets_own_split_is_rewritten_only_on_request(path: Path) -> None:
    with pytest.raises(UsageError, match="has split with test, train"):
        write_split(path, "split", TRAIN_VAL_TEST, seed=0)
    parts = {"train": 0.8, "val": 0.2}
    write_split(path, "split", parts, seed=0, within="train", whole={"test": "test"}, replace=True)
    store = open_store(path)
    assert store.names("split") == ("test", "train", "val")
    np.testing.assert_array_equal(np.flatnonzero(store.index("split") == 0), np.arange(20, 30))
    assert len(store.rows(split="val")) > 0


def test_a_dataset_without_split_is_given_one(tmp_path: Path) -> None:
    bare = make_store(tmp_path / "bare.zarr", [e.model_copy(update={"split": ""}) for e in entries()])
    counts = write_split(bare, "split", TRAIN_VAL_TEST, seed=0)
    store = open_store(bare)
    assert {part: len(store.rows(split=part)) for part in TRAIN_VAL_TEST} == counts


def test_an_empty_store_has_an_empty_set(tmp_path: Path) -> None:
    empty = make_store(tmp_path / "empty.zarr", [])
    assert write_split(empty, "fold", HALVES, seed=0) == {"a": 0, "b": 0}
    assert len(open_store(empty).rows(fold="a")) == 0


@pytest.mark.parametrize(
    "name", ["category", "valid", "group", "pc_xyz", "integrity", "provenance", "shape", "pc_point", "Fold", "a/b", ""]
)
def test_names_of_other_things_are_refused(path: Path, name: str) -> None:
    before = files(path)
    with pytest.raises(UsageError):
        write_split(path, name, HALVES, seed=0, replace=True)
    assert files(path) == before


def test_a_group_on_both_sides_of_a_whole_part_is_refused(tmp_path: Path) -> None:
    leaky = [e.model_copy(update={"group": "object0"}) if e.row == 25 else e for e in entries()]
    path = make_store(tmp_path / "leaky.zarr", leaky)
    with pytest.raises(UsageError, match="'object0' on both sides"):
        write_unpaired(path)
    write_split(path, "fold", HALVES, seed=0, within="train")


def test_requests_that_contradict_themselves_are_refused(path: Path) -> None:
    with pytest.raises(UsageError, match=r"no split 'dev'\. It has: test, train"):
        write_split(path, "fold", HALVES, seed=0, within="dev")
    with pytest.raises(UsageError, match="asked for twice"):
        write_split(path, "fold", HALVES, seed=0, within="train", whole={"c": "train"})
    with pytest.raises(UsageError, match="asked for twice"):
        write_split(path, "fold", HALVES, seed=0, whole={"c": "test", "d": "test"})
    with pytest.raises(UsageError, match="names of their own"):
        write_split(path, "fold", HALVES, seed=0, whole={"a": "test"})
    with pytest.raises(UsageError, match=r"sum to 0\.5"):
        write_split(path, "fold", {"a": 0.5}, seed=0)


def test_an_unfinished_ingest_comes_first(path: Path) -> None:
    work = work_folder(path)
    work.mkdir()
    item = PlannedItem(30, SourceItem("30", "30.obj", "30"))
    Plan("append", "0" * 64, 4096, (item,)).save(work)
    with pytest.raises(UsageError, match=r"unfinished ingest\. Finish it first"):
        write_split(path, "fold", HALVES, seed=0)
    assert Plan.load(work) is not None


def test_another_writer_is_not_disturbed(path: Path) -> None:
    with WriterLock(path), pytest.raises(StoreLocked):
        write_split(path, "fold", HALVES, seed=0)


def test_no_store_no_traces(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        write_split(tmp_path / "none.zarr", "fold", HALVES, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_what_was_asked_is_kept(path: Path) -> None:
    write_split(path, "fold", HALVES, seed=11, within="train")
    write_unpaired(path)
    runs = json.loads(shapestore.open(path).index("provenance/runs")[0])
    assert [(run["mode"], run["name"], run["seed"]) for run in runs] == [
        ("split", "fold", 11),
        ("split", "unpaired", 0),
    ]
    assert runs[0]["parts"] == HALVES
    assert runs[1]["whole"] == {"eval": "test"}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), data=st.data())
def test_no_stored_set_parts_a_group(tmp_path_factory: pytest.TempPathFactory, seed: int, data: st.DataObject) -> None:
    homes = data.draw(st.lists(st.integers(0, 9), min_size=30, max_size=30))
    rows = [e.model_copy(update={"group": str(home)}) for e, home in zip(entries(), homes, strict=True)]
    path = make_store(tmp_path_factory.mktemp("leak") / "s.zarr", rows)
    write_split(path, "fold", TRAIN_VAL_TEST, seed=seed)
    store = open_store(path)
    groups, codes = store.index("group"), store.index("fold")
    assert all(len(set(codes[groups == group].tolist())) == 1 for group in set(groups.tolist()))
