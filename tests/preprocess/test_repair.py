"""Repair: what was committed comes back to the byte, or exactly the lost rows are quarantined, or it says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shapestore.cli.main import app
from shapestore.errors import Reason, StoppedEarly, StoreDamaged
from shapestore.preprocess import compute, repair_rows
from shapestore.preprocess.split_set import write_split
from shapestore.preprocess.workers import InProcess
from shapestore.quality.validate import Options, validate
from shapestore.store.lock import WriterLock
from shapestore.store.reader import open_store
from shapestore.store.writer import StoreWriter
from tests.faults.damage.stores import History, ingest, make_history, mend, no_waiting_for_disks, work
from tests.integration.conftest import tree_digest

SHARD = "pc_xyz/c/0/0/0"
ROW_BYTES = 64 * 12 + 4


@pytest.fixture(scope="module", autouse=True)
def _no_waiting() -> Iterator[None]:
    with no_waiting_for_disks():
        yield


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("history"))


@pytest.fixture
def store(history: History, tmp_path: Path) -> Path:
    return history.copy(history.last, tmp_path / "s.zarr")


@pytest.fixture
def raw(history: History, tmp_path: Path) -> Path:
    shutil.copytree(history.raw, tmp_path / "raw")
    return tmp_path / "raw"


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def outcomes(
    store: Path, raw: Path | None = None, **options: bool
) -> dict[str, tuple[str, tuple[tuple[int, int], ...]]]:
    return {each.file: (each.done, each.rows) for each in mend(store, raw, **options)}


def assert_sound(store: Path) -> None:
    errors = [
        f
        for f in validate(store, Options("full"), InProcess, lambda *_: None).validation.findings
        if f.severity == "error"
    ]
    assert errors == []


def test_a_whole_store_is_left_as_it_is(store: Path) -> None:
    files = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    assert mend(store) == []
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == files
    assert not work(store).exists()


def test_only_the_rows_that_do_not_match_their_checksums_are_computed(
    store: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    real = compute.compute_row
    monkeypatch.setattr(compute, "compute_row", lambda job, each: computed.append(each.row) or real(job, each))
    flip(store / SHARD, 2 * ROW_BYTES + 5)
    assert outcomes(store) == {SHARD: ("recomputed", ((2, 2),))}
    assert computed == [2]
    assert tree_digest(store) == tree_digest(history.last)
    opened = open_store(store)
    assert json.loads(opened.index("provenance/runs")[0])[-1]["mode"] == "repair"


@pytest.mark.parametrize("at", [ROW_BYTES - 1, -1, -20, 4 * ROW_BYTES + 3], ids=["checksum", "end", "index", "first"])
@pytest.mark.parametrize("lost", [0, 30])
def test_damage_beside_the_rows_is_mended_without_any_source(
    store: Path, history: History, tmp_path: Path, at: int, lost: int
) -> None:
    shard = store / SHARD
    flip(shard, at)
    if lost:
        shard.write_bytes(shard.read_bytes()[:-lost] if at != -1 else shard.read_bytes() + bytes(lost))
    assert {each[0] for each in outcomes(store, tmp_path / "nowhere").values()} == {"salvaged"}
    assert tree_digest(store) == tree_digest(history.last)


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_exactly_the_rows_that_are_lost_are_quarantined_and_a_retry_fills_them(
    store: Path, history: History, raw: Path, how: str
) -> None:
    file = raw / "one02.obj"
    kept = file.read_bytes()
    before = open_store(store)
    sha256, rows = before.index("source_sha256")[2], before.rows().tolist()
    kept_rows = [row for row in rows if row != 2]
    arrays = before.read(kept_rows, ["pc_xyz", "pc_n", "udf_grid"])
    if how == "gone":
        file.unlink()
    else:
        shutil.copy(raw / "one03.obj", file)
    flip(store / SHARD, 5)  # row 0 has its source
    flip(store / SHARD, 2 * ROW_BYTES + 5)
    found = [(each.done, each.rows) for each in mend(store, raw)]
    assert found == [("recomputed", ((0, 0),)), ("quarantined", ((2, 2),))]
    after = open_store(store)
    assert after.rows().tolist() == kept_rows
    (item,) = [each for each in after.quarantine() if each["row"] == 2]
    assert (item["reason"], item["source_sha256"]) == (Reason.LOST.value, sha256)
    assert SHARD in str(item["message"])
    for name, values in after.read(kept_rows, list(arrays)).items():
        assert np.array_equal(values, arrays[name])
    assert_sound(store)
    file.write_bytes(kept)
    from shapestore.preprocess.ingest import Request, prepare, run

    request = Request("meshes", raw, store, retry=True)
    run(request, prepare(request), InProcess, lambda _: None)
    assert tree_digest(store) == tree_digest(history.last)


@pytest.mark.parametrize("name", [SHARD, "udf_grid/c/0/0/0/0"])
def test_a_page_of_zeros_costs_the_rows_on_it_whatever_became_of_the_other_sources(
    store: Path, history: History, raw: Path, name: str
) -> None:
    """Values and checksum of a row are lost: only together with its source can the others be proven."""
    data = bytearray((store / name).read_bytes())
    data[5 : 5 + ROW_BYTES // 4] = bytes(ROW_BYTES // 4)
    if name == SHARD:
        data[5:ROW_BYTES] = bytes(ROW_BYTES - 5)
    (store / name).write_bytes(data)
    (raw / "one02.obj").unlink()
    found = [(each.done, each.rows) for each in mend(store, raw)]
    assert found[0][0] == "recomputed"
    assert tree_digest(store) == tree_digest(history.last)


def test_no_row_is_lost_for_a_folder_that_is_not_there(store: Path, tmp_path: Path) -> None:
    flip(store / SHARD, 5)
    before = tree_digest(store)
    (tmp_path / "unmounted").mkdir()
    for folder in ("nowhere", "unmounted"):
        (refused,) = mend(store, tmp_path / folder)
        assert (refused.done, refused.rows) == ("refused", ((0, 0),))
        assert "--raw" in refused.note
    assert tree_digest(store) == before
    assert outcomes(store, tmp_path / "nowhere", accept_loss=True) == {SHARD: ("quarantined", ((0, 0),))}
    assert_sound(store)


def test_a_dry_run_says_what_the_repair_then_does_and_changes_nothing(store: Path, raw: Path) -> None:
    flip(store / SHARD, 5)
    flip(store / SHARD, 2 * ROW_BYTES + 5)
    flip(store / "pc_n/c/1/0/0", -3)
    (store / "pc_xyz/zarr.json").unlink()
    (store / "valid/c/0").unlink()
    (store / "scale/c/0").write_bytes(b"")
    (raw / "one02.obj").unlink()
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    told = [(each.file, each.rows, each.done) for each in mend(store, raw, dry_run=True)]
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before
    assert not work(store).exists()
    wanted = {"rewritten", "restored"}
    assert wanted <= {done for *_, done in told}
    done = [(each.file, each.rows, each.done) for each in mend(store, raw)]
    index = [each for each in done if each[2] in wanted]
    assert set(index) <= set(told)


def test_rows_that_are_computed_otherwise_now_are_replaced_whole(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compute.build_record

    def other(*arguments):  # type: ignore[no-untyped-def]
        record = real(*arguments)
        moved = record.arrays["udf_grid"] * np.float16(0.5)
        return record.model_copy(update={"arrays": {**record.arrays, "udf_grid": moved}})

    before = open_store(store)
    grids = before.read(before.rows(), ["udf_grid"])["udf_grid"]
    flip(store / SHARD, 5)
    monkeypatch.setattr(compute, "build_record", other)
    (told,) = mend(store)
    assert (told.done, "udf_grid" in told.note) == ("recomputed", True)
    after = open_store(store)
    assert np.array_equal(after["udf_grid"][0], grids[0] * np.float16(0.5))
    assert np.array_equal(after.read(after.rows()[1:], ["udf_grid"])["udf_grid"], grids[1:])


def test_an_interrupted_repair_is_gone_on_with(store: Path, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in (0, 1):
        (store / f"pc_n/c/{group}/0/0").unlink()
    real = repair_rows.carry_out

    def interrupted(path, plan, job, workers, asked, report):  # type: ignore[no-untyped-def]
        def stop(done: int, total: int) -> None:
            if done >= 3:
                raise StoppedEarly("interrupted")

        real(path, plan, job, workers, asked, stop)

    monkeypatch.setattr("shapestore.preprocess.repair_run.carry_out", interrupted)
    with pytest.raises(StoppedEarly):
        mend(store)
    monkeypatch.undo()
    computed = []
    row = compute.compute_row
    monkeypatch.setattr(compute, "compute_row", lambda job, each: computed.append(each.row) or row(job, each))
    mend(store)
    assert not work(store).exists()
    assert tree_digest(store) == tree_digest(history.last)
    assert sorted(computed) == [3, 4, 5, 7], "rows 0 to 2 were computed before, and row 6 is empty"


def test_shards_that_are_sealed_to_the_same_bytes_are_put_in_place_after_a_kill(
    store: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sealed has the digest of what is committed, long before it takes the place of what is damaged."""
    flip(store / SHARD, 5)

    class Killed(BaseException):
        pass

    def killed(*_):  # type: ignore[no-untyped-def]
        raise Killed

    monkeypatch.setattr(StoreWriter, "commit", killed)
    with pytest.raises(Killed):
        mend(store)
    monkeypatch.undo()
    monkeypatch.setattr(compute, "compute_row", None)  # nothing is left to be computed
    mend(store)
    assert tree_digest(store) == tree_digest(history.last)
    assert mend(store) == []


def test_an_unfinished_ingest_gives_way_to_the_repair_of_rows_and_goes_on_afterwards(
    history: History, tmp_path: Path
) -> None:
    store = history.copy(history.unfinished, tmp_path / "s.zarr")
    plan = work(store) / "plan"
    assert outcomes(store) == {}
    assert plan.exists(), "nothing is damaged, so the ingest keeps what it has done"
    flip(store / SHARD, 5)
    assert outcomes(store) == {f"../{work(store).name}/plan": ("dropped", ()), SHARD: ("recomputed", ((0, 0),))}
    assert not plan.exists()
    ingest(history, store)
    assert tree_digest(store) == tree_digest(history.last)


def test_a_lost_shard_that_an_unfinished_ingest_has_to_fill_is_no_dead_end(history: History, tmp_path: Path) -> None:
    grown = History(Path(shutil.copytree(history.folder, tmp_path / "grown")), history.kind)
    whole, store = history.copy(history.last, tmp_path / "whole.zarr"), history.copy(history.last, tmp_path / "s.zarr")
    root = open_store(store).root
    assert root.rows % root.rows_per_shard, "its last row group is to be filled"
    shutil.copy(grown.raw / f"{grown.kind}02.obj", grown.raw / f"{grown.kind}99.obj")
    ingest(grown, whole)
    with pytest.raises(StoppedEarly):
        ingest(grown, store, stop_after=0)
    (store / "pc_xyz" / "c" / str(root.row_groups - 1) / "0" / "0").unlink()
    with pytest.raises(StoreDamaged, match="shapestore repair"):
        ingest(grown, store)
    assert {each.done for each in mend(store)} == {"dropped", "recomputed"}
    ingest(grown, store)
    assert tree_digest(store) == tree_digest(whole)


def test_a_split_set_is_refused_with_what_is_enough(store: Path) -> None:
    write_split(store, "halves", {"a": 0.5, "b": 0.5}, seed=3)
    kept = (store / "halves/c/0").read_bytes()
    (store / "halves/c/0").unlink()
    (refused,) = mend(store)
    assert (refused.file, refused.done) == ("halves/c/0", "refused")
    assert "copy of this one file" in refused.note
    write_split(store, "halves", {"a": 0.5, "b": 0.5}, seed=3, replace=True)
    assert (store / "halves/c/0").read_bytes() == kept
    assert mend(store) == []


@pytest.mark.parametrize("name", ["shape_id/c/0", "scale/c/0", "shift/c/0/0", "quarantine/message/c/0"])
@pytest.mark.parametrize("at", [-1, -100], ids=["checksum", "room for rows to come"])
def test_damage_beside_the_values_of_an_index_array_is_mended_without_any_source(
    store: Path, history: History, tmp_path: Path, name: str, at: int
) -> None:
    flip(store / name, at)
    assert {done for done, _ in outcomes(store, tmp_path / "nowhere").values()} == {"restored"}
    assert tree_digest(store) == tree_digest(history.last)


def test_lost_history_costs_no_data_and_names_no_wrong_run(store: Path, history: History) -> None:
    numbers = open_store(store).index("provenance/run").tolist()
    (store / "provenance/runs/c/0").unlink()
    (store / "provenance/seconds/c/0").write_bytes(b"nothing")
    assert {done for done, _ in outcomes(store).values()} == {"reset"}
    assert tree_digest(store) == tree_digest(history.last)
    opened = open_store(store)
    runs = json.loads(opened.index("provenance/runs")[0])
    assert runs[: max(numbers) + 1] == [{}] * (max(numbers) + 1)
    assert opened.index("provenance/run").tolist() == numbers
    assert not opened.index("provenance/seconds").any()


def _folder(file: Path) -> None:
    file.unlink()
    (file / "in the way").mkdir(parents=True)


def _file_for_folder(file: Path) -> None:
    shutil.rmtree(file.parents[1])
    file.parents[1].write_text("in the way")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (SHARD, _folder),
        (SHARD, _file_for_folder),
        ("scale/c/0", _folder),
        ("scale/c/0", _file_for_folder),
        ("valid/zarr.json", _folder),
    ],
)
def test_what_lies_in_the_way_is_removed(
    store: Path, history: History, name: str, damage: Callable[[Path], None]
) -> None:
    damage(store / name)
    assert name in outcomes(store)
    assert tree_digest(store) == tree_digest(history.last)


def test_an_older_index_chunk_never_becomes_part_of_a_new_commit(store: Path, history: History, raw: Path) -> None:
    shutil.copy(history.first / "scale/c/0", store / "scale/c/0")
    with WriterLock(store), pytest.raises(StoreDamaged, match=r"scale/c/0.*shapestore repair"):
        StoreWriter.open(store).column("scale")
    mend(store)
    assert tree_digest(store) == tree_digest(history.last)


def test_what_follows_from_one_another_is_mended_in_turn(store: Path, history: History) -> None:
    for name in ("shape_id", "source", "group", "source_sha256", "scale", "shift/c/0/0", "valid", "quarantine/source"):
        (store / name / "c/0" if "/c/" not in name else store / name).unlink()
    for name in ("integrity/size/c/0/0", "integrity/sha256/c/0/0/0"):
        (store / name).unlink()
    assert {done for done, _ in outcomes(store).values()} == {"restored"}
    assert tree_digest(store) == tree_digest(history.last)


def test_the_command_prints_what_was_done_and_exits_accordingly(store: Path, raw: Path) -> None:
    run = CliRunner().invoke
    flip(store / SHARD, 5)
    (raw / "one00.obj").unlink()
    asked = ["repair", str(store), "--workers", "0", "--raw"]
    dry = run(app, [*asked, str(raw), "--dry-run", "--json"])
    assert dry.exit_code == 4
    (told,) = json.loads(dry.stdout)["files"]
    assert (told["file"], told["rows"], told["done"]) == (SHARD, [[0, 0]], "quarantined")
    assert run(app, [*asked, str(raw / "nowhere")]).exit_code == 3
    done = run(app, [*asked, str(raw)])
    assert done.exit_code == 4
    assert SHARD in done.stdout
    done = run(app, [*asked, str(raw)])
    assert (done.exit_code, "nothing is damaged" in done.stdout) == (0, True)
