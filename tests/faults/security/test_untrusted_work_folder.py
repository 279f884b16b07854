"""The folder beside a store, when somebody sent it along: no writer obeys it where it leads out of the two folders.

docs/security.md says to delete such a folder. Who forgets it loses no file of his own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shapestore.store.layout import work_folder
from shapestore.store.ledger import write_lines
from shapestore.store.transaction import REDO
from tests.faults.security.commands import Ended, run_commands
from tests.faults.security.forge import copy_of

MINE = b"mine alone\n"


def redo(source: str, target: str) -> Callable[[Path], None]:
    """A redo log that moves one file, and then the root."""

    def harm(store: Path) -> None:
        work, outside = work_folder(store), store.parents[1]
        work.mkdir()
        (work / "payload").write_bytes(b"theirs\n")
        (work / "root").write_bytes((store / "zarr.json").read_bytes())
        write_lines(
            work / REDO[0],
            [{"source": source, "target": target.format(outside=outside)}, {"source": "root", "target": "zarr.json"}],
        )

    return harm


def linked(name: str) -> Callable[[Path], None]:
    """A file of the work folder that is a link to a file of the user."""

    def harm(store: Path) -> None:
        work_folder(store).mkdir()
        (work_folder(store) / name).symlink_to("../../mine")

    return harm


def linked_folder(store: Path) -> None:
    """The work folder is a link to a folder of the user, whose file `lock` is not a lock."""
    work_folder(store).symlink_to("../folder")


def linked_chunks(store: Path) -> None:
    """A folder in the store is a link to a folder of the user, where a commit would replace files."""
    chunks = store / "provenance" / "runs" / "c"
    (chunks / "0").rename(store.parents[1] / "folder" / "0")
    chunks.rmdir()
    chunks.symlink_to("../../../../folder")


HARM: Mapping[str, Callable[[Path], None]] = {
    "a redo log that replaces a file elsewhere": redo("payload", "../../mine"),
    "a redo log that replaces a file by its absolute path": redo("payload", "{outside}/mine"),
    "a redo log that takes a file away": redo("../../mine", "pc_xyz/theirs"),
    "a lock that is a link": linked("lock"),
    "a redo log that is a link": linked("redo.partial"),
    "a work folder that is a link": linked_folder,
    "a folder in the store that is a link": linked_chunks,
}


@dataclass(frozen=True)
class Attacked:
    """What lies beside a store before and after a command wrote to it, and how that ended."""

    before: Mapping[str, bytes | None]
    after: Mapping[str, bytes | None]
    ended: Ended


def beside(outside: Path) -> dict[str, bytes | None]:
    """All that lies neither in the store nor in its work folder, by its path; links are not followed."""
    paths = (path for path in outside.rglob("*") if outside / "in" not in path.parents)
    return {path.relative_to(outside).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture(scope="module")
def attacked(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Attacked]:
    """Every harm in a folder of its own, with the same files of the user beside the store."""
    folder = tmp_path_factory.mktemp("work-folders")
    places = {name: folder / f"{number}" for number, name in enumerate(HARM)}
    for name, outside in places.items():
        (outside / "folder").mkdir(parents=True)
        (outside / "in").mkdir()
        (outside / "mine").write_bytes(MINE)
        (outside / "folder" / "lock").write_bytes(MINE)
        HARM[name](copy_of(sound, outside / "in" / "s.zarr"))
    before = {name: beside(outside) for name, outside in places.items()}
    stores = [str(outside / "in" / "s.zarr") for outside in places.values()]
    ended = run_commands([["split", store, "fold", "--parts", "a=0.5,b=0.5"] for store in stores])
    return {
        name: Attacked(before[name], beside(outside), end)
        for (name, outside), end in zip(places.items(), ended, strict=True)
    }


@pytest.mark.parametrize("name", HARM)
def test_no_writer_touches_a_file_outside(name: str, attacked: Mapping[str, Attacked]) -> None:
    found = attacked[name]
    assert found.ended.code in (1, 2, 3), found.ended
    assert "fault of shapestore" not in found.ended.err
    assert found.before["mine"] == MINE
    assert found.after == found.before
