"""A local cluster is for this machine alone: every socket of every process of ours listens on the loopback device."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from demo.raw import write_shapenet
from tests.integration.conftest import environment

SECONDS = 240

pytestmark = pytest.mark.slow


def listening(process: psutil.Process) -> set[tuple[int, str, int]]:
    """(process, address, port) of every socket that a process and its children listen on, for TCP or UDP."""
    found = set()
    for each in [process, *process.children(recursive=True)]:
        try:
            for socket in each.net_connections(kind="inet"):
                if socket.status == psutil.CONN_LISTEN or (not socket.raddr and socket.type == 2):
                    found.add((each.pid, socket.laddr.ip, socket.laddr.port))
        except psutil.NoSuchProcess:
            continue
    return found


def watched(command: Iterable[object]) -> set[tuple[int, str, int]]:
    """Every socket that a command ever listened on, as often as one can look."""
    words = [sys.executable, "-m", "shapestore", *map(str, command)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        found: set[tuple[int, str, int]] = set()
        process, started = psutil.Process(running.pid), time.monotonic()
        while running.poll() is None:
            assert time.monotonic() - started < SECONDS
            found |= listening(process)
            time.sleep(0.02)
        assert running.stderr is not None
        assert running.returncode == 0, running.stderr.read()
    return found


def test_every_socket_listens_on_the_loopback_device(tmp_path: Path) -> None:
    raw = write_shapenet(tmp_path / "raw", models_per_class=6)
    recipe = ("--recipe", "points", "--set", "points.count=256", "--set", "points.fps_order=64")
    sockets = watched(("ingest", "shapenet", raw, tmp_path / "s.zarr", *recipe, "--workers", 2))
    assert len({pid for pid, _, _ in sockets}) >= 3, "the scheduler and two workers"
    assert all(ipaddress.ip_address(address).is_loopback for _, address, _ in sockets), sockets


def test_the_watch_sees_a_socket_that_listens_everywhere() -> None:
    import socket

    with socket.socket() as opened:
        opened.bind(("0.0.0.0", 0))  # noqa: S104
        opened.listen()
        port = opened.getsockname()[1]
        assert any(each[1:] == ("0.0.0.0", port) for each in listening(psutil.Process()))  # noqa: S104
