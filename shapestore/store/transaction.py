"""A set of files that appear in a store together, the root last.

New files are written and synced under the work folder, then renamed into place. Where that replaces committed files,
the list of renames is first made durable as a redo log: from then on the change happens, if need be by the next writer.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from shapestore.errors import StoreDamaged
from shapestore.schemas.base import Strict
from shapestore.store.durable import move, require_below, sync_file, sync_folder, sync_folders_up_to, write_synced
from shapestore.store.layout import ROOT, work_folder
from shapestore.store.ledger import read_lines, write_lines
from shapestore.store.steps import reached

REDO = ("redo.copy", "redo")
"""The log is kept twice: while half of the files are in place, nothing but the log says which these are."""
STAGING = "staging"


class Move(Strict):
    """One rename of a change."""

    source: str
    """The new file, relative to the work folder."""
    target: str
    """Its place, relative to the store."""


class Transaction:
    """Files on their way into a store. The writer's lock must be held."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._work = work_folder(store).absolute()  # workers stage files by absolute paths
        self._staging = self._work / STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        self._moves: list[Move] = []

    def stage(self, target: str, data: bytes) -> None:
        """Put new content for the file `target` of the store."""
        staged = self._staging / f"{len(self._moves):06d}"
        write_synced(staged, data)
        self._moves.append(Move(source=str(staged.relative_to(self._work)), target=target))
        reached("file staged")

    def stage_file(self, target: str, staged: Path) -> None:
        """Put an already synced file of the work folder in the place of `target`."""
        self._moves.append(Move(source=str(staged.absolute().relative_to(self._work)), target=target))

    def commit(self, root: bytes, replaces: bool) -> None:
        """Rename everything into place, the root last.

        Parameters
        ----------
        root
            The new root `zarr.json`.
        replaces
            Whether committed files are replaced: the change then goes through the redo log.
        """
        self.stage(ROOT, root)
        sync_folder(self._staging)
        reached("all staged")
        if replaces:
            for name in REDO:
                write_lines(self._work / name, [move.model_dump() for move in self._moves])
                reached("redo log written")
        _apply(self._store, self._work, self._moves)


def is_pending(store: Path) -> bool:
    """Whether a change has begun, and is not finished: by a writer at work, or by one that was killed."""
    return any((work_folder(store) / name).exists() for name in REDO)


def recover(store: Path) -> None:
    """Finish a change whose redo log is complete, and drop what was staged for any other. The lock must be held.

    Raises
    ------
    StoreDamaged
        Both copies of the log are damaged.
    """
    work = work_folder(store)
    if is_pending(store):
        _apply(store, work, _read_log(store, work))
    shutil.rmtree(work / STAGING, ignore_errors=True)
    for name in REDO:
        (work / f"{name}.partial").unlink(missing_ok=True)


def _read_log(store: Path, work: Path) -> list[Move]:
    """One copy of the log that is whole: its last line is the root's."""
    remedy = f"Restore {store} and {work} from a copy: a change of it cannot be finished."
    for name in REDO:
        with suppress(FileNotFoundError, StoreDamaged, ValidationError):
            moves = [Move.model_validate(line) for line in read_lines(work / name, remedy)]
            if moves and moves[-1].target == ROOT:
                return moves
    raise StoreDamaged(f"{work / REDO[-1]}: lost or damaged, and its copy too. {remedy}")


def _apply(store: Path, work: Path, moves: list[Move]) -> None:
    """Rename what is not yet renamed; names below the root are durable before the root's is made.

    A redo log may be anybody's who sent a store: all of it is looked at before any of it is done.
    """
    renames = [(work / each.source, store / each.target) for each in moves]
    for source, target in renames:
        require_below(source, work)
        require_below(target, store)
    for source, target in renames[:-1]:
        if source.exists():
            move(source, target, store)
            reached("file moved")
    sync_folders_up_to({target.parent for _, target in renames}, store)
    reached("files durable")
    new_root, root = renames[-1]
    if new_root.exists():
        move(new_root, root, store)
        reached("root moved")
    sync_file(root)
    sync_folder(store)
    sync_folder(store.parent)
    reached("root durable")
    for name in REDO:
        (work / name).unlink(missing_ok=True)
        reached("redo log removed")
    shutil.rmtree(work / STAGING, ignore_errors=True)
    reached("committed")
