"""`why`, `rebuild` and `diff` as a user runs them: what they print, what they answer to machines, how they end."""

from __future__ import annotations

import json
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.cli.rebuild import _print_written
from shapestore.preprocess.rebuilt import Outcome, RebuiltRow
from shapestore.store.entries import Failure
from tests.integration.conftest import Program, tree_digest

SMALL = ("points.count=128", "points.fps_order=32")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provenance")
    shutil.move(write_shapenet(folder, models_per_class=1), folder / "raw")
    (folder / "raw" / "empty.obj").write_text("# nothing\n")
    return folder / "raw"


@pytest.fixture(scope="module")
def store(raw: Path) -> Path:
    path = raw.parent / "s.zarr"
    api.ingest("meshes", raw, path, recipe="points", settings=SMALL, workers=0)
    return path


@pytest.fixture(scope="module")
def first(raw: Path) -> str:
    return str(min(raw.rglob("model_normalized.obj")).relative_to(raw))


def test_why_shows_the_chain(program: Program, store: Path, raw: Path, first: str) -> None:
    text = program("why", store, first).stdout
    for words in ("source meshes of shapestore", "the same to the byte", "recipe", "numpy", "Python", "unit-vectors"):
        assert words in text
    found = json.loads(program("why", store, first, "--json").stdout)
    assert (found["source"]["state"], found["source"]["root"]) == ("same", str(raw))
    assert all(check["sound"] for check in found["checks"])
    assert ".." not in text, "a bound that is not there leaves no blank side"
    assert {"at least", "at most"} <= {" ".join(pair) for pair in pairwise(text.split())}


def test_why_tells_what_to_do_about_a_quarantined_shape(program: Program, store: Path) -> None:
    text = program("why", store, "empty.obj").stdout
    assert "no faces: " in text
    assert f"shapestore rebuild {store} empty.obj --write" in text


def test_why_of_a_damaged_row_tells_all_and_exits_with_3(
    program: Program,
    store: Path,
    first: str,
    tmp_path: Path,
) -> None:
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    (copy / "pc_n" / "c" / "0" / "0" / "0").unlink()
    told = program("why", copy, first, code=3)
    for words in ("the same to the byte", "pc_n/c/0/0/0: the file is missing", f"shapestore repair {copy}"):
        assert words in told.stdout
    found = json.loads(program("why", copy, first, "--json", code=3).stdout)
    assert len(found["damage"]) == 1


def test_diff_of_a_store_that_lost_a_file_is_an_error(program: Program, store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    (copy / "pc_n" / "c" / "0" / "0" / "0").unlink()
    told = program("diff", store, copy, code=3)
    assert "pc_n/c/0/0/0: the file is missing" in told.stderr
    assert told.stdout == ""


def test_rebuild_of_what_is_unchanged(program: Program, store: Path, first: str) -> None:
    assert "1 shapes computed: 1 identical" in program("rebuild", store, first).stdout
    done = json.loads(program("rebuild", store, "--all", "--workers", 0, "--json").stdout)
    assert {row["outcome"] for row in done["rows"]} == {"identical"}
    assert "1 quarantined" in program("rebuild", store, first, "empty.obj", code=4).stdout


def test_rebuild_tells_what_differs_and_replaces_it(
    program: Program,
    store: Path,
    raw: Path,
    first: str,
    tmp_path: Path,
) -> None:
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    changed = shutil.copytree(raw, tmp_path / "raw")
    shutil.copy(max(changed.rglob("model_normalized.obj")), changed / first)
    told = program("rebuild", copy, first, "--raw", changed, code=3)
    assert "different" in told.stdout
    assert "the raw file has changed; pc_xyz: 384 of 384 values, by" in told.stdout
    assert tree_digest(copy) == tree_digest(store)

    (line,) = [line for line in told.stderr.splitlines() if line.startswith("Replace them with: shapestore ")]
    words = shlex.split(line.removeprefix("Replace them with: shapestore "))
    assert words == ["rebuild", str(copy), first, "--raw", str(changed), "--write"]
    assert "1 shapes replaced" in program(*words).stdout
    program("rebuild", copy, first, "--raw", changed)
    differs = program("diff", store, copy, code=3).stdout
    assert f"1 shapes: {first}" in differs
    assert "source_sha256" in differs
    found = json.loads(program("diff", store, copy, "--json", code=3).stdout)
    assert (found["version"], found["equal"], found["changed"]) == (1, False, [first])
    assert {"array": "pc_xyz", "rows": 1} in found["arrays"]


@pytest.mark.parametrize(
    ("shape_ids", "quarantined", "chosen"),
    [
        (["a", "b/c-d.obj"], False, ["a", "b/c-d.obj"]),
        ([*"abcde"], False, [*"abcde"]),
        ([*"abcdef"], False, ["--all"]),
        (["a", "b c"], False, ["--all"]),
        (["a", "$b"], False, ["--all"]),
        ([*"abcdef", "b c"], True, [*"abcdef", "b c"]),
    ],
)
@pytest.mark.parametrize("raw", [None, Path("raw files")])
def test_the_command_that_replaces_can_be_pasted(
    capsys: pytest.CaptureFixture[str], shape_ids: list[str], quarantined: bool, chosen: list[str], raw: Path | None
) -> None:
    failure = Failure(reason="no faces", message="") if quarantined else None
    outcome: Outcome = "mended" if quarantined else "different"
    rows = [
        RebuiltRow(row=row, shape_id=shape_id, outcome=outcome, source_changed=False, quarantined=failure)
        for row, shape_id in enumerate(shape_ids)
    ]
    same = RebuiltRow(row=9, shape_id="same", outcome="identical", source_changed=False)
    _print_written("my store.zarr", [*rows, same], raw, write=False)
    said = shlex.split(capsys.readouterr().err.partition(": ")[2])
    there = [] if raw is None else ["--raw", "raw files"]
    assert said == ["shapestore", "rebuild", "my store.zarr", *chosen, *there, "--write"]
    _print_written("my store.zarr", [same], raw, write=False)
    _print_written("my store.zarr", rows, raw, write=True)
    assert capsys.readouterr().err == ""


def test_rebuild_of_a_store_without_rows_says_so(program: Program, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "empty.obj").write_text("# nothing\n")
    api.ingest("meshes", tmp_path / "raw", tmp_path / "s.zarr", recipe="points", settings=SMALL, workers=0)
    done = program("rebuild", tmp_path / "s.zarr", "--all", "--workers", 0)
    assert done.stdout == "no shapes to compute\n"


def test_diff_of_equal_stores(program: Program, store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    assert "equal" in program("diff", store, copy).stdout
    assert json.loads(program("diff", store, copy, "--json").stdout)["equal"]


def test_diff_shows_recipe_and_schema_side_by_side(program: Program, store: Path, raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    settings = ("points.count=64", "points.fps_order=0")
    api.ingest("meshes", raw, other, recipe="points", settings=settings, workers=0)
    lines = [line.split() for line in program("diff", store, other, code=3).stdout.splitlines()]
    assert ["points.count", "128", "64"] in lines
    assert ["pc_fps_order", "there", "absent"] in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("why", "{store}", "emty.obj"), "Did you mean 'empty.obj'"),
        (("rebuild", "{store}", "emty.obj"), "Did you mean 'empty.obj'"),
        (("rebuild", "{store}"), "either ids of shapes"),
        (("rebuild", "{store}", "empty.obj", "--all"), "either ids of shapes"),
        (("rebuild", "{store}", "--all", "--raw", "nowhere"), "nowhere does not exist"),
        (("diff", "{store}", "nowhere.zarr"), "nowhere.zarr"),
    ],
)
def test_errors_are_one_message(program: Program, store: Path, arguments: tuple[str, ...], message: str) -> None:
    refused = program(*(word.format(store=store) for word in arguments), code=2)
    assert refused.stderr.startswith("shapestore: ")
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["why", "rebuild", "diff"])
def test_help_has_an_example(program: Program, command: str) -> None:
    assert "Example: shapestore " + command in program(command, "--help").stdout
