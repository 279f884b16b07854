"""A store that somebody sends, made to do harm: every command ends with an exit code and a message, and nothing else.

Each test makes one kind of harm in a sound store, signs it, and runs every command that reads stores on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shapestore
from shapestore import api
from shapestore.errors import StoreDamaged, UsageError
from shapestore.store.root import MAX_ROOT_BYTES, read_root
from tests.faults.security.commands import Ended, run_commands
from tests.faults.security.forge import (
    Own,
    array_of,
    bomb,
    chunk_bytes,
    column_of,
    copy_of,
    forge_column,
    forge_root,
    forge_row,
    log,
)
from tests.faults.security.names import NAMES, named

Harm = Callable[[Path], object]

SECONDS = 20
"""What a command may take on a tiny store; the slowest sound one takes 3."""

ROW = 4
"""A row that holds data."""

GRID_BYTES = 3**3 * 2
"""Bytes of a row of `udf_grid`."""


def root(change: Callable[[Own], object]) -> Harm:
    return lambda path: forge_root(path, change)


def with_codes(name: str) -> Harm:
    return root(lambda own: own["codes"].update({name: ["a", "b"]}) or own["chunks"].update({name: ["0" * 64]}))


def with_array(**changes: Any) -> Harm:
    return root(lambda own: array_of(own, "pc_xyz").update(changes))


def raw_root(data: bytes) -> Harm:
    return lambda path: (path / "zarr.json").write_bytes(data)


def sparse(size: int, relative: str) -> Harm:
    return lambda path: os.truncate(path / relative, size)


def pipe(relative: str) -> Harm:
    def harm(path: Path) -> None:
        (path / relative).unlink()
        os.mkfifo(path / relative)

    return harm


def link(relative: str, target: str) -> Harm:
    def harm(path: Path) -> None:
        (path / relative).unlink()
        (path / relative).symlink_to(target)

    return harm


def column(name: str, value: object) -> Harm:
    def change(values: Any) -> None:
        values[ROW] = value

    return lambda path: forge_column(path, name, change)


def log_of(name: str, text: str) -> Harm:
    return lambda path: log(path, name, text)


def chunk(name: str, body: bytes) -> Harm:
    return lambda path: (path / column_of(path, name).chunk_path(0)).write_bytes(chunk_bytes(body))


def grid(body: bytes) -> Harm:
    return lambda path: forge_row(path, "udf_grid", ROW, body)


SHAPE_IDS, SHARD = "shape_id/c/0", "pc_xyz/c/0/0/0"

REFUSED: Mapping[str, Harm] = {
    "codes lead out": with_codes("../../outside/x"),
    "codes are absolute": with_codes("/outside/x"),
    "codes hold NUL": with_codes("a\0"),
    "codes have an array's name": with_codes("pc_xyz"),
    "codes have a group's name": with_codes("quarantine"),
    "codes are missing": root(lambda own: own["codes"].pop("category")),
    "a million million rows": root(lambda own: own.update(rows=10**12, valid=10**12)),
    "rows beyond 64 bits": root(lambda own: own.update(rows=2**70)),
    "fewer than no rows": root(lambda own: own.update(rows=-1)),
    "a million million quarantined": root(lambda own: own.update(quarantined=10**12)),
    "no rows in a shard": root(lambda own: own.update(rows_per_shard=0)),
    "many rows in a shard": root(lambda own: own.update(rows_per_shard=2**60)),
    "rows in a shard that no chunk holds": root(lambda own: own.update(rows_per_shard=65_537)),
    "a million million points": with_array(shape=[10**12, 3]),
    "points beyond 64 bits": with_array(shape=[2**63, 3]),
    "fewer than no points": with_array(shape=[-1, 3]),
    "an array that leads out": with_array(name="../x"),
    "an array name with a line end": with_array(name="pc_xyz\n"),
    "objects": with_array(dtype="object"),
    "a fill beyond all floats": with_array(fill=10**400),
    "dimensions named as columns": with_array(dims=["scale", "xyz"]),
    "deep": raw_root(b'{"a":' * 100_000),
    "no JSON": raw_root(b"\x80\x04\x95"),
    "a list": raw_root(b"[1]"),
    "a number of 5000 digits": raw_root(b'{"attributes": {"shapestore": {"format": ' + b"9" * 5000 + b"}}}"),
    "a root of 2 TB": sparse(2**41, "zarr.json"),
    "a root that is a pipe": pipe("zarr.json"),
    "a root that never ends": link("zarr.json", "/dev/zero"),
}
"""Harm that is seen when the store is opened."""

DAMAGED: Mapping[str, tuple[str, Harm]] = {
    "2^32 strings": ("shape_id", chunk("shape_id", (2**32 - 1).to_bytes(4, "little"))),
    "a string of 4 GiB": (
        "shape_id",
        chunk("shape_id", (65_536).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little")),
    ),
    "strings that are no text": (
        "shape_id",
        chunk("shape_id", (65_536).to_bytes(4, "little") + b"\1\0\0\0\xff" * 65_536),
    ),
    "strings of 2 TB": ("shape_id", sparse(2**41, SHAPE_IDS)),
    "numbers of 2 TB": ("scale", sparse(2**41, "scale/c/0")),
    "strings from a pipe": ("shape_id", pipe(SHAPE_IDS)),
    "strings that never end": ("shape_id", link(SHAPE_IDS, "/dev/zero")),
    "codes without a name": ("category", column("category", 99)),
    "codes below all": ("split", column("split", -7)),
    "a log that is no JSON": ("provenance/runs", log_of("runs", "{")),
    "a deep log": ("provenance/runs", log_of("runs", "[" * 100_000)),
    "a log of other types": ("provenance/runs", log_of("runs", '[{"started": 5, "versions": [1]}]')),
    "a validation that is a number": ("provenance/validation", log_of("validation", "5")),
}
"""Harm that is seen when an index array is read."""

BROKEN: Mapping[str, tuple[str, Harm]] = {
    "a row that unpacks to 2^60 bytes": ("udf_grid", grid(bomb(2**60))),
    "a row that unpacks to 1 GiB": ("udf_grid", grid(bomb(2**30, 2**20))),
    "a row that unpacks to more than it says": ("udf_grid", grid(bomb(GRID_BYTES, 2**20))),
    "a row that unpacks to less than it says": ("udf_grid", grid(bomb(GRID_BYTES, 1))),
    "a row that is no frame": ("udf_grid", grid(b"\x80\x04\x95")),
    "a shard of 2 TB": ("pc_xyz", sparse(2**41, SHARD)),
    "a shard that is a pipe": ("pc_xyz", pipe(SHARD)),
    "a shard that never ends": ("pc_xyz", link(SHARD, "/dev/zero")),
    "a shard that is another file": ("pc_xyz", link(SHARD, "/proc/self/exe")),
}
"""Harm that is seen when a row of a data array is read."""

ODD: Mapping[str, Harm] = {
    "more valid rows than there are": root(lambda own: own.update(valid=10**12)),
    "a format of the past": root(lambda own: own.update(format=-1)),
    "no scale": column("scale", np.nan),
    "no time to compute a row": column("provenance/seconds", np.nan),
    "the first time of all": column("provenance/source_mtime_ns", -(2**63)),
    "an infinite shift": column("shift", np.inf),
    "sizes below nothing": lambda path: forge_column(path, "integrity/size", lambda values: values.fill(-1)),
    "sizes beyond all": lambda path: forge_column(path, "integrity/size", lambda values: values.fill(2**63 - 1)),
    "a quarantine of rows that are not there": lambda path: forge_column(
        path, "quarantine/row", lambda values: values.fill(2**62)
    ),
    "one id for all": lambda path: forge_column(path, "shape_id", lambda values: values.fill("same")),
}
"""Harm that only some commands meet."""

ALL: Mapping[str, Harm] = {
    **REFUSED,
    **{name: harm for name, (_, harm) in (DAMAGED | BROKEN).items()},
    **ODD,
    **{f"names: {name}": partial(named, text) for name, text in NAMES.items()},
}


@pytest.fixture(scope="module")
def ended(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Ended]]:
    """How every command ended on every store, and that none wrote anything outside of it."""
    folder = tmp_path_factory.mktemp("untrusted")
    (folder / "outside").mkdir()
    shape_id = shapestore.open(sound).index("shape_id")[ROW]
    commands: dict[tuple[str, str], list[str]] = {}
    for number, (name, harm) in enumerate(ALL.items()):
        store = copy_of(sound, folder / f"{number}" / "in" / "s.zarr")
        harm(store)
        wanted = shape_id if not name.startswith("names: ") else f"{NAMES[name.removeprefix('names: ')]}{ROW}"
        given = {
            "info": ("info", store),
            "ls": ("ls", store),
            "show": ("show", store, "--", wanted),
            "why": ("why", store, "--raw", folder / "outside", "--", wanted),
            "quarantine": ("quarantine", store),
            "diff": ("diff", sound, store),
            "validate": ("validate", store, "--workers", 0, "--raw", folder / "outside"),
            **({"full": ("validate", store, "--workers", 0, "--level", "full")} if name in BROKEN else {}),
            "export": ("export", store, folder / f"{number}" / "out"),
            "split": ("split", store, "fold", "--parts", "a=0.5,b=0.5"),
        }
        commands |= {(name, command): [str(word) for word in words] for command, words in given.items()}
    found = dict(zip(commands, run_commands(list(commands.values()), timeout=900), strict=True))
    assert list((folder / "outside").iterdir()) == []
    for number in range(len(ALL)):
        assert {each.name for each in (folder / f"{number}").iterdir()} <= {"in", "out"}
        assert {each.name for each in (folder / f"{number}" / "in").iterdir()} <= {"s.zarr"}
        for file in (folder / f"{number}").rglob("*.npz"):
            assert file.resolve().is_relative_to(folder / f"{number}" / "out")
    return {name: {command: end for (each, command), end in found.items() if each == name} for name in ALL}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_command_ends_with_one_message(name: str, ended: Mapping[str, Mapping[str, Ended]]) -> None:
    for command, end in ended[name].items():
        where = f"{command}: exit {end.code}\n{end.out[-500:]}\n{end.err[-1000:]}"
        assert end.code in (0, 2, 3, 4), where
        assert "fault of shapestore" not in end.err, where
        assert "Traceback" not in end.out + end.err, where
        assert end.seconds < SECONDS, where


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_true_is_refused_when_the_store_is_opened(
    name: str, ended: Mapping[str, Mapping[str, Ended]]
) -> None:
    for command, end in ended[name].items():
        assert end.code in (2, 3), command
        assert end.err.startswith("shapestore: "), command
        assert end.err.count("\n") == 1, command


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_validate_names_an_index_array_that_lies(name: str, ended: Mapping[str, Mapping[str, Ended]]) -> None:
    assert ended[name]["validate"].code == 3
    assert DAMAGED[name][0] in ended[name]["validate"].out


@pytest.mark.parametrize("name", DAMAGED)
def test_an_index_array_that_lies_is_not_read(name: str, sound: Path, tmp_path: Path) -> None:
    array, harm = DAMAGED[name]
    store = copy_of(sound, tmp_path / "s.zarr")
    harm(store)
    with pytest.raises(StoreDamaged, match=array):
        shapestore.open(store).index(array)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_true_is_not_opened(name: str, sound: Path, tmp_path: Path) -> None:
    store = copy_of(sound, tmp_path / "s.zarr")
    REFUSED[name](store)
    with pytest.raises(StoreDamaged):
        shapestore.open(store)


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_lies_is_not_read(name: str, sound: Path, tmp_path: Path) -> None:
    array, harm = BROKEN[name]
    store = copy_of(sound, tmp_path / "s.zarr")
    harm(store)
    with pytest.raises(StoreDamaged, match=array):
        shapestore.open(store).row(array, ROW)


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_lies_is_named(name: str, ended: Mapping[str, Mapping[str, Ended]]) -> None:
    array, _ = BROKEN[name]
    assert ended[name]["full"].code == 3
    for command in ("show", "export"):
        assert ended[name][command].code == 3, command
        assert f"{array}" in ended[name][command].err


def test_a_row_that_is_larger_than_memory_is_refused_by_its_header_alone(sound: Path, tmp_path: Path) -> None:
    store = copy_of(sound, tmp_path / "s.zarr")
    forge_row(store, "udf_grid", ROW, bomb(2**40))
    with pytest.raises(StoreDamaged, match=f"other than the {GRID_BYTES} bytes of a row"):
        shapestore.open(store).row("udf_grid", ROW)


def test_export_writes_no_shape_over_another(sound: Path, tmp_path: Path) -> None:
    store = copy_of(sound, tmp_path / "s.zarr")
    ODD["one id for all"](store)
    forge_column(store, "split", lambda values: values.fill(-1))
    with pytest.raises(UsageError, match=r"all/same\.npz would have to hold 19 shapes"):
        api.export(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_to_the_committed_file_is_read(sound: Path, tmp_path: Path) -> None:
    """Tools that keep large files apart, such as git-annex, leave links; what they lead to must be what was signed."""
    store = copy_of(sound, tmp_path / "s.zarr")
    (store / SHARD).rename(tmp_path / "kept apart")
    (store / SHARD).symlink_to(tmp_path / "kept apart")
    assert shapestore.open(store).row("pc_xyz", ROW).shape == (12, 3)


def test_a_store_of_the_largest_rows_is_opened_and_one_byte_more_is_refused(sound: Path, tmp_path: Path) -> None:
    store = copy_of(sound, tmp_path / "s.zarr")
    forge_root(store, lambda own: array_of(own, "udf_grid").update(shape=[2**10, 2**10, 2**9]))
    assert shapestore.open(store)["udf_grid"].shape == (21, 2**10, 2**10, 2**9)
    forge_root(store, lambda own: array_of(own, "udf_grid").update(shape=[2**10, 2**10, 2**9 + 1]))
    with pytest.raises(StoreDamaged, match="a row of udf_grid takes more than 1024 MiB"):
        shapestore.open(store)


def test_a_root_of_the_largest_size_is_read(sound: Path, tmp_path: Path) -> None:
    store = copy_of(sound, tmp_path / "s.zarr")
    data = (store / "zarr.json").read_bytes()
    (store / "zarr.json").write_bytes(data + b" " * (MAX_ROOT_BYTES - len(data)))
    assert read_root(store)[0].rows == 21
    (store / "zarr.json").write_bytes(data + b" " * (MAX_ROOT_BYTES - len(data) + 1))
    with pytest.raises(StoreDamaged, match="no root of a store"):
        read_root(store)


@pytest.mark.parametrize("name", [*DAMAGED, *ODD])
def test_as_a_dataset_it_is_what_was_written_or_refused(sound: Path, name: str, tmp_path: Path) -> None:
    store = copy_of(sound, tmp_path / "s.zarr")
    ALL[name](store)
    try:
        shapestore.open(store).to_xarray()
    except StoreDamaged:
        assert name in DAMAGED
