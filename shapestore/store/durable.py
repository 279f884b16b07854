"""Files that survive a power cut: content is on disk before its name is, and the name before it is counted."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Wait until the file's content is on disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Wait until the folder's names are on disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until its content, not yet its name, is on disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def move(source: Path, target: Path) -> None:
    """Rename within one file system, making the target's folder; `sync_folder` makes the new name durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def sync_folders_up_to(folders: set[Path], top: Path) -> None:
    """Make names durable in all `folders` and in every folder between them and `top`."""
    chain = {
        parent for folder in folders for parent in (folder, *folder.parents) if parent == top or top in parent.parents
    }
    for folder in sorted(chain, key=lambda path: len(path.parts), reverse=True):
        sync_folder(folder)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
