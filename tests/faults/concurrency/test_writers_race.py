"""Two writers that come at the same moment: one writes, the other is told who does, and since when."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest

from shapestore.errors import StoreLocked
from shapestore.store.layout import work_folder
from shapestore.store.lock import LOCK, WriterLock

PATIENCE = 60.0
"""Seconds after which a process counts as blocked."""

RACES = 100

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["shapestore.store.lock"])

HELD = re.compile(r" is being written to by process (?P<pid>\d+) on (?P<host>\S+) since (?P<since>\S+)\. Wait")

HOLD = """
import sys, time
from pathlib import Path
from shapestore.store.lock import WriterLock
with WriterLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def running(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> Iterator[list[BaseProcess]]:
    """One process for each tuple of arguments; none outlives the block."""
    processes: list[BaseProcess] = [CONTEXT.Process(target=target, args=each) for each in arguments]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def race(store: Path, gate: Barrier, outcomes: Queue[tuple[str, int, str]]) -> None:
    """Try for the lock whenever the gate opens; keep it until the gate opens again."""
    for _ in range(RACES):
        gate.wait(PATIENCE)
        try:
            with WriterLock(store):
                outcomes.put(("won", os.getpid(), (work_folder(store) / LOCK).read_text()))
                gate.wait(PATIENCE)
        except StoreLocked as refusal:
            outcomes.put(("refused", os.getpid(), str(refusal)))
            gate.wait(PATIENCE)
        gate.wait(PATIENCE)


def leave_as_killed(store: Path) -> int:
    """Take the lock in a process that is killed; returns its number."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    return holder.pid


@pytest.mark.parametrize("killed_before", [False, True], ids=["clean", "after-a-killed-writer"])
def test_of_two_writers_one_gets_the_lock_and_the_other_its_name(tmp_path: Path, killed_before: bool) -> None:
    """Whatever lies in the lock's file of a writer that was killed, it is not told as who writes."""
    store = tmp_path / "s.zarr"
    gate, outcomes = CONTEXT.Barrier(3), CONTEXT.Queue()
    left = ""
    if killed_before:
        dead = leave_as_killed(store)
        left = (work_folder(store) / LOCK).read_text()
        assert json.loads(left)["pid"] == dead
    with running(race, [(store, gate, outcomes)] * 2) as racers:
        for number in range(RACES):
            if killed_before:
                work_folder(store).mkdir(exist_ok=True)
                (work_folder(store) / LOCK).write_text(left)
            gate.wait(PATIENCE)
            found = {how: (pid, text) for how, pid, text in (outcomes.get(timeout=PATIENCE) for _ in racers)}
            gate.wait(PATIENCE)
            assert found.keys() == {"won", "refused"}, f"race {number}: {found}"
            winner, content = found["won"]
            told = HELD.search(found["refused"][1])
            assert told is not None, f"race {number}: {found['refused'][1]}"
            assert {"pid": int(told["pid"]), "host": told["host"], "since": told["since"]} == json.loads(content)
            assert int(told["pid"]) == winner
            gate.wait(PATIENCE)
    assert not work_folder(store).exists()


@contextmanager
def holder_that_says_so_late(store: Path, before: str, after: str) -> Iterator[None]:
    """Hold the lock with one content of its file, and put another one there a moment later."""
    work_folder(store).mkdir()
    with (work_folder(store) / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(before)
        file.flush()

        def say() -> None:
            time.sleep(0.05)
            file.truncate(0)
            file.seek(0)
            file.write(after)
            file.flush()

        speaker = Thread(target=say)
        speaker.start()
        yield
        speaker.join()


def content(pid: int, host: str = "") -> str:
    return json.dumps({"host": host or socket.gethostname(), "pid": pid, "since": "2026-01-01T00:00:00+00:00"})


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The number of a process that has been killed."""
    return leave_as_killed(tmp_path_factory.mktemp("dead") / "s.zarr")


@pytest.mark.parametrize("before", ["nothing", "half", "dead"])
def test_a_holder_that_has_not_said_yet_who_it_is_is_waited_for(tmp_path: Path, dead: int, before: str) -> None:
    store, own = tmp_path / "s.zarr", content(os.getpid())
    texts = {"nothing": "", "half": own[:20], "dead": content(dead)}
    with (
        holder_that_says_so_late(store, texts[before], own),
        pytest.raises(StoreLocked, match=f"by process {os.getpid()} on "),
        WriterLock(store),
    ):
        pass


def test_the_word_of_a_dead_writer_is_not_believed_at_all(tmp_path: Path, dead: int) -> None:
    """Somebody holds the lock, but not the one that the file names."""
    with (
        holder_that_says_so_late(tmp_path / "s.zarr", content(dead), content(dead)),
        pytest.raises(StoreLocked, match="by another process"),
        WriterLock(tmp_path / "s.zarr"),
    ):
        pass


def test_a_holder_on_another_host_is_believed(tmp_path: Path, dead: int) -> None:
    """Whether it lives cannot be seen from here."""
    with (
        holder_that_says_so_late(tmp_path / "s.zarr", *[content(dead, "node-7")] * 2),
        pytest.raises(StoreLocked, match=f"by process {dead} on node-7 since 2026"),
        WriterLock(tmp_path / "s.zarr"),
    ):
        pass


def test_the_lock_of_a_killed_writer_is_taken_over_at_once(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    for _ in range(3):
        dead = leave_as_killed(store)
        with patch("shapestore.store.lock.time.sleep", side_effect=AssertionError("it waited")), WriterLock(store):
            assert json.loads((work_folder(store) / LOCK).read_text())["pid"] == os.getpid() != dead


def come_and_go(store: Path, turns: int, counts: Queue[int]) -> None:
    """Take the lock many times; while it is held, the folder and what lies in it are the holder's alone."""
    own = work_folder(store) / "own"
    done = 0
    while done < turns:
        try:
            with WriterLock(store):
                own.touch(exist_ok=False)
                assert json.loads((work_folder(store) / LOCK).read_text())["pid"] == os.getpid()
                own.unlink()
                done += 1
        except StoreLocked as refusal:
            if not HELD.search(str(refusal)):
                raise AssertionError from refusal
    counts.put(done)


def test_a_writer_that_ends_takes_nothing_from_one_that_begins(tmp_path: Path) -> None:
    """The one that ends removes the folder that the other one makes."""
    counts = CONTEXT.Queue()
    with running(come_and_go, [(tmp_path / "s.zarr", RACES, counts)] * 3) as writers:
        assert [counts.get(timeout=PATIENCE) for _ in writers] == [RACES] * 3
    assert not work_folder(tmp_path / "s.zarr").exists()
