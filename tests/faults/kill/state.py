"""What can be seen of a store that was killed, and what was left behind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import psutil

import shapestore
from shapestore.errors import NotAStore, StoreChanged, StoreDamaged
from shapestore.store.reader import Store
from shapestore.store.transaction import is_pending
from tests.faults.kill.stage import Stage
from tests.integration.conftest import tree_digest

DAMAGED = "damaged"
"""What is seen of a row that was spoilt on purpose, until it is repaired."""

CHANGED = "changed"
"""What is seen of a row while a commit is under way that the next writer finishes."""

PATIENCE_SECONDS = 20.0
"""How long the workers of a killed coordinator may take to see that it is gone."""


def seen(path: Path) -> tuple[str, ...]:
    """Read everything that a store says, with every checksum compared: a digest of each row, `CHANGED` or `DAMAGED`."""
    store = shapestore.open(path, checksums="always")
    failures = {item["row"]: (item["reason"], item["message"], item["source_sha256"]) for item in store.quarantine()}
    return tuple(_row(store, row, failures) for row in range(store.root.rows))


def _row(store: Store, row: int, failures: Mapping[str | int, object]) -> str:
    digest = hashlib.sha256(repr(failures.get(row)).encode())
    try:
        for column in store.root.row_columns:
            digest.update(f"{column.path} {store.index(column.path)[row]!r} ".encode())
        for spec in store.root.content.data_arrays if store.index("valid")[row] else ():
            digest.update(spec.name.encode() + store.row(spec.name, row).tobytes())
    except StoreChanged:
        return CHANGED
    except StoreDamaged:
        return DAMAGED
    return digest.hexdigest()


@cache
def _seen_once(path: Path) -> tuple[str, ...]:
    return seen(path) if path.exists() else ()


def amiss(store: Path, stage: Stage) -> list[str]:
    """What a reader may not see after a kill: anything but rows of the start, or of the end."""
    redo = is_pending(store)
    try:
        found = seen(store)
    except NotAStore as error:
        return [] if not stage.start.exists() else [f"no store any more: {error}"]
    except StoreChanged as error:
        return [] if redo else [f"without a redo log: {error}"]
    except Exception as error:
        return [f"cannot be read: {type(error).__name__}: {error}"]
    before, after = _seen_once(stage.start), _seen_once(stage.after)
    if not len(before) <= len(found) <= len(after):
        return [f"{len(found)} rows, of {len(before)} at the start and {len(after)} at the end"]
    return [
        f"row {row} is neither that of the start nor that of the end, but {each}"
        for row, each in enumerate(found)
        if each not in {*before[row : row + 1], after[row], *([CHANGED] if redo else [])}
    ]


def differences(store: Path, stage: Stage) -> list[str]:
    """Files whose bytes are not those of the run that was left alone."""
    found, wanted = tree_digest(store), _tree_once(stage.after)
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def leftovers(store: Path, stage: Stage) -> list[str]:
    """Files and folders beside the store and in it that should be gone, or should be there."""
    beside = {f"../{name}" for name in names(store.parent) if Path(name).parts[0] != store.name}
    return sorted(beside | names(store) ^ names(stage.after))


@cache
def _tree_once(path: Path) -> dict[str, str]:
    return tree_digest(path)


def names(folder: Path) -> set[str]:
    """All files and folders in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def alive(sessions: Collection[int]) -> Iterator[psutil.Process]:
    """Processes of these sessions that still run."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
