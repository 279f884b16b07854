"""A set of files that appear in a store together, the root last.

New files are written and synced under the work folder, then renamed into place. Where that replaces committed files,
the list of renames is first made durable as a redo log: from then on the change happens, if need be by the next writer.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from shapestore.store.durable import move, require_below, sync_file, sync_folder, sync_folders_up_to, write_synced
from shapestore.store.layout import ROOT, work_folder
from shapestore.store.ledger import read_lines, write_lines
from shapestore.store.steps import reached

REDO = "redo"
STAGING = "staging"


class Transaction:
    """Files on their way into a store. The writer's lock must be held."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._work = work_folder(store).absolute()  # workers stage files by absolute paths
        self._staging = self._work / STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        self._moves: list[tuple[str, str]] = []

    def stage(self, target: str, data: bytes) -> None:
        """Put new content for the file `target` of the store."""
        staged = self._staging / f"{len(self._moves):06d}"
        write_synced(staged, data)
        self._moves.append((str(staged.relative_to(self._work)), target))
        reached("file staged")

    def stage_file(self, target: str, staged: Path) -> None:
        """Put an already synced file of the work folder in the place of `target`."""
        self._moves.append((str(staged.absolute().relative_to(self._work)), target))

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
            write_lines(self._work / REDO, [{"from": source, "to": target} for source, target in self._moves])
            reached("redo log written")
        _apply(self._store, self._work, self._moves)


def recover(store: Path) -> None:
    """Finish a change whose redo log is complete, and drop what was staged for any other. The lock must be held."""
    work = work_folder(store)
    if (work / REDO).exists():
        remedy = f"Restore {store} from a copy: a change of it cannot be finished."
        _apply(store, work, [(line["from"], line["to"]) for line in read_lines(work / REDO, remedy)])
    shutil.rmtree(work / STAGING, ignore_errors=True)
    (work / f"{REDO}.partial").unlink(missing_ok=True)


def _apply(store: Path, work: Path, moves: list[tuple[str, str]]) -> None:
    """Rename what is not yet renamed; names below the root are durable before the root's is made.

    A redo log may be anybody's who sent a store: all of it is looked at before any of it is done.
    """
    targets = [store / target for _, target in moves]
    for (source, _), target in zip(moves, targets, strict=True):
        require_below(work / source, work)
        require_below(target, store)
    for (source, _), target in zip(moves[:-1], targets[:-1], strict=True):
        if (work / source).exists():
            move(work / source, target, store)
            reached("file moved")
    sync_folders_up_to({target.parent for target in targets}, store)
    reached("files durable")
    if (work / moves[-1][0]).exists():
        move(work / moves[-1][0], targets[-1], store)
        reached("root moved")
    sync_file(targets[-1])
    sync_folder(store)
    sync_folder(store.parent)
    reached("root durable")
    (work / REDO).unlink(missing_ok=True)
    reached("redo log removed")
    shutil.rmtree(work / STAGING, ignore_errors=True)
    reached("committed")
