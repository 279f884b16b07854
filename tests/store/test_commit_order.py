"""What a power cut could lose: every file is on disk before its name, and every name before the root's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shapestore.store.layout import ROOT, work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.transaction import REDO
from shapestore.store.writer import StoreWriter
from tests.store.conftest import build, new_writer, write_rows


@dataclass(frozen=True)
class Event:
    """One call that matters for durability."""

    kind: str
    """`sync`, `rename` or `mkdir`."""
    inode: int
    """Of what was synced, or renamed."""
    path: Path
    """What was synced or made, or the new name."""


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Every sync, rename and new folder from here on."""
    seen: list[Event] = []
    replace, mkdir = Path.replace, os.mkdir

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(Event("sync", os.fstat(descriptor).st_ino, path))

    def renamed(source: Path, target: Path) -> Path:
        seen.append(Event("rename", source.stat().st_ino, Path(target)))
        return replace(source, target)

    def made(path: str, *args: int, **options: int) -> None:
        mkdir(path, *args, **options)
        seen.append(Event("mkdir", 0, Path(path)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(os, "mkdir", made)
    return seen


def create(path: Path) -> None:
    new_writer(path)


def append(path: Path) -> None:
    write_rows(StoreWriter.open(path), range(8, 21), failed=(9,))


def fill_tail(path: Path) -> None:
    write_rows(StoreWriter.open(path), range(5, 9))


@pytest.mark.parametrize(("action", "rows"), [(create, 0), (append, 8), (fill_tail, 5)])
def test_nothing_is_named_before_it_is_on_disk(
    tmp_path: Path, events: list[Event], action: Callable[[Path], None], rows: int
) -> None:
    path = tmp_path / "s.zarr"
    if rows:
        build(path, rows, ())
    with WriterLock(path):
        events.clear()
        action(path)
    root = max(i for i, e in enumerate(events) if e.kind == "rename" and e.path == path / ROOT)
    for i, event in enumerate(events):
        synced_before = {e.inode for e in events[:i] if e.kind == "sync"}
        synced_after = {e.path for e in events[i:root] if e.kind == "sync"}
        if event.kind == "rename":
            assert event.inode in synced_before, f"{event.path} was named before its content was on disk"
            if event.path.is_relative_to(path) and i != root:
                assert event.path.parent in synced_after, f"the name {event.path} was not on disk before the root's"
        if event.kind == "mkdir" and event.path.is_relative_to(path) and event.path != path:
            assert event.path.parent in synced_after, f"the folder {event.path} was not on disk before the root"
    assert path in {e.path for e in events[root:] if e.kind == "sync"}, "the commit itself is waited for"


def test_what_replaces_is_in_the_redo_log_before_anything_is_replaced(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "s.zarr"
    build(path, 5, ())
    committed = {file for file in path.rglob("*") if file.is_file()}
    with WriterLock(path):
        events.clear()
        fill_tail(path)
    renames = [(i, e.path) for i, e in enumerate(events) if e.kind == "rename"]
    redo = max(i for i, name in renames if name in [work_folder(path) / log for log in REDO])
    replaced = [i for i, name in renames if name in committed]
    assert replaced
    assert min(replaced) > redo
    durable = next(i for i, e in enumerate(events) if i > redo and e.kind == "sync" and e.path == work_folder(path))
    assert durable < min(replaced), "the log's own name is on disk first"
