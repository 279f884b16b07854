from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jsonschema
import psutil
import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.cli.validate import _seconds
from shapestore.errors import UsageError
from shapestore.quality.result import Validation
from shapestore.quality.waivers import read_waivers
from tests.integration.conftest import Program, environment

SMALL = ("points.count=256", "points.fps_order=64")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validate-command")
    raw = write_shapenet(folder, models_per_class=3)
    api.ingest("shapenet", raw, folder / "s.zarr", recipe="points", settings=SMALL, workers=0)
    return folder / "s.zarr"


@pytest.fixture
def damaged(store: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(store, tmp_path / "damaged.zarr"))
    shard = copy / "pc_xyz" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    return copy


def test_json_keeps_its_schema(program: Program, damaged: Path) -> None:
    schema = json.loads(files("shapestore.quality").joinpath("validation.schema.json").read_text())
    assert schema == Validation.model_json_schema()
    result = json.loads(program("validate", damaged, "--level", "full", "--workers", 0, "--json", code=3).stdout)
    jsonschema.validate(result, schema)
    assert (result["version"], result["passed"], result["findings"][0]["row"]) == (1, False, 0)


def test_people_see_every_check_and_the_worst_first(program: Program, damaged: Path) -> None:
    shape_id = api.open(damaged).index("shape_id")[0]
    done = program("validate", damaged, "--level", "full", "--workers", 0, code=3)
    assert "1 error" in done.stdout
    assert f"integrity  0    {shape_id}" in done.stdout
    assert "Bring the file back from a copy" in done.stderr
    assert "not run: it reads the raw files: name their folder with --raw" in done.stdout


def test_a_waived_finding_lets_the_command_pass_and_stays_in_the_list(program: Program, damaged: Path) -> None:
    shape_id = api.open(damaged).index("shape_id")[0]
    waived = ("--waive", f"integrity:{shape_id}", "--waive", "rays:nothing")
    done = program("validate", damaged, "--level", "full", "--workers", 0, *waived)
    assert "1 waived finding" in done.stdout
    assert "no finding needs the waiver rays:nothing" in done.stderr


def test_info_says_when_the_store_was_validated(program: Program, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "s.zarr"))
    shutil.rmtree(tmp_path / "s.zarr.ingest", ignore_errors=True)
    program("validate", copy, "--level", "metadata")
    said = next(line for line in program("info", copy).stdout.splitlines() if line.startswith("validated"))
    assert "level metadata, 0 of 12 rows: nothing wrong" in said
    program("split", copy, "folds", "--parts", "a=0.5,b=0.5")
    said = next(line for line in program("info", copy).stdout.splitlines() if line.startswith("validated"))
    assert said.endswith("before the store changed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no waiver"),
        ("# only a remark\n", "holds no waiver"),
        ("[]", "holds no waiver"),
        ("check: rays\nshape: a\nreason: b\n", "got one mapping"),
        ("rays:a", "got 'rays:a'"),
        ("- {check: rays, shape: a}", "reason: field required"),
    ],
)
def test_a_file_that_waives_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_waivers([str(file)])


@pytest.mark.parametrize(("text", "seconds"), [("5", 5), ("5s", 5), ("1.5m", 90), ("2h", 7200)])
def test_a_budget_without_a_unit_is_in_seconds(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("budget", ["fast", "-3s", "0", "nan"])
def test_a_budget_is_a_time(program: Program, store: Path, budget: str) -> None:
    assert "such as 60s" in program("validate", store, f"--budget={budget}", code=2).stderr


def test_an_interrupt_ends_it_with_5_and_leaves_the_store_as_it_was(store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "s.zarr"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "shapestore", "validate", str(copy), "--level", "full", "--workers", "1"]
    running = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, start_new_session=True)
    while not psutil.Process(running.pid).children():  # it starts its cluster: all it has to say is still ahead
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    assert "interrupted" in running.communicate(timeout=60)[1].decode()
    assert running.returncode == 5
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
