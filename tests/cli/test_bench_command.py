"""`shapestore bench` as a user runs it. No figure of it is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.integration.conftest import Program
from tests.train.toy import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("bench") / "s.zarr")


def test_people_see_shares_of_limits_and_the_limiting_stage(program: Program, store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    text = program("bench", store, "--seconds", "0.02", "--batch", 4, "--fields", "pc_xyz, scale").stdout
    assert "pc_xyz, scale" in text
    for line in ("open", "first batch", "first pass", "later passes", "Store.read"):
        assert any(found.startswith(line) and found.rstrip().endswith("%") for found in text.splitlines()), line
    assert "limiting stage: " in text
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_machines_get_json(program: Program, store: Path) -> None:
    found = json.loads(program("bench", store, "--seconds", "0.02", "--batch", 4, "--json").stdout)
    assert found["fields"][0] == "pc_xyz"
    assert found["limits"]["memory_copy"] > 0
    assert found["later_passes"]["rows_per_second"] > 0


def test_an_unknown_field_is_an_error_that_names_those_that_are_there(program: Program, store: Path) -> None:
    assert "The store has: " in program("bench", store, "--fields", "surprise", code=2).stderr
