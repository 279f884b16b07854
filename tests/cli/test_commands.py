"""Every command as a user runs it: what it prints, what it answers to machines, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_shapenet
from shapestore import __version__, api
from shapestore.cli.ingest import START_SECONDS, _show_plan
from shapestore.cli.main import app
from shapestore.preprocess.ingest import Request
from tests.integration.conftest import SMALL, Program, environment

COMMANDS = (
    "ingest", "validate", "info", "ls", "show", "why", "quarantine", "rebuild", "repair", "diff", "split", "derive",
    "export", "bench", "train", "evaluate",
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shapenet(tmp_path_factory.mktemp("cli"), models_per_class=2)
    broken = folder / "03001627" / "broken" / "models"
    broken.mkdir(parents=True)
    (broken / "model_normalized.obj").write_text("v 0 0 0\n")
    return folder


@pytest.fixture(scope="module")
def store(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli-store") / "shapes.zarr"
    settings = ("points.count=256", "points.fps_order=0")
    api.ingest("shapenet", raw, path, recipe="points", settings=settings, workers=0)
    return path


def test_the_command_list() -> None:
    assert tuple(command.name for command in app.registered_commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(program: Program, command: str) -> None:
    assert "Example: shapestore " + command in program(command, "--help").stdout


def test_version(program: Program) -> None:
    assert program("--version").stdout == f"shapestore {__version__}\n"


def test_ingest_tells_what_it_did_and_exits_with_4(program: Program, raw: Path, tmp_path: Path) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ("ingest", "shapenet", raw, tmp_path / "s.zarr", "--recipe", "points", *settings, "--workers", 0)
    first = program(*arguments, code=4)
    assert "9 shapes computed" in first.stdout
    assert "no faces" in first.stdout
    assert "hash split" in first.stderr
    again = program(*arguments, code=4)
    assert "nothing to do: all 9 shapes" in again.stdout
    machine = json.loads(program(*arguments, "--json", code=4).stdout)
    assert (machine["computed"], machine["valid"], machine["quarantined"]) == (0, 8, 1)


def test_dry_run_shows_the_plan_and_writes_nothing(program: Program, raw: Path, tmp_path: Path) -> None:
    arguments = ("ingest", "shapenet", raw, tmp_path / "s.zarr", "--recipe", "points", "--dry-run")
    assert "about" in program(*arguments).stdout
    plan = json.loads(program(*arguments, "--json").stdout)
    assert plan["new"] == 9
    assert plan["disk_bytes"] == 9 * (2 * 2048 * 12 + 2048 * 4)
    assert plan["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("workers", "seconds", "words"),
    [
        (0, 9 * 4.0, "36.0 s in this process"),
        (3, START_SECONDS + 3 * 4.0, f"with 3 workers, {START_SECONDS} s of it to start and end them"),
    ],
)
def test_the_time_of_a_plan_has_the_start_of_the_workers(
    raw: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    seconds: float,
    words: str,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    work, estimate = api.plan_ingest(Request("shapenet", raw, tmp_path / "s.zarr", "points", SMALL))
    estimate = replace(estimate, seconds_per_row=4.0)
    _show_plan(work, estimate, workers, as_json=True)
    plan = json.loads(capsys.readouterr().out)
    assert plan["seconds"] == seconds
    assert plan["memory_bytes"] == max(workers, 1) * estimate.worker_bytes
    _show_plan(work, estimate, workers, as_json=False)
    assert words in capsys.readouterr().out


def test_info(program: Program, store: Path) -> None:
    text = program("info", store).stdout
    assert "8 valid, 1 quarantined" in text
    about = json.loads(program("info", store, "--json").stdout)
    assert about["codes"]["category"]["03001627"] == 2
    assert [array["name"] for array in about["arrays"]] == ["pc_xyz", "pc_n"]
    assert about["runs"][0]["mode"] == "append"


def test_ls_filters(program: Program, store: Path) -> None:
    listed = json.loads(program("ls", store, "--where", "category=03001627", "--json").stdout)
    assert listed["count"] == 2
    assert {row["category"] for row in listed["rows"]} == {"03001627"}
    refused = program("ls", store, "--where", "category=chair", code=2)
    assert "no category 'chair'" in refused.stderr
    assert "03001627" in refused.stderr


def test_show_and_its_picture(program: Program, store: Path, tmp_path: Path) -> None:
    opened = api.open(store)
    shape_id = opened.index("shape_id")[opened.rows()[0]]
    shown = json.loads(program("show", store, shape_id, "--json").stdout)
    (points, _) = shown["arrays"]
    assert points["name"] == "pc_xyz"
    assert points["least"] == pytest.approx(opened.row("pc_xyz", opened.row_of(shape_id)).min(), abs=1e-6)
    assert any(note.startswith("mesh: ") for note in shown["notes"])
    program("show", store, shape_id, "--picture", tmp_path / "shape.png")
    assert (tmp_path / "shape.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "Did you mean" in program("show", store, shape_id + "x", code=2).stderr


def test_quarantine_lists_reasons_and_retries(program: Program, store: Path, raw: Path) -> None:
    (item,) = json.loads(program("quarantine", store, "--json").stdout)
    assert (item["reason"], item["source"]) == ("no faces", "03001627/broken/models/model_normalized.obj")
    assert "no faces" in program("quarantine", store).stdout
    assert "1 shapes computed" in program("quarantine", store, "--retry", raw, code=4).stdout


def test_validate_finds_damage_and_exits_with_3(program: Program, store: Path, tmp_path: Path) -> None:
    assert "every row" in program("validate", store, "--level", "full", "--workers", 0).stdout
    import shutil

    damaged = tmp_path / "damaged.zarr"
    shutil.copytree(store, damaged)
    shard = damaged / "pc_xyz" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    result = json.loads(program("validate", damaged, "--level", "full", "--workers", 0, "--json", code=3).stdout)
    assert not result["passed"]
    assert [(finding["check"], finding["row"]) for finding in result["findings"]] == [("integrity", 0)]
    shard.unlink()
    assert "missing" in program("validate", damaged, "--workers", 0, code=3).stdout


def test_split_and_derive_and_export(program: Program, store: Path, tmp_path: Path) -> None:
    parts = ("--parts", "train=0.5,test=0.5")
    counts = json.loads(program("split", store, "fold0", *parts, "--json").stdout)["rows"]
    assert "split" in program("info", store).stdout
    assert sum(counts.values()) == 8
    assert "Choose another name" in program("split", store, "fold0", *parts, code=2).stderr
    assert "--parts" in program("split", store, "fold1", code=2).stderr

    program("derive", store, "pc_fps_order", "--workers", 0)
    opened = api.open(store)
    order = opened.row("pc_fps_order", int(opened.rows()[0]))
    assert sorted(order.tolist()) == list(range(256))
    assert "already" in program("derive", store, "pc_fps_order", code=2).stderr
    assert api.validate(store, "full", workers=0).passed

    program("export", store, tmp_path / "out", "--where", "fold0=train")
    files = sorted((tmp_path / "out").rglob("*.npz"))
    assert len(files) == len(opened.rows(fold0="train"))
    with np.load(files[0]) as one:
        row = opened.row_of(str(one["shape_id"]))
        np.testing.assert_array_equal(one["pc_xyz"], opened.row("pc_xyz", row))


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        (("info", "{store}"), False),
        (("quarantine", "{store}", "--json"), False),
        (("--help",), False),
        (("info", "{store}"), True),
        (("info", "nowhere.zarr"), True),
    ],
    ids=["by rich", "what is still buffered", "by typer", "with standard error", "an error"],
)
def test_a_reader_that_goes_away_ends_the_program_quietly(store: Path, arguments: tuple[str, ...], both: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "shapestore", *(word.format(store=store) for word in arguments)]
    errors = write if both else subprocess.PIPE
    buffered = environment({"PYTHONUNBUFFERED": ""})
    done = subprocess.run(command, stdout=write, stderr=errors, env=buffered, check=False, timeout=60)
    os.close(write)
    assert done.returncode == 128 + signal.SIGPIPE
    assert not done.stderr


def test_errors_are_one_message_without_traceback(program: Program, tmp_path: Path) -> None:
    missing = program("info", tmp_path / "nowhere.zarr", code=2)
    assert missing.stderr.startswith("shapestore: ")
    assert "Traceback" not in missing.stderr
    assert "Traceback" in program("--debug", "info", tmp_path / "nowhere.zarr", code=2).stderr


def test_unknown_source_lists_the_installed_ones(program: Program, tmp_path: Path) -> None:
    refused = program("ingest", "shapnet", tmp_path, tmp_path / "s.zarr", code=2)
    for kind in ("cardiac", "meshes", "modelnet40", "npz", "scanobjectnn", "shapenet"):
        assert kind in refused.stderr


def test_output_that_finds_no_room_ends_as_a_full_disk_does(store: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "shapestore", "ls", str(store)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 5
    assert "No space left on device. Mend that, and run the same command again." in ended.stderr
