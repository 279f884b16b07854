"""One writer at a time, whoever comes, goes or dies."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shapestore.errors import ShapestoreError, StoreLocked, UsageError
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

HOLD = """
import sys, time
from pathlib import Path
from shapestore.store.lock import WriterLock
with WriterLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(store: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(store)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def child(action: Callable[[], None]) -> int:
    """Run `action` in a forked process; returns its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_nothing_is_left_when_nothing_is_unfinished(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    for _ in range(3):
        with WriterLock(store):
            assert work_folder(store).is_dir()
        assert list(tmp_path.iterdir()) == []


def test_unfinished_work_stays(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with WriterLock(store):
        (work_folder(store) / "plan").write_text("work")
    with WriterLock(store):
        assert (work_folder(store) / "plan").read_text() == "work"
        (work_folder(store) / "plan").unlink()
    assert not work_folder(store).exists()


def test_an_error_lets_go_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), WriterLock(tmp_path / "s.zarr"):
        raise ZeroDivisionError
    with WriterLock(tmp_path / "s.zarr"):
        pass


def test_a_second_writer_is_told_who_writes_and_since_when(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with holder(store) as first:
        text = rf"process {first.pid} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\dT[\d:]+\+00:00"
        with pytest.raises(StoreLocked, match=text), WriterLock(store):
            pass
        with WriterLock(tmp_path / "other.zarr"):
            pass


def test_a_second_lock_in_one_process_is_refused(tmp_path: Path) -> None:
    with WriterLock(tmp_path / "s.zarr"):
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} "), WriterLock(tmp_path / "s.zarr"):
            pass
        with pytest.raises(StoreLocked), WriterLock(tmp_path / "s.zarr"):
            pass


def test_a_folder_that_cannot_be_made_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "s.zarr.ingest").write_text("a file in the way")
    with pytest.raises(UsageError, match="cannot be made"), WriterLock(tmp_path / "s.zarr"):
        pass


def test_a_dead_writer_keeps_no_lock(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with holder(store) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        with WriterLock(store):
            assert str(first.pid) not in (work_folder(store) / "lock").read_text()
    assert not work_folder(store).exists()


def test_a_dead_writer_keeps_no_lock_through_a_child_that_lives_on(tmp_path: Path) -> None:
    """Worker processes made by fork must not inherit the right to write."""
    store, ready = tmp_path / "s.zarr", tmp_path / "ready"

    def hold_and_fork() -> None:
        with WriterLock(store):
            grandchild = child(lambda: time.sleep(30))
            ready.with_suffix(".partial").write_text(str(grandchild))
            ready.with_suffix(".partial").replace(ready)
            time.sleep(30)

    first = child(hold_and_fork)
    while not ready.exists():
        time.sleep(0.01)
    grandchild = int(ready.read_text())
    os.kill(first, signal.SIGKILL)
    exit_code(first)
    try:
        with WriterLock(store):
            pass
    finally:
        os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", "\0"])
def test_a_holder_that_cannot_be_read_is_still_a_holder(tmp_path: Path, text: str) -> None:
    store = tmp_path / "s.zarr"
    with WriterLock(store):
        (work_folder(store) / "lock").write_text(text)
        with pytest.raises(StoreLocked, match="another process"), WriterLock(store):
            pass


def test_a_file_system_without_flock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ShapestoreError, match=r"without flock \(No locks available\)"), WriterLock(tmp_path / "s.zarr"):
        pass


def test_a_folder_that_vanishes_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer before removes it between `mkdir` finding it there and looking whether it is a folder."""
    mkdir, vanished = os.mkdir, iter([True])

    def racing(path: str, *args: int) -> None:
        if next(vanished, False):
            raise FileExistsError(errno.EEXIST, "File exists", path)
        mkdir(path, *args)

    monkeypatch.setattr(os, "mkdir", racing)
    with WriterLock(tmp_path / "s.zarr"):
        assert work_folder(tmp_path / "s.zarr").is_dir()


def test_of_twenty_racing_processes_one_writes_at_a_time(tmp_path: Path) -> None:
    """Each reads a number and writes the next one: two writers at once would lose a turn."""
    store, counter = tmp_path / "s.zarr", tmp_path / "counter"
    counter.write_text("0")

    def take_turns() -> None:
        done = 0
        while done < 5:
            try:
                with WriterLock(store):
                    number = int(counter.read_text())
                    time.sleep(0)
                    counter.write_text(str(number + 1))
                    done += 1
            except StoreLocked:
                time.sleep(0.001)

    racers = [child(take_turns) for _ in range(20)]
    assert [exit_code(pid) for pid in racers] == [0] * 20
    assert counter.read_text() == "100"
    assert not work_folder(store).exists()
