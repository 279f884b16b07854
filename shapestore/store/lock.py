"""One writer at a time: a lock that the system drops with the process that held it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shapestore.errors import ShapestoreError, StorageFailed, StoreLocked, UsageError, is_systems_fault
from shapestore.store.layout import work_folder
from shapestore.store.steps import reached

LOCK = "lock"

MOST_ATTEMPTS = 1000
"""How often to try again where other writers come and go; far more often than they can."""

MOST_SECONDS_UNNAMED = 0.5
"""How long to wait for a holder that has not said who it is, which it does right after it took the lock."""

POLL_SECONDS = 0.005

_held: set[TextIOWrapper] = set()
"""Lock files of this process."""


def _leave_locks_to_the_parent() -> None:
    """A forked child shares the parent's locks, and would keep them when the parent dies: close its copies."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


class WriterLock:
    """Holds the right to write to one store, from entering to leaving the `with` block.

    Parameters
    ----------
    store
        What is written to.
    folder
        Where the lock's file is, gone with the lock unless something else is in it; None: the store's work folder.

    Raises
    ------
    StoreLocked
        Another process holds it: says who, and since when.
    ShapestoreError
        The file system has no `flock`.
    StorageFailed
        On leaving: the system could not write what was to be written inside the block.
    """

    def __init__(self, store: Path, folder: Path | None = None) -> None:
        self._store = store
        self._path = (folder or work_folder(store)) / LOCK
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        self._refuse_links()
        deadline = time.monotonic() + MOST_SECONDS_UNNAMED
        for attempt in count():
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = self._path.open("a+", encoding="utf-8")
            except OSError as error:
                if attempt < MOST_ATTEMPTS and isinstance(error, FileNotFoundError | FileExistsError):
                    continue  # another writer finished and removed the folder in between
                if is_systems_fault(error):
                    raise self._storage_failed(error) from None
                folder = self._path.parent
                raise UsageError(f"{folder} cannot be made, so nothing can be written: {error.strerror}.") from None
            if not self._lock(file):
                self._refuse(file, unnamed=time.monotonic() > deadline)
                time.sleep(POLL_SECONDS)
                continue
            if self._is_current(file):
                break
            file.close()  # the one before us removed the file that we waited for
        try:
            file.truncate(0)
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": _now()}, file)
            file.flush()
        except OSError as error:
            self._let_go(file)
            raise self._storage_failed(error) from None
        self._file = file
        _held.add(file)
        reached("locked")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the lock; where nothing unfinished lies beside it, its folder goes too.

        Raises
        ------
        StorageFailed
            The system could not write what was to be written inside the block.
        """
        assert self._file is not None, "left before entered"  # noqa: S101
        self._let_go(self._file)
        if isinstance(error, OSError):
            raise self._storage_failed(error) from error

    def _storage_failed(self, error: OSError) -> StorageFailed:
        where = f"{error.filename}: " if error.filename else ""
        return StorageFailed(
            f"{self._store} could not be written: {where}{error.strerror or error}. It is as its last commit left it. "
            "When the fault is mended (see `df` and the system's log), run the same command again: it goes on."
        )

    def _let_go(self, file: TextIOWrapper) -> None:
        if [entry.name for entry in self._path.parent.iterdir()] == [LOCK]:
            self._path.unlink()
            reached("lock removed")
            with suppress(OSError):  # the next writer has already made its lock
                self._path.parent.rmdir()
        _held.discard(file)
        with suppress(OSError):  # what it says of its holder could not be written
            file.close()

    def _lock(self, file: TextIOWrapper) -> bool:
        """Whether the lock is ours now; False where somebody else holds it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            file.close()
            raise ShapestoreError(
                f"{self._path.parent} is on a file system without flock ({error.strerror}), so two writers could not "
                "be kept apart. Write to a local disk and copy the finished store."
            ) from None
        return True

    def _refuse(self, file: TextIOWrapper, unnamed: bool) -> None:
        """Close the file and say who holds its lock; where that is not known, only if `unnamed`."""
        file.seek(0)
        holder = _named(file.read())
        file.close()
        if holder is not None or unnamed:
            who = holder or "another process"
            raise StoreLocked(f"{self._store} is being written to by {who}. Wait until it ends.")

    def _refuse_links(self) -> None:
        """Writing through a link that came along with a store would change a file somewhere else."""
        folder = self._path.parent
        held = (Path(at) / name for at, folders, files in os.walk(folder) for name in (*folders, *files))
        link = next((path for path in (folder, *held) if path.is_symlink()), None)
        if link is not None:
            raise UsageError(
                f"{link} is a link, which no writer makes. Delete {folder} if it came along with the store."
            )

    def _is_current(self, file: TextIOWrapper) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _named(content: str) -> str | None:
    """Who holds the lock, by the content of its file; None where that is not its holder's.

    A holder writes after it has locked. What it finds there may be of one that was killed.
    """
    try:
        who: dict[str, Any] = json.loads(content)
        if who["host"] == socket.gethostname():
            os.kill(who["pid"], 0)
    except (ValueError, KeyError, TypeError, OverflowError, ProcessLookupError):
        return None
    except PermissionError:
        pass  # it lives, and is another user's
    return f"process {who['pid']} on {who['host']} since {who['since']}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
