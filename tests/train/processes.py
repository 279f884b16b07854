"""Runs in processes of their own, to be stopped and killed."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from shapestore.errors import ShapestoreError
from tests.train.toy import ToyConfig, run_toy

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])  # torch is imported once


def start(
    store: Path, folder: Path, config: ToyConfig, environment: dict[str, str] | None = None, **options: Any
) -> ForkServerProcess:
    """Train in another process, going on with what is there; what it says lies beside the folder."""
    process = CONTEXT.Process(target=_run, args=(store, folder, config, environment or {}, options))
    process.start()
    return process


def start_ranks(
    count: int, store: Path, folder: Path, config: ToyConfig, each: Sequence[dict[str, Any]] = ({}, {}), **options: Any
) -> list[ForkServerProcess]:
    """The processes that torchrun would start, in the environment that it gives; `each` has options of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(
            store,
            folder,
            **{"config": config, **options, **each[rank]},
            environment={"RANK": str(rank), "LOCAL_RANK": str(rank), **shared},
        )
        for rank in range(count)
    ]


def kill(process: ForkServerProcess) -> None:
    """SIGKILL a process, and return when it is gone. Joining it would wait for its loader's workers, too."""
    process.kill()
    with suppress(ProcessLookupError):
        while process.pid is not None:
            os.kill(process.pid, 0)
            time.sleep(0.002)


def said(folder: Path) -> str:
    """What the last process of a run said."""
    return _stderr_of(folder).read_text()


def wait_for_step(process: ForkServerProcess, folder: Path, step: int) -> None:
    """Return when the log of a run tells of a step."""
    log = folder / "log.jsonl"
    while not (log.exists() and f'"step": {step},' in log.read_text()):
        assert process.exitcode is None, said(folder)
        time.sleep(0.002)


def _run(store: Path, folder: Path, config: ToyConfig, environment: dict[str, str], options: dict[str, Any]) -> None:
    os.setsid()  # a process group of its own, as a terminal or a cluster gives it
    os.environ.update(environment)
    if environment.get("RANK", "0") == "0":
        sys.stderr = _stderr_of(folder).open("w", buffering=1)
    try:
        run_toy(store, folder, config, **{"resume": "auto", **options})
    except ShapestoreError as stopped:
        sys.stderr.write(str(stopped))
        sys.exit(stopped.exit_code)


def _stderr_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.stderr")
