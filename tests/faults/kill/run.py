"""One run of the program, in processes of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any

from tests.faults.kill.armed.sitecustomize import ORDERS, STEPS
from tests.integration.conftest import environment

PROJECT = Path(__file__).resolve().parents[3]
ARMED = Path(__file__).with_name("armed")

LIMIT_SECONDS = 300
"""No run takes as long: one that does hangs."""

DONE, USAGE, QUARANTINED, STOPPED = 0, 2, 4, 5
"""Exit codes of the program."""


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
    """

    def __init__(self, command: Sequence[str], home: Path, temporary: Path, orders: Mapping[str, Any]) -> None:
        self.home = home
        (home / STEPS).mkdir(parents=True)
        temporary.mkdir(exist_ok=True)
        path = os.pathsep.join(filter(None, (str(ARMED), os.environ.get("PYTHONPATH"))))
        extra = {
            ORDERS: json.dumps({"folder": str(home), **orders}),
            "PYTHONPATH": path,
            "TMPDIR": str(temporary),
        }
        with (home / "printed.txt").open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "shapestore", *command],
                cwd=PROJECT,
                env=environment(extra),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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
