"""One writer at a time: a lock that the system drops with the process that held it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from shapestore.errors import ShapestoreError, StoreLocked, UsageError
from shapestore.store.layout import work_folder

LOCK = "lock"

MOST_ATTEMPTS = 1000
"""How often to try again where other writers come and go; far more often than they can."""

_held: set[TextIOWrapper] = set()
"""Lock files of this process."""


def _leave_locks_to_the_parent() -> None:
    """A forked child shares the parent's locks, and would keep them when the parent dies: close its copies."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


class WriterLock:
    """Holds the right to write to one store, from entering to leaving the `with` block.

    Raises
    ------
    StoreLocked
        Another process holds it: says who, and since when.
    ShapestoreError
        The file system has no `flock`.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._path = work_folder(store) / LOCK
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        for attempt in count():
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = self._path.open("a+", encoding="utf-8")
            except OSError as error:
                if attempt < MOST_ATTEMPTS and isinstance(error, FileNotFoundError | FileExistsError):
                    continue  # another writer finished and removed the folder in between
                folder = self._path.parent
                raise UsageError(f"{folder} cannot be made, so nothing can be written: {error.strerror}.") from None
            self._lock(file)
            if self._is_current(file):
                break
            file.close()  # the one before us removed the file that we waited for
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": _now()}, file)
        file.flush()
        self._file = file
        _held.add(file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the lock; where nothing unfinished lies beside it, its folder goes too."""
        assert self._file is not None, "left before entered"  # noqa: S101
        if [entry.name for entry in self._path.parent.iterdir()] == [LOCK]:
            self._path.unlink()
            with suppress(OSError):  # the next writer has already made its lock
                self._path.parent.rmdir()
        _held.discard(self._file)
        self._file.close()

    def _lock(self, file: TextIOWrapper) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
            file.close()
            who = _describe(holder)
            raise StoreLocked(f"{self._store} is being written to by {who}. Wait until it ends.") from None
        except OSError as error:
            file.close()
            raise ShapestoreError(
                f"{self._path.parent} is on a file system without flock ({error.strerror}), so two writers could not "
                "be kept apart. Write to a local disk and copy the finished store."
            ) from None

    def _is_current(self, file: TextIOWrapper) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _describe(holder: str) -> str:
    try:
        who = json.loads(holder)
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
