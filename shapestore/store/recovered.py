"""`open_recovered`: a store that is about to be changed."""

from __future__ import annotations

from pathlib import Path

from shapestore.store.lock import WriterLock
from shapestore.store.reader import Store, open_store
from shapestore.store.transaction import is_pending, recover


def open_recovered(path: Path) -> Store:
    """Open a store after finishing the change that a killed writer had begun: until then it is of no commit.

    Raises
    ------
    NotAStore, StoreDamaged
        As `open_store`.
    StoreLocked
        The writer is still at work.
    """
    if is_pending(path):
        with WriterLock(path):
            recover(path)
    return open_store(path)
