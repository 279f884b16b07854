"""What is committed is what was written, however the commits were cut; and the bytes do not tell how."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shapestore
from shapestore.errors import NotAStore, StoreDamaged
from shapestore.schemas.recipe_file import load_recipe
from shapestore.store.column_buffer import ColumnBuffer
from shapestore.store.columns import Column
from shapestore.store.entries import GroupCommit
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.shard import ShardEntry
from shapestore.store.writer import StoreWriter
from tests.store.conftest import (
    Built,
    MakeStore,
    build,
    new_writer,
    row_arrays,
    row_entry,
    seal_group,
    tidy,
    tree,
    write_rows,
)


def assert_holds(path: Path, rows: int, failed: tuple[int, ...] = ()) -> None:
    """A reader finds every row that was written, and nothing else."""
    store = shapestore.open(path, checksums="always")
    valid = [row for row in range(rows) if row not in failed]
    assert (store.root.rows, store.root.valid, store.root.quarantined) == (rows, len(valid), len(failed))
    assert store.rows().tolist() == valid
    for row in valid:
        for name, values in row_arrays(row).items():
            assert store[name][row].tobytes() == values.tobytes()
    entries = [row_entry(row, row in failed) for row in range(rows)]
    for name in ("shape_id", "seed", "scale", "group", "source_sha256"):
        assert store.index(name).tolist() == [getattr(entry, name) for entry in entries]
    assert [item["row"] for item in store.quarantine()] == sorted(failed)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_bytes_do_not_depend_on_how_commits_are_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    rows = data.draw(st.integers(1, 20))
    failed = tuple(sorted(data.draw(st.sets(st.integers(0, rows - 1), max_size=3))))
    cuts = sorted(data.draw(st.sets(st.integers(1, rows), max_size=4)))
    whole = build(folder / "whole.zarr", rows, failed)
    cut = build(folder / "cut.zarr", rows, failed, cuts)
    assert tree(whole.path) == tree(cut.path)
    assert shapestore.open(whole.path).root.sha256 == shapestore.open(cut.path).root.sha256
    assert_holds(cut.path, rows, failed)
    assert not work_folder(cut.path).exists()


def test_a_root_digest_tells_other_content(make_store: MakeStore) -> None:
    digests = {
        shapestore.open(make_store(rows, failed, name=f"{rows}{failed}.zarr").path).root.sha256
        for rows in (5, 6)
        for failed in ((), (1,), (2,))
    }
    assert len(digests) == 6


@pytest.mark.parametrize("failed", [(3,), (3, 9), (3, 9, 20)])
def test_a_failed_row_is_filled_later(make_store: MakeStore, failed: tuple[int, ...]) -> None:
    made = make_store(21, failed)
    with WriterLock(made.path):
        write_rows(StoreWriter.open(made.path), [failed[0]])
    assert_holds(made.path, 21, failed[1:])


def test_filling_every_failed_row_gives_the_bytes_of_a_store_that_never_failed(make_store: MakeStore) -> None:
    made = make_store(21, (3, 9))
    with WriterLock(made.path):
        write_rows(StoreWriter.open(made.path), [3, 9])
    assert tree(made.path) == tree(make_store(21, (), name="clean.zarr").path)


def test_a_row_that_fails_again_keeps_its_new_reason(make_store: MakeStore) -> None:
    made = make_store(21, (3, 9))
    with WriterLock(made.path):
        write_rows(StoreWriter.open(made.path), [3], failed=[3])
    assert_holds(made.path, 21, (3, 9))
    assert tree(made.path) == tree(make_store(21, (3, 9), name="clean.zarr").path)


def test_codes_are_only_ever_appended(make_store: MakeStore) -> None:
    made = make_store(8, failed=())
    with WriterLock(made.path):
        writer = StoreWriter.open(made.path)
        root = writer.with_codes({"category": ["zebra", "airplane", "", "aardvark", "zebra"], "split": []})
        assert root.codes["category"] == ("airplane", "bed side table", "chair", "aardvark", "zebra")
        commit = seal_group(writer, 1, range(8, 16))
        named = {row: entry.model_copy(update={"category": "aardvark"}) for row, entry in commit.rows.items()}
        writer.commit(root, [GroupCommit(1, named, commit.shards)])
        tidy(writer)
    store = shapestore.open(made.path)
    assert store.rows(category="aardvark").tolist() == list(range(8, 16))
    assert store.rows(category="zebra").tolist() == []
    assert store.rows(category="chair").tolist() == [row for row in range(8) if row // 2 % 4 == 2]


def test_all_array_metadata_on_disk_is_that_of_the_root(make_store: MakeStore) -> None:
    made = make_store(21, (3, 9), cuts=(5, 8, 13))
    root = json.loads((made.path / "zarr.json").read_text())
    for name, metadata in root["consolidated_metadata"]["metadata"].items():
        assert json.loads((made.path / name / "zarr.json").read_text()) == metadata


@pytest.mark.parametrize("what", ["file", "folder with a file"])
def test_a_store_is_not_made_over_other_things(tmp_path: Path, what: str) -> None:
    path = tmp_path / "s.zarr"
    if what == "file":
        path.write_text("text")
    else:
        path.mkdir()
        (path / "notes.txt").write_text("text")
    with pytest.raises(NotAStore, match="Choose another path"):
        StoreWriter.create(path, load_recipe("points"), "meshes")
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]


def test_runs_are_logged_once_each(make_store: MakeStore) -> None:
    made = make_store(4, failed=())
    with WriterLock(made.path):
        writer = StoreWriter.open(made.path)
        for rows, started in ((1, "monday"), (2, "monday"), (3, "tuesday")):
            writer.log_run({"started": started, "rows": rows})
            writer.commit(writer.root, [])
    runs = json.loads(shapestore.open(made.path).index("provenance/runs")[0])
    assert runs == [{"started": "monday", "rows": 2}, {"started": "tuesday", "rows": 3}]


# Parts and sealing


def one_part(writer: StoreWriter, rows: list[int]) -> tuple[Path, SealTask]:
    work = work_folder(writer.path)
    work.mkdir(exist_ok=True)
    with PartWriter(work / "0.part", writer.root.content) as part:
        for row in rows:
            part.append(row, row_arrays(row))
    done = Part(file="0.part", entries=tuple(row_entry(row) for row in rows), sizes=part.sizes)
    return work / "0.part", SealTask(group=0, first_row=0, rows=len(rows), parts=(done,))


@pytest.mark.parametrize("lost", ["one byte", "one row", "all", "a flipped byte"])
def test_a_damaged_part_is_never_sealed(tmp_path: Path, lost: str) -> None:
    writer = new_writer(tmp_path / "s.zarr")
    file, task = one_part(writer, [0, 1, 2])
    data = file.read_bytes()
    row = sum(task.parts[0].sizes[2])
    damaged = {
        "one byte": data[:-1],
        "one row": data[:-row],
        "all": b"",
        "a flipped byte": data[:9] + b"\1" + data[10:],
    }
    file.write_bytes(damaged[lost])
    root = writer.root
    with pytest.raises(StoreDamaged, match=r"row \d"):
        seal(writer.path, file.parent, root.content, root.rows_per_shard, task)


def test_a_part_that_is_given_up_leaves_no_file(tmp_path: Path) -> None:
    schema = new_writer(tmp_path / "s.zarr").root.content
    with suppress(ZeroDivisionError), PartWriter(tmp_path / "0.part", schema) as part:
        part.append(0, row_arrays(0))
        raise ZeroDivisionError
    with PartWriter(tmp_path / "1.part", schema):
        pass
    assert list(tmp_path.glob("*.part")) == []


def test_sealing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "s.zarr")
    file, task = one_part(writer, [0, 1, 2])
    root = writer.root
    first = seal(writer.path, file.parent, root.content, root.rows_per_shard, task)
    before = tree(writer.path)
    assert seal(writer.path, file.parent, root.content, root.rows_per_shard, task) == first
    assert tree(writer.path) == before


def test_a_damaged_committed_shard_is_not_copied_into_a_new_one(copied: Built) -> None:
    file = copied.path / "pc_xyz" / "c" / "2" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    with WriterLock(copied.path), pytest.raises(StoreDamaged, match="pc_xyz, row 16"):
        write_rows(StoreWriter.open(copied.path), [21])


# Index arrays

INTS = Column("a", "int64", "numbers", fill=-7, chunk_rows=4)
TEXTS = Column("b", "string", "texts", fill="", chunk_rows=4)
VECTORS = Column("c", "float64", "vectors", (3,), ("shape", "xyz"), chunk_rows=4)


def some(column: Column, count: int, seed: int) -> Any:
    numbers = np.random.default_rng(seed).integers(0, 1000, (count, *column.shape))
    return (
        np.array([f"ä{n}" for n in numbers], dtype=object) if column.dtype == "string" else numbers.astype(column.dtype)
    )


@pytest.mark.parametrize("column", [INTS, TEXTS, VECTORS], ids=lambda column: column.dtype)
@given(rows=st.integers(0, 4), extra=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_chunk_survives_and_its_digest_is_that_of_its_committed_rows(
    column: Column, rows: int, extra: int, seed: int
) -> None:
    extra = min(extra, 4 - rows)
    values = some(column, rows + extra, seed)
    chunk = column.encode(values)
    assert np.array_equal(column.decode(chunk, rows), values[:rows])
    assert column.digest(column.decode(chunk, rows)) == column.digest(values[:rows])
    changed = bytearray(chunk)
    changed[seed % len(chunk)] ^= 1
    with pytest.raises(ValueError, match="does not"):
        column.decode(bytes(changed), rows)


@pytest.mark.parametrize("column", [INTS, TEXTS, VECTORS], ids=lambda column: column.dtype)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_buffer_of_chunks_is_one_long_array(
    tmp_path_factory: pytest.TempPathFactory, column: Column, data: st.DataObject
) -> None:
    store = tmp_path_factory.mktemp("columns")
    buffer = ColumnBuffer(store, {column.path: 0}, {})
    naive = column.empty(0)
    for seed in range(data.draw(st.integers(1, 5))):
        first = data.draw(st.integers(0, len(naive)))
        values = some(column, data.draw(st.integers(1, 9)), seed)
        buffer.put(column, first, values)
        grown = column.empty(max(len(naive), first + len(values)))
        grown[: len(naive)] = naive
        grown[first : first + len(values)] = values
        naive = grown
        assert np.array_equal(buffer.read(column, len(naive)), naive)
        row = data.draw(st.integers(0, len(naive) - 1))
        assert np.array_equal(buffer.value(column, row), naive[row])
        assert np.array_equal(buffer.value(column, len(naive) + 3), column.empty(1)[0])
        if data.draw(st.booleans()):
            for _, chunk, held in buffer.pending():
                file = store / column.chunk_path(chunk)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(column.encode(held))
            starts = range(0, len(naive), column.chunk_rows)
            digests = {column.path: [column.digest(naive[at : at + column.chunk_rows]) for at in starts]}
            buffer.settle({column.path: len(naive)}, digests)
            if data.draw(st.booleans()):
                buffer = ColumnBuffer(store, {column.path: len(naive)}, digests)


def test_index_arrays_of_several_chunks_grow_and_keep_their_digests(tmp_path: Path) -> None:
    """70 000 rows; index arrays know nothing of shards, so none are written."""
    path, count, group_rows = tmp_path / "s.zarr", 70_000, 4096
    writer = new_writer(path, rows_per_shard=group_rows)
    entry = row_entry(0)
    shards = {spec.name: ShardEntry(size=1, sha256="0" * 64) for spec in writer.root.content.data_arrays}
    for start, end in ((0, 65_530), (65_530, count)):
        rows = {
            row: entry.model_copy(update={"row": row, "seed": row, "shape_id": f"{row}"}) for row in range(start, end)
        }
        groups = range(start // group_rows, -(-end // group_rows))
        commits = [
            GroupCommit(g, {r: rows[r] for r in range(g * group_rows, (g + 1) * group_rows) if r in rows}, shards)
            for g in groups
        ]
        writer.commit(writer.root, commits)
    store = shapestore.open(path)
    assert np.array_equal(store.index("seed"), np.arange(count))
    assert store.index("shape_id")[[0, 65_535, 65_536, count - 1]].tolist() == ["0", "65535", "65536", str(count - 1)]
    assert len(store.root.chunks["seed"]) == 2
    assert store.index("integrity/size").shape[0] == 18
