"""The reading side: views on the map, gathers into buffers, selection, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shapestore
from shapestore.errors import RowEmpty, StoreDamaged, UsageError
from shapestore.store import shard_cache
from tests.store.conftest import CATEGORIES, GRID, POINTS, ROWS_PER_SHARD, SPLITS, Built, MakeStore

MAPPED = ("pc_xyz", "pc_n", "pc_fps_order", "pc_mask", "near_points", "near_sdf", "near_labels")
DATA = (*MAPPED, "udf_grid")
INDEX = ("shape_id", "valid", "split", "category", "group", "shift", "scale", "seed", "near_count", "source_sha256")


@pytest.fixture(scope="module")
def store(built: Built) -> Any:
    return shapestore.open(built.path, checksums="always")


def address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


@pytest.mark.parametrize("name", DATA)
def test_every_row_is_what_was_written(store: Any, built: Built, name: str) -> None:
    for row in built.valid:
        found = store[name][row]
        written = built.arrays(row)[name]
        assert (found.dtype, found.shape) == (written.dtype, written.shape)
        assert found.tobytes() == written.tobytes()


@pytest.mark.parametrize("name", MAPPED)
def test_a_row_is_a_read_only_view_on_the_map(store: Any, built: Built, name: str) -> None:
    for row in built.valid:
        group, slot = divmod(row, ROWS_PER_SHARD)
        whole = np.frombuffer(store.shard(name, group).buffer, np.uint8)
        stride = built.schema.by_name[name].row_bytes + 4
        view = store[name][row]
        assert np.shares_memory(view, whole)
        assert address(view) == address(whole) + slot * stride
        assert address(store[name][row]) == address(view)
        assert not view.flags.writeable
        assert not view.flags.owndata
        assert view.flags.c_contiguous
        assert view.flags.aligned
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 0


@pytest.mark.parametrize("name", MAPPED)
def test_a_tensor_shares_the_map_and_never_reaches_the_file(built: Built, name: str) -> None:
    store = shapestore.open(built.path)
    row = built.valid[4]
    file = built.path / name / "c" / "0" / Path(*["0"] * len(built.schema.by_name[name].shape))
    before = file.read_bytes()
    tensor = store.tensor(name, row)
    assert tensor.data_ptr() == address(store[name][row])
    assert tensor.numpy().tobytes() == built.arrays(row)[name].tobytes()
    tensor.fill_(1)
    assert (store[name][row] == 1).all(), "it is the same memory, so this process sees the change"
    assert file.read_bytes() == before
    assert shapestore.open(built.path)[name][row].tobytes() == built.arrays(row)[name].tobytes()


def test_a_tensor_of_a_packed_array_can_be_changed_too(built: Built) -> None:
    store, row = shapestore.open(built.path), built.valid[0]
    tensor = store.tensor("udf_grid", row)
    tensor.fill_(7)
    assert store["udf_grid"][row].tobytes() == built.arrays(row)["udf_grid"].tobytes()


def test_views_outlive_the_store(built: Built) -> None:
    store = shapestore.open(built.path)
    views = [store["pc_xyz"][row] for row in built.valid]
    del store
    for row, view in zip(built.valid, views, strict=True):
        assert view.tobytes() == built.arrays(row)["pc_xyz"].tobytes()


def test_opening_maps_nothing(built: Built) -> None:
    store = shapestore.open(built.path)
    store.rows()
    assert str(built.path) not in Path("/proc/self/maps").read_text() or len(store._rows.shards) == 0
    assert len(store._rows.shards) == 0
    store["pc_xyz"][0]
    assert len(store._rows.shards) == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data(), first=st.none() | st.integers(1, GRID))
def test_a_gather_is_the_rows_one_by_one(store: Any, built: Built, data: st.DataObject, first: int | None) -> None:
    rows = data.draw(st.lists(st.sampled_from(built.valid), max_size=12))
    names = data.draw(st.lists(st.sampled_from([*DATA, *INDEX]), unique=True))
    found = store.read(rows, names, first=first)
    assert list(found) == names
    for name in names:
        single = [store.index(name)[row] if name in INDEX else store[name][row][:first] for row in rows]
        assert len(found[name]) == len(rows)
        assert all(np.array_equal(a, b) for a, b in zip(found[name], single, strict=True))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), first=st.none() | st.integers(1, GRID))
def test_a_gather_fills_the_buffers_it_is_given(
    store: Any, built: Built, data: st.DataObject, first: int | None
) -> None:
    count = data.draw(st.integers(1, 6))
    shapes = {
        name: (first or built.schema.by_name[name].shape[0], *built.schema.by_name[name].shape[1:]) for name in DATA
    }
    out = {name: np.empty((count, *shapes[name]), built.schema.by_name[name].numpy_dtype) for name in DATA}
    out["seed"] = np.empty(count, np.int64)
    where = {name: address(buffer) for name, buffer in out.items()}
    for _ in range(2):
        rows = data.draw(st.lists(st.sampled_from(built.valid), min_size=count, max_size=count))
        found = store.read(rows, list(out), out=out, first=first)
        fresh = store.read(rows, list(out), first=first)
        for name, buffer in out.items():
            assert found[name] is buffer
            assert address(buffer) == where[name]
            assert buffer.tobytes() == fresh[name].tobytes()


@settings(max_examples=80, deadline=None)
@given(data=st.data(), kind=st.sampled_from([np.intp, np.int32, np.uint8]), fill=st.booleans())
def test_chosen_entries_are_those_of_the_rows(
    store: Any, built: Built, data: st.DataObject, kind: type, fill: bool
) -> None:
    """Rows of any size, entries of 1, 4 and 12 bytes, and of others (a plane of the packed grid)."""
    rows = data.draw(st.lists(st.sampled_from(built.valid), max_size=6))
    count = data.draw(st.integers(0, 5))
    names = data.draw(st.lists(st.sampled_from([*DATA, *INDEX]), unique=True, min_size=1))
    fewest = min((built.schema.by_name[name].shape[0] for name in names if name in DATA), default=1)
    picks = data.draw(st.lists(st.integers(0, fewest - 1), min_size=len(rows) * count, max_size=len(rows) * count))
    at = np.array(picks, kind).reshape(len(rows), count)
    out = {}
    if fill:
        out = {
            name: np.empty((len(rows), count, *spec.shape[1:]), spec.numpy_dtype)
            for name, spec in built.schema.by_name.items()
            if name in names and name in DATA
        }
    found = store.read(rows, names, out=out, at=at)
    assert list(found) == names
    for name in names:
        if name in INDEX:
            assert np.array_equal(found[name], store.index(name)[rows])
            continue
        whole = np.array([built.arrays(row)[name] for row in rows]).reshape(-1, *built.schema.by_name[name].shape)
        wanted = whole[np.arange(len(rows))[:, None], at]
        assert found[name].dtype == built.schema.by_name[name].numpy_dtype
        assert np.array_equal(found[name], wanted)
        assert not fill or found[name] is out[name]


def test_entries_of_other_sizes_are_copied_whole(built: Built) -> None:
    """No array of the schemas has entries of 8 bytes, nor a mapped one of 36: the kernel must not mind."""
    from shapestore.store.gather import copy_entries

    rng = np.random.default_rng(0)
    for size in (2, 3, 8, 36):
        source, target = rng.integers(0, 256, (2, 7, size), np.uint8), np.zeros((2, 4, size), np.uint8)
        picks = rng.integers(0, 7, (2, 4))
        sources, targets = (address(a) + np.arange(2, dtype=np.intp) * a[0].nbytes for a in (source, target))
        copy_entries(sources, picks, targets, size)
        assert np.array_equal(target, source[np.arange(2)[:, None], picks])


@pytest.mark.parametrize("wrong", [-1, POINTS, 2**62, -(2**63), np.uint64(2**64 - 1)])
@pytest.mark.parametrize("name", ["pc_xyz", "pc_mask"])
def test_an_entry_that_is_not_there_is_an_index_error(store: Any, name: str, wrong: Any) -> None:
    at = np.array([[0, 1], [2, wrong]], np.uint64 if isinstance(wrong, np.uint64) else np.int64)
    with pytest.raises(IndexError, match=name):
        store.read([0, 1], [name], at=at)
    with pytest.raises(IndexError, match="udf_grid"):
        store.read([0, 1], ["udf_grid"], at=np.array([[0, GRID], [0, 0]]))


@pytest.mark.parametrize(
    "at",
    [np.zeros((1, 3), int), np.zeros((3, 3), int), np.zeros(2, int), np.zeros((2, 1, 1), int), np.zeros((2, 2)),
     np.ones((2, POINTS), bool), [["0"], ["1"]]],
    ids=["too few rows", "too many rows", "flat", "too deep", "not whole", "a mask", "text"],
)  # fmt: skip
def test_what_are_no_entries_of_the_rows_is_refused(store: Any, at: Any) -> None:
    with pytest.raises(UsageError, match=r"\(2, k\)"):
        store.read([0, 1], ["pc_xyz"], at=at)


def test_entries_and_a_prefix_are_not_read_at_once(store: Any) -> None:
    with pytest.raises(UsageError, match="either"):
        store.read([0], ["pc_xyz"], first=2, at=np.zeros((1, 2), int))


def test_a_buffer_for_entries_must_fit_them(store: Any) -> None:
    with pytest.raises(UsageError, match="pc_xyz"):
        store.read([0], ["pc_xyz"], out={"pc_xyz": np.empty((1, POINTS, 3), np.float32)}, at=np.zeros((1, 2), int))


@pytest.mark.parametrize("name", ["pc_xyz", "udf_grid"])
@pytest.mark.parametrize("checksums", ["first", "always"])
def test_reading_entries_compares_the_checksum_of_the_whole_row(copied: Built, name: str, checksums: Any) -> None:
    shard = next((copied.path / name / "c" / "0").rglob("0"), None)
    assert shard is not None
    file = shard if shard.is_file() else next(path for path in shard.rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[5] ^= 16
    file.write_bytes(content)
    with pytest.raises(StoreDamaged, match=name):
        shapestore.open(copied.path, checksums=checksums).read([0], [name], at=np.array([[2]]))


def test_entries_over_more_shards_than_may_be_mapped(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_cache, "most_maps", lambda: 1)
    store = shapestore.open(built.path)
    rows = np.random.default_rng(0).permutation(built.valid * 3)
    at = np.random.default_rng(1).integers(0, POINTS, (len(rows), 4))
    found = store.read(rows, ["pc_xyz"], at=at)["pc_xyz"]
    for row, picks, values in zip(rows.tolist(), at, found, strict=True):
        assert np.array_equal(values, built.arrays(row)["pc_xyz"][picks])


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


WRONG_BUFFERS = {
    "too few rows": ("pc_xyz", np.empty((1, POINTS, 3), np.float32)),
    "too many rows": ("pc_xyz", np.empty((3, POINTS, 3), np.float32)),
    "another dtype": ("pc_xyz", np.empty((2, POINTS, 3), np.float64)),
    "another byte order": ("pc_xyz", np.empty((2, POINTS, 3), ">f4")),
    "not contiguous": ("pc_xyz", np.empty((2, POINTS, 6), np.float32)[:, :, ::2]),
    "Fortran order": ("pc_xyz", np.empty((2, POINTS, 3), np.float32, order="F")),
    "flat": ("pc_xyz", np.empty(2 * POINTS * 3, np.float32)),
    "read-only": ("pc_xyz", read_only(np.empty((2, POINTS, 3), np.float32))),
    "packed, another dtype": ("udf_grid", np.empty((2, GRID, GRID, GRID), np.float32)),
    "packed, read-only": ("udf_grid", read_only(np.empty((2, GRID, GRID, GRID), np.float16))),
    "index, another dtype": ("seed", np.empty(2, np.float32)),
    "index, narrower": ("seed", np.empty(2, np.int16)),
    "index, another shape": ("seed", np.empty((3, 2), np.int64)),
}


@pytest.mark.parametrize(("name", "buffer"), WRONG_BUFFERS.values(), ids=WRONG_BUFFERS)
def test_a_wrong_buffer_is_refused(store: Any, name: str, buffer: np.ndarray) -> None:
    with pytest.raises(UsageError, match=name):
        store.read([0, 1], [name], out={name: buffer})


@pytest.mark.parametrize("first", [0, -1, POINTS + 1])
def test_an_impossible_prefix_is_refused(store: Any, first: int) -> None:
    with pytest.raises(UsageError, match="no first"):
        store.read([0], ["pc_xyz"], first=first)


@settings(deadline=None)
@given(
    split=st.none() | st.sampled_from(SPLITS) | st.lists(st.sampled_from(SPLITS)),
    category=st.none() | st.sampled_from(CATEGORIES) | st.lists(st.sampled_from(CATEGORIES)),
    group=st.none() | st.sampled_from(["object 1", "object 2", "nothing"]),
)
def test_selection_agrees_with_a_loop(store: Any, built: Built, split: Any, category: Any, group: Any) -> None:
    wanted = {"split": split, "category": category, "group": group}
    given_ = {name: value for name, value in wanted.items() if value is not None}
    naive = [
        row
        for row in built.valid
        if all(
            getattr(built.entry(row), name) in ([value] if isinstance(value, str) else value)
            for name, value in given_.items()
        )
    ]
    found = store.rows(**given_)
    assert found.dtype == np.int64
    assert found.tolist() == naive


def test_lengths_and_names(store: Any, built: Built) -> None:
    assert len(store) == len(built.valid) == len(store.rows())
    assert store.arrays == tuple(built.schema.by_name)
    assert store["pc_xyz"].shape == (built.rows, POINTS, 3)
    assert len(store["pc_xyz"]) == built.rows
    assert store.names("category") == CATEGORIES
    for row in range(built.rows):
        assert store.row_of(built.entry(row).shape_id) == row
    assert [item["row"] for item in store.quarantine()] == sorted(built.failed)


UNKNOWN = {
    "an array": (lambda s: s["pc_xzy"], "pc_xyz"),
    "an array of a gather": (lambda s: s.read([0], ["pc_xzy"]), "pc_xyz"),
    "an index array as an array": (lambda s: s["seed"], r"store\.index"),
    "an index array": (lambda s: s.index("sede"), "seed"),
    "an array as an index array": (lambda s: s.index("pc_xyz"), "near_count"),
    "a split": (lambda s: s.rows(split="tset"), "test, train, val"),
    "one category of several": (lambda s: s.rows(category=["chair", "chiar"]), "airplane, bed side table, chair"),
    "a condition": (lambda s: s.rows(spilt="test"), "split"),
    "a shape": (lambda s: s.row_of("shapes/001-u"), "Did you mean 'shapes/001-ü'"),
    "the names of a column": (lambda s: s.names("colour"), "category"),
    "a value of another type": (lambda s: s.rows(scale="large"), "scale"),
    "a condition on other rows": (lambda s: s.rows(**{"quarantine/reason": "no faces"}), "quarantine/reason"),
}


@pytest.mark.parametrize(("ask", "known"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(store: Any, ask: Any, known: str) -> None:
    with pytest.raises(UsageError, match=known):
        ask(store)


def test_what_is_copied_from_stays_mapped(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gather copies by address: another thread that gives up maps just then must not unmap what it copies from."""
    import weakref

    from shapestore.store import gather

    store = shapestore.open(built.path)
    rows, copy_rows, looked = store.rows(), gather.copy_rows, []

    def copy_after_all_maps_were_given_up(*arguments: Any) -> None:
        maps = [weakref.ref(shard) for shard in store._rows.shards.maps.values()]
        store._rows.shards.clear()
        assert all(shard() is not None for shard in maps)
        looked.append(len(maps))
        copy_rows(*arguments)

    monkeypatch.setattr(gather, "copy_rows", copy_after_all_maps_were_given_up)
    found = store.read(rows, ["pc_xyz"])["pc_xyz"]
    assert looked[0] > 1
    for row, values in zip(rows.tolist(), found, strict=True):
        np.testing.assert_array_equal(values, store.row("pc_xyz", row))


@pytest.mark.parametrize("row", [-1, 21, 2**40])
def test_a_row_that_is_not_there_is_an_index_error(store: Any, row: int) -> None:
    with pytest.raises(IndexError, match=r"of 21"):
        store["pc_xyz"][row]
    with pytest.raises(IndexError, match=r"of 21"):
        store.read([0, row], ["pc_xyz"])
    with pytest.raises(IndexError, match=r"of 21"):
        store.tensor("pc_xyz", row)


@pytest.mark.parametrize("rows", [[0.5, 1.0], np.array([0.0, 1.7]), np.array([True, False, True]), ["0"]], ids=str)
def test_what_is_no_row_number_is_refused(store: Any, rows: Any) -> None:
    """A mask taken for numbers would read rows 0 and 1 again and again."""
    with pytest.raises((UsageError, TypeError, IndexError)):
        store.read(rows, ["pc_xyz"])


@pytest.mark.parametrize("row", [1.5, "1", slice(0, 2)], ids=str)
def test_a_single_row_is_a_whole_number(store: Any, row: Any) -> None:
    with pytest.raises((UsageError, TypeError, IndexError)):
        store["pc_xyz"][row]


def test_numpy_integers_are_row_numbers(store: Any, built: Built) -> None:
    for kind in (np.int8, np.int64, np.uint16, np.uint64):
        assert store["pc_xyz"][kind(4)].tobytes() == built.arrays(4)["pc_xyz"].tobytes()
        assert store.read(np.array([4], kind), ["pc_xyz"])["pc_xyz"].tobytes() == built.arrays(4)["pc_xyz"].tobytes()


@pytest.mark.parametrize("row", [3, 9])
@pytest.mark.parametrize("name", ["pc_xyz", "udf_grid"])
def test_a_quarantined_row_says_why_it_is_empty(store: Any, row: int, name: str) -> None:
    asked: list[Callable[[], Any]] = [lambda: store[name][row], lambda: store.tensor(name, row)]
    asked += [lambda: store.read([0, row], [name]), lambda: store.read([0, row], ["seed"])]
    for ask in asked:
        with pytest.raises(RowEmpty, match=rf"row {row} \(shapes/{row:03d}-ü\).*no faces: item {row} holds no face"):
            ask()


def test_a_tiny_limit_of_maps_changes_no_value(
    built: Built, monkeypatch: pytest.MonkeyPatch, make_store: MakeStore
) -> None:
    monkeypatch.setattr(shard_cache, "most_maps", lambda: 1)
    store = shapestore.open(built.path, checksums="always")
    order = np.random.default_rng(0).permutation(built.valid * 3)
    for row in order.tolist():
        for name in DATA:
            assert store[name][row].tobytes() == built.arrays(row)[name].tobytes()
    assert len(store._rows.shards) == 1
    found = store.read(order, DATA)
    for name in DATA:
        assert found[name].tobytes() == b"".join(built.arrays(row)[name].tobytes() for row in order.tolist())


MANY_GROUPS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
import shapestore
store = shapestore.open(sys.argv[1])
rows = store.rows()
for _ in range(3):
    assert len(store.read(rows, ["pc_xyz", "udf_grid"])["pc_xyz"]) == len(rows)
"""


def test_a_gather_over_more_shards_than_files_may_be_open(make_store: MakeStore) -> None:
    many = make_store(ROWS_PER_SHARD * 60, failed=())
    command = [sys.executable, "-c", MANY_GROUPS, str(many.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_warns(built: Built) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = shapestore.open(built.path)
        for name in DATA:
            store.tensor(name, 0)
        repr(store), repr(store["pc_xyz"])
