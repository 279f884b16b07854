"""Compare: two stores differ in exactly what was written differently, whatever the order of their rows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shapestore.errors import NotAStore, StoreChanged, StoreDamaged
from shapestore.preprocess.derive import derive
from shapestore.preprocess.ingest import Request, prepare, run
from shapestore.preprocess.split_set import write_split
from shapestore.preprocess.workers import InProcess
from shapestore.quality import compare as compare_module
from shapestore.quality.compare import Comparison, compare_stores, differences
from shapestore.schemas.array import ArraySpec
from shapestore.store import rowcodec
from shapestore.store.entries import GroupCommit
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.reader import open_store
from tests.integration.conftest import raw_meshes  # noqa: F401
from tests.store.conftest import new_writer, row_arrays, row_entry, tidy

DATA = ("pc_xyz", "udf_grid", "near_labels")
"""A wide, a packed and a narrow array."""


@dataclass(frozen=True)
class Shape:
    """One shape of a store: what lies in it follows from its number, but for what was touched."""

    number: int
    touched: frozenset[str] = frozenset()
    failed: bool = False


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def write(path: Path, shapes: Sequence[Shape], rows_per_shard: int = 4) -> Path:
    """A store of these shapes in this order."""
    with WriterLock(path):
        writer = new_writer(path, rows_per_shard=rows_per_shard)
        work, commits = work_folder(path), []
        for first in range(0, len(shapes), rows_per_shard):
            chosen = list(enumerate(shapes[first : first + rows_per_shard], start=first))
            with PartWriter(work / "0.part", writer.root.content) as file:
                for row, shape in chosen:
                    if not shape.failed:
                        file.append(row, arrays_of(shape))
            entries = {row: entry_of(row, shape) for row, shape in chosen}
            part = Part(file="0.part", entries=tuple(entries.values()), sizes=file.sizes)
            group = first // rows_per_shard
            task = SealTask(group=group, first_row=first, rows=len(chosen), parts=(part,))
            shards = seal(path, work, writer.root.content, rows_per_shard, task)
            commits.append(GroupCommit(group, entries, shards))
        writer.commit(writer.root, commits)
        tidy(writer)
    return path


def arrays_of(shape: Shape) -> dict[str, np.ndarray]:
    arrays = row_arrays(shape.number)
    for name in shape.touched & set(DATA):
        arrays[name].flat[-1] += 1
    return arrays


def entry_of(row: int, shape: Shape):  # type: ignore[no-untyped-def]
    entry = row_entry(shape.number, shape.failed)
    changes = {"category": "chair" if entry.category != "chair" else "", "shift": (0.0, 0.0, 7.0)}
    touched = {name: changes[name] for name in shape.touched & changes.keys()}
    return entry.model_copy(update={"row": row, **touched})


def id_of(shape: Shape) -> str:
    return row_entry(shape.number).shape_id


shapes = st.builds(
    Shape, st.integers(0, 9), st.frozensets(st.sampled_from((*DATA, "category", "shift")), max_size=2), st.booleans()
)
stores = st.lists(shapes, max_size=9, unique_by=lambda shape: shape.number)


@given(stores, stores, st.sampled_from((4, 8)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_differs_is_told_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, a: list[Shape], b: list[Shape], rows_per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("compare")
    found = compare_stores(write(folder / "a.zarr", a), write(folder / "b.zarr", b, rows_per_shard))
    of_a, of_b = ({shape.number: shape for shape in each} for each in (a, b))
    both = [number for number in of_a if number in of_b]
    filled = [number for number in both if not of_a[number].failed and not of_b[number].failed]
    assert found.removed == tuple(id_of(shape) for shape in a if shape.number not in of_b)
    assert found.added == tuple(id_of(shape) for shape in b if shape.number not in of_a)
    assert found.common == len(both)
    assert found.moved == sum(list(of_a).index(number) != list(of_b).index(number) for number in both)
    touched = {number: of_a[number].touched ^ of_b[number].touched for number in both}
    arrays = {name: sum(name in touched[number] for number in filled) for name in DATA}
    assert {each.array: each.rows for each in found.arrays} == {name: n for name, n in arrays.items() if n}
    index = {name: sum(name in touched[number] for number in both) for name in ("category", "shift")}
    index["valid"] = sum(of_a[number].failed != of_b[number].failed for number in both)
    told = {each.array: each.rows for each in found.index if each.array != "near_count"}  # which is 0 where it failed
    assert told == {name: n for name, n in index.items() if n}
    assert {each.place for each in found.quarantine} == {
        id_of(of_a[number]) for number in both if of_a[number].failed != of_b[number].failed
    }
    assert (not found.layout) == (rows_per_shard == 4)
    assert (found.declared, found.recipe) == ((), ())
    same = not (found.removed or found.added or found.changed or found.quarantine or found.layout)
    assert found.equal == same


@pytest.fixture
def five(tmp_path: Path) -> Path:
    return write(tmp_path / "five.zarr", [Shape(number) for number in range(5)])


def test_a_copy_is_equal_without_a_shard_being_opened(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(five, tmp_path / "copy.zarr"))
    monkeypatch.setattr(compare_module.Store, "shard", None)
    assert compare_stores(five, copy).equal


def test_rows_are_compared_without_being_read(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write(tmp_path / "other.zarr", [Shape(4), *(Shape(number) for number in range(4))])
    monkeypatch.setattr(compare_module.Store, "row", None)
    found = compare_stores(five, other)
    assert (found.equal, found.moved) == (True, 5)


def test_the_same_values_compressed_otherwise_are_equal(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowcodec, "ZSTD_LEVEL", 19)
    other = write(tmp_path / "other.zarr", [Shape(number) for number in range(5)])
    chunks = [open_store(path).shard("udf_grid", 0).chunk(1) for path in (five, other)]
    if chunks[0] == chunks[1]:  # rows as small as these compress alike: change the frame by hand
        encoder = rowcodec.row_encoder

        def padded(spec: ArraySpec):  # type: ignore[no-untyped-def]
            def encode(row: np.ndarray) -> bytes:
                body = encoder(spec)(row)[: -rowcodec.CHECKSUM_BYTES] + SKIPPABLE
                return body + rowcodec.crc32c(body).to_bytes(rowcodec.CHECKSUM_BYTES, "little")

            return encode if spec.kind == "packed" else encoder(spec)

        monkeypatch.setattr("shapestore.store.part.row_encoder", padded)
        shutil.rmtree(other)
        write(other, [Shape(number) for number in range(5)])
        chunks = [open_store(path).shard("udf_grid", 0).chunk(1) for path in (five, other)]
    assert chunks[0] != chunks[1]
    assert compare_stores(five, other).equal


SKIPPABLE = bytes.fromhex("502a4d1800000000")
"""An empty frame that every zstd decoder passes over (RFC 8878, 3.1.2)."""


@pytest.mark.parametrize("size", [None, 0, -1, 1], ids=["lost", "emptied", "truncated", "grown"])
@pytest.mark.parametrize("first", [True, False], ids=["in the first store", "in the second store"])
def test_stores_that_were_equal_are_not_where_files_are_lost_or_of_another_size(
    five: Path, tmp_path: Path, size: int | None, first: bool
) -> None:
    copy = Path(shutil.copytree(five, tmp_path / "copy.zarr"))
    spoilt = sorted(path for path in (copy / "pc_xyz" / "c").rglob("*") if path.is_file())
    assert len(spoilt) == 2
    for path in spoilt:
        if size is None:
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size + size if size else 0)
    with pytest.raises(StoreDamaged) as caught:
        compare_stores(*((copy, five) if first else (five, copy)))
    files = len(open_store(five).root.content.data_arrays) * 2
    assert str(caught.value).startswith(
        f"2 of {files} shard files of {copy} are lost or of another size. {spoilt[0]}: "
    )
    assert f"shapestore validate {copy}" in str(caught.value)
    assert (caught.value.array, caught.value.rows) == ("pc_xyz", range(4))


def test_a_store_that_is_changed_while_it_is_compared_is_not_called_damaged(five: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(five, tmp_path / "copy.zarr"))
    opened = open_store(copy)
    shutil.rmtree(copy)
    write(copy, [Shape(number) for number in range(2)])
    with pytest.raises(StoreChanged):
        compare_module._look_for_shards(opened)


def test_a_lost_shard_is_an_error(five: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.zarr", [Shape(number, frozenset({"pc_xyz"})) for number in range(5)])
    (other / "pc_xyz" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        compare_stores(five, other)


def test_a_path_without_a_store_is_an_error(five: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        compare_stores(five, tmp_path)


def test_recipes_schemas_and_split_sets(raw_meshes: Path, tmp_path: Path) -> None:  # noqa: F811
    def ingest(name: str, *changes: str) -> Path:
        request = Request("meshes", raw_meshes, tmp_path / name, "points", ("points.fps_order=0", *changes))
        run(request, prepare(request), InProcess, lambda _: None)
        return tmp_path / name

    a, b = ingest("a.zarr", "points.count=64"), ingest("b.zarr", "points.count=48")
    derive(b, "pc_fps_order", InProcess, lambda *_: None)
    write_split(a, "fold", {"x": 0.5, "y": 0.5}, seed=0)
    found = compare_stores(a, b)
    assert [(each.place, each.a, each.b) for each in found.recipe] == [("points.count", 64, 48)]
    declared = {each.place: (each.a, each.b) for each in found.declared}
    assert declared["pc_xyz.shape"] == ([64, 3], [48, 3])
    assert declared["pc_fps_order"][0] is None
    assert declared["fold"][1] is None
    assert found.arrays == (), "rows of another shape are not compared"
    assert found.changed == ()
    assert not found.equal
    again = compare_stores(b, a)
    assert {each.place: (each.b, each.a) for each in again.declared} == declared


def test_its_json_can_be_read_back(five: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.zarr", [Shape(1, frozenset({"pc_xyz"})), Shape(2, failed=True)])
    found = compare_stores(five, other)
    assert Comparison.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found


def test_nested_values_differ_by_their_dotted_keys() -> None:
    a, b = {"x": {"y": 1, "z": 2}, "only": 1}, {"x": {"y": 1, "z": 3}, "other": {"w": 1}}
    found = [(each.place, each.a, each.b) for each in differences(a, b)]
    assert found == [("only", 1, None), ("other", None, {"w": 1}), ("x.z", 2, 3)]
