"""Files that survive a power cut: content is on disk before its name is, and the name before it is counted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shapestore.errors import StoreDamaged


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


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that is there under its name when the block has ended well, and never in part.

    Parameters
    ----------
    path
        Where nothing is yet; what an earlier attempt left beside it is removed.
    """
    building = path.with_name(f".{path.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        sync_folder(building)
        building.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def move(source: Path, target: Path, top: Path) -> None:
    """Rename within one file system, making the target's folder; `sync_folder` makes the new name durable.

    Raises
    ------
    StoreDamaged
        The target does not lie below `top`: its name leads out, or a folder on the way to it is a link that does.
    """
    require_below(target, top)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def require_below(path: Path, top: Path) -> None:
    """Raise `StoreDamaged` where the name `path` is not one below `top`, links in the folders above it resolved."""
    real = Path(os.path.realpath(path.parent)) / path.name
    if path.name in ("", "..") or Path(os.path.realpath(top)) not in real.parents:
        raise StoreDamaged(
            f"{path} leads out of {top}, by its name or by a link. No writer makes such a store: take it from where it "
            "was made, without links between its folders, and delete what lies beside it."
        )


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
