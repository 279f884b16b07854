"""One run of the program, in processes of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any

from tests.faults.kill.armed.sitecustomize import ORDERS, STEPS
from tests.faults.kill.warm import server
from tests.integration.conftest import environment
from tests.warm import PROJECT, WarmProcess

ARMED = Path(__file__).with_name("armed")

LIMIT_SECONDS = 300
"""No run takes as long: one that does hangs."""

DONE, USAGE, QUARANTINED, STOPPED = 0, 2, 4, 5
"""Exit codes of the program."""


Start = Callable[[Sequence[str], Mapping[str, str], Path], "subprocess.Popen[bytes] | WarmProcess"]
"""Starts the program by its arguments, its environment and the file that it prints to, in a session of its own."""


def from_warm(command: Sequence[str], environment: Mapping[str, str], printed: Path) -> WarmProcess:
    """Fork a process that has imported everything."""
    return server().start(command, environment, printed, printed)


def from_cold(command: Sequence[str], environment: Mapping[str, str], printed: Path) -> subprocess.Popen[bytes]:
    """Start the interpreter."""
    with printed.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "shapestore", *command],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Run:
    """One run of the program under orders, in a session of its own.

    Parameters
    ----------
    command
        Arguments of the program.
    home
        Folder of this run alone: for what the hook keeps, and what is printed.
    temporary
        Where the run may put temporary files.
    orders
        What is to be struck, and when; see `armed.sitecustomize`.
    start
        How to start it: `from_warm`, or `from_cold`.
    """

    def __init__(
        self,
        command: Sequence[str],
        home: Path,
        temporary: Path,
        orders: Mapping[str, Any],
        start: Start = from_warm,
    ) -> None:
        self.home = home
        (home / STEPS).mkdir(parents=True)
        temporary.mkdir(exist_ok=True)
        path = os.pathsep.join(filter(None, (str(ARMED), os.environ.get("PYTHONPATH"))))
        extra = {
            ORDERS: json.dumps({"folder": str(home), **orders}),
            "PYTHONPATH": path,
            "TMPDIR": str(temporary),
        }
        self.process = start(command, environment(extra), home / "printed.txt")

    @property
    def begun(self) -> bool:
        """Whether it has taken the lock."""
        return (self.home / STEPS / "locked").exists()

    def finish(self) -> int | None:
        """Wait for its end; returns the exit code, or None where it hung and had to be ended."""
        try:
            return self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, SIGKILL)
            self.process.wait()
            return None

    @property
    def printed(self) -> str:
        """What it said."""
        return (self.home / "printed.txt").read_text()

    @property
    def steps(self) -> dict[str, int]:
        """How often it reached each step, over all processes."""
        return {path.name: path.stat().st_size for path in (self.home / STEPS).iterdir()}
