"""Putting back files of a commit, to the byte: nothing is changed that a reader of it could see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from shapestore.store.durable import move, sync_folders_up_to, write_synced
from shapestore.store.layout import work_folder
from shapestore.store.steps import reached
from shapestore.store.transaction import STAGING


def restore(store: Path, files: Mapping[str, bytes]) -> None:
    """Put each file in its place in the store, whatever lies there. The writer's lock must be held.

    A file appears whole or not at all; if this is killed, some of them are there.

    Parameters
    ----------
    store
        The store.
    files
        Path in the store to content. It must be what the root promises, as no commit is made.
    """
    if not files:
        return
    staging = work_folder(store) / STAGING
    staging.mkdir(exist_ok=True)
    staged = staging / f"restored-{os.getpid()}"
    for target, data in files.items():
        write_synced(staged, data)
        reached("restored file written")
        clear_way(store, target)
        move(staged, store / target, store)
        reached("file restored")
    sync_folders_up_to({(store / target).parent for target in files}, store)
    reached("all restored")


def clear_way(store: Path, target: str) -> None:
    """Remove what would stop a file of the store from being put in place: a folder there, or a file instead of one."""
    for parent in reversed(Path(target).parents[:-1]):
        if os.path.lexists(store / parent) and not (store / parent).is_dir():
            (store / parent).unlink()
    if (store / target).is_dir() and not (store / target).is_symlink():
        shutil.rmtree(store / target)
