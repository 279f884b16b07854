"""Ingest end to end: the same inputs give the same bytes, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shapestore import api
from shapestore.cli.main import app
from shapestore.errors import StoppedEarly, UsageError, WorkMismatch
from shapestore.preprocess import ingest as ingest_module
from shapestore.preprocess.job import LEDGER
from shapestore.preprocess.sources.meshes import Meshes
from shapestore.store.layout import work_folder
from tests.integration.conftest import SMALL, environment, tree_digest


def small(raw: Path, store: Path, **options: object) -> api.IngestResult:
    options = {"recipe": "points", "settings": SMALL, "workers": 0, **options}
    return api.ingest("meshes", raw, store, **options)  # type: ignore[arg-type]


@pytest.fixture
def raw(raw_meshes: Path, tmp_path: Path) -> Path:
    """A raw folder that a test may change: good meshes, and one that is quarantined."""
    folder = tmp_path / "raw"
    shutil.copytree(raw_meshes, folder)
    (folder / "empty.obj").write_text("# nothing\n")
    return folder


@pytest.fixture
def once(raw: Path, tmp_path: Path) -> Path:
    """The store of `raw`, built in one go in this process."""
    small(raw, tmp_path / "once.zarr")
    return tmp_path / "once.zarr"


def test_nothing_temporary_is_left_behind(once: Path) -> None:
    assert not work_folder(once).exists()
    assert not list(once.rglob("*.partial"))


def test_bytes_do_not_depend_on_the_number_of_workers(raw: Path, once: Path, tmp_path: Path) -> None:
    small(raw, tmp_path / "dask.zarr", workers=3)
    assert tree_digest(tmp_path / "dask.zarr") == tree_digest(once)


def test_bytes_do_not_depend_on_the_order_of_discovery(
    raw: Path, once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover = Meshes.discover

    def reversed_discovery(self: Meshes, root: Path, recipe: object) -> object:
        found = discover(self, root, recipe)  # type: ignore[arg-type]
        return type(found)(tuple(reversed(found.items)), found.ignored, found.notes)

    monkeypatch.setattr(Meshes, "discover", reversed_discovery)
    small(raw, tmp_path / "reversed.zarr")
    assert tree_digest(tmp_path / "reversed.zarr") == tree_digest(once)


def test_a_second_ingest_does_nothing_and_hashes_nothing(
    raw: Path, once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> str:
        raise AssertionError(f"hashed {arguments}")

    monkeypatch.setattr(ingest_module, "source_sha256", refuse)
    before = tree_digest(once)
    result = small(raw, once)
    assert (result.computed, result.unchanged, result.quarantined) == (0, 13, 1)
    assert tree_digest(once) == before


def test_verify_sources_hashes_every_file(raw: Path, once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    real = ingest_module.source_sha256
    monkeypatch.setattr(ingest_module, "source_sha256", lambda path, known: hashed.append(path) or real(path, known))
    small(raw, once, verify_sources=True)
    assert len(hashed) == 12


def test_one_more_file_adds_one_row(raw: Path, once: Path, tmp_path: Path) -> None:
    before = api.open(once)
    kept = before.read(before.rows(), ["pc_xyz", "shape_id"])
    donor = min(raw.rglob("*.obj"))
    shutil.copy(donor, raw / "a_new_one.obj")
    result = small(raw, once)
    assert (result.computed, result.rows) == (1, 14)
    grown = api.open(once)
    np.testing.assert_array_equal(grown.read(before.rows(), ["pc_xyz"])["pc_xyz"], kept["pc_xyz"])

    small(raw, tmp_path / "at_once.zarr")
    at_once = api.open(tmp_path / "at_once.zarr")
    for shape_id in grown.index("shape_id")[grown.rows()].tolist():
        for name in grown.arrays:
            one, other = grown.row(name, grown.row_of(shape_id)), at_once.row(name, at_once.row_of(shape_id))
            np.testing.assert_array_equal(one, other)


def test_a_relative_store_is_grown_and_mended_like_any_other(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Path("relative.zarr")
    small(raw, store)
    shutil.copy(min(raw.rglob("model_normalized.obj")), raw / "another.obj")
    assert small(raw, store).computed == 1
    shutil.copy(raw / "another.obj", raw / "empty.obj")
    assert small(raw, store, retry=True).quarantined == 0
    api.split(store, "fold", {"a": 0.5, "b": 0.5})
    assert api.validate(store, "full", workers=0, waive=["duplicates:*"]).passed
    assert not work_folder(store).exists()


def test_a_pipe_is_quarantined_and_not_waited_for(raw: Path, tmp_path: Path) -> None:
    os.mkfifo(raw / "pipe.obj")
    small(raw, tmp_path / "s.zarr")
    reasons = {item["shape_id"]: item["reason"] for item in api.open(tmp_path / "s.zarr").quarantine()}
    assert reasons["pipe.obj"] == "unsupported format"


def test_a_scheduler_that_is_not_there_is_said_to_be(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(UsageError, match="no Dask"):
        small(raw, tmp_path / "s.zarr", workers=None, scheduler="tcp://127.0.0.1:9")


def test_retry_fills_the_same_row_after_the_plan_is_gone(raw: Path, once: Path) -> None:
    store = api.open(once)
    (failed,) = store.quarantine()
    shutil.copy(min(raw.rglob("model_normalized.obj")), raw / "empty.obj")
    assert small(raw, once).quarantined == 1, "without --retry it stays in quarantine"
    result = small(raw, once, retry=True)
    assert (result.computed, result.quarantined) == (1, 0)
    mended = api.open(once)
    assert mended.row_of("empty.obj") == failed["row"]
    assert mended["pc_xyz"][int(failed["row"])].any()
    assert api.validate(once, "full", workers=0, waive=["duplicates:*"]).passed


def test_retry_of_an_interrupted_run_finishes_it_and_says_that_the_retry_comes_after_it(
    raw: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store.zarr"
    (raw / "broken.obj").write_text("v 0 0 nonsense\n")
    with pytest.raises(StoppedEarly):
        small(raw, store, max_failures="1")
    for name in ("broken.obj", "empty.obj"):
        shutil.copy(min(raw.rglob("model_normalized.obj")), raw / name)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    command = ["ingest", "meshes", str(raw), str(store), "--recipe", "points", *settings, "--workers", "0", "--retry"]
    finishes, retries = (CliRunner().invoke(app, command, env=environment()) for _ in range(2))
    assert finishes.exit_code == 4
    assert "--retry comes after it: run the same command once more" in finishes.stderr
    assert retries.exit_code == 0
    assert "note" not in retries.stderr
    assert api.open(store).root.quarantined == 0


def test_retry_of_what_still_fails_changes_nothing(raw: Path, once: Path) -> None:
    before = tree_digest(once)
    result = small(raw, once, retry=True)
    assert (result.computed, result.quarantined) == (1, 1)
    assert tree_digest(once) == before


def test_a_changed_recipe_is_refused_with_the_difference(raw: Path, once: Path) -> None:
    with pytest.raises(WorkMismatch, match=r"points\.count: expected 256.*got 128"):
        small(raw, once, settings=("points.count=128", "points.fps_order=64"))


def test_a_recipe_for_other_inputs_is_refused_with_those_that_fit(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"label_map .* holds mesh .*: nepa-shapenet, nepa-modelnet40, points\."):
        small(raw, tmp_path / "new.zarr", recipe="cardiac-sdf", settings=())


def test_the_stored_recipe_is_used_where_none_is_given(raw: Path, once: Path) -> None:
    assert small(raw, once, recipe=None, settings=()).computed == 0


def test_another_source_kind_is_refused(raw: Path, once: Path) -> None:
    with pytest.raises(WorkMismatch, match="source meshes, not shapenet"):
        api.ingest("shapenet", raw, once, workers=0)


def test_a_changed_source_is_refused_unless_rebuilt(raw: Path, once: Path) -> None:
    first, second, *_ = sorted(raw.rglob("model_normalized.obj"))
    changed = str(first.relative_to(raw))
    before = api.open(once).row("pc_xyz", api.open(once).row_of(changed)).copy()
    shutil.copy(second, first)
    with pytest.raises(WorkMismatch, match=changed):
        small(raw, once)
    assert small(raw, once, rebuild=True).computed == 1
    after = api.open(once)
    assert not np.array_equal(after.row("pc_xyz", after.row_of(changed)), before)
    assert api.validate(once, "full", workers=0, waive=["duplicates:*"]).passed
    assert small(raw, once).computed == 0


def test_a_touched_but_equal_source_is_accepted(raw: Path, once: Path) -> None:
    os.utime(min(raw.rglob("*.obj")), ns=(1, 1))
    assert small(raw, once).computed == 0


@pytest.mark.parametrize("limit", ["1", "10%"])
def test_too_many_failures_stop_the_job_and_a_rerun_goes_on(raw: Path, tmp_path: Path, limit: str) -> None:
    for number in range(2):
        (raw / f"broken_{number}.obj").write_text("v 0 0 nonsense\n")
    store = tmp_path / "stopped.zarr"
    with pytest.raises(StoppedEarly, match="max-failures"):
        small(raw, store, max_failures=limit)
    assert small(raw, store).quarantined == 3
    small(raw, tmp_path / "whole.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "whole.zarr")


def test_a_nonsensical_limit_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-failures"):
        small(raw, tmp_path / "x.zarr", max_failures="many")


def test_a_missing_raw_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        small(tmp_path / "nowhere", tmp_path / "x.zarr")


def test_a_folder_that_is_no_store_is_not_overwritten(raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no shapestore store"):
        small(raw, other)
    assert (other / "thesis.txt").read_text() == "years of work"


def test_items_added_while_a_run_was_interrupted_follow_the_planned_ones(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    (raw / "broken.obj").write_text("v 0 0 nonsense\n")
    with pytest.raises(StoppedEarly):
        small(raw, store, max_failures="1")
    shutil.copy(min(raw.rglob("model_normalized.obj")), raw / "000.obj")
    result = small(raw, store)
    assert result.rows == 15
    assert api.open(store).row_of("000.obj") == 14


AT_ONCE, AMIDST = False, True
"""When a run is interrupted: before any row is done, or after the first."""


def has_parts(store: Path) -> bool:
    """Whether an ingest that is not complete has finished a part."""
    with suppress(FileNotFoundError):
        return b'"part"' in (work_folder(store) / LEDGER).read_bytes()
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moments"),
    [(signal.SIGKILL, [AMIDST]), (signal.SIGINT, [AT_ONCE, AMIDST])],
    ids=["killed", "interrupted"],
)
def test_an_interrupted_run_is_resumed_to_the_same_bytes(
    raw: Path, tmp_path: Path, number: signal.Signals, moments: list[bool]
) -> None:
    whole, cut, recipe, settings = tmp_path / "whole.zarr", tmp_path / "cut.zarr", "nepa-shapenet", "grid.size=24"
    small(raw, whole, recipe=recipe, settings=(settings,))
    command = [sys.executable, "-m", "shapestore", "ingest", "meshes", str(raw), str(cut)]
    command += ["--recipe", recipe, "--set", settings, "--workers", "2"]
    for moment in moments:
        process = subprocess.Popen(
            command, env=environment(), start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        while " of 13 shapes" not in process.stderr.readline():
            assert process.poll() is None
        while moment == AMIDST and not has_parts(cut) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        if number == signal.SIGKILL:
            with suppress(ProcessLookupError):  # its workers may have seen that it is gone already
                os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode != 4:
            assert process.returncode == 5, errors
            assert "Run the same command again" in errors
    assert small(raw, cut, recipe=recipe, settings=(settings,), workers=2).quarantined == 1
    assert tree_digest(cut) == tree_digest(whole)
    assert not work_folder(cut).exists()
