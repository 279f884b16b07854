"""Runs commands of the program in one process of limited memory, and says how each ended.

A new process for each would take a second; a limit for all of them is the stricter test.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MEMORY = 2**30
"""Bytes that the program may take beside what it holds after starting."""


@dataclass(frozen=True)
class Ended:
    """How one command ended."""

    code: int
    out: str
    err: str
    seconds: float
    """Of processor time."""


def run_commands(commands: Sequence[Sequence[str]], timeout: float = 300) -> list[Ended]:
    """Run commands one after another in a process that may take no more than `MEMORY`."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, (
        f"the process ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return [Ended(**each) for each in json.loads(done.stdout)]


def _held() -> int:
    """Bytes of data that this process has now."""
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))


def _run(arguments: Sequence[str]) -> dict[str, object]:
    from shapestore.cli.main import main

    sys.argv = ["shapestore", *arguments]
    out, err = io.StringIO(), io.StringIO()
    started, code = time.process_time(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "seconds": time.process_time() - started}


def _main() -> None:
    commands = json.load(sys.stdin)
    import matplotlib.figure  # noqa: F401, what the program loads is no memory that a store makes it take
    import typer.main

    import shapestore.quality.report
    import shapestore.quality.validate  # noqa: F401

    typer.main.get_command = cache(typer.main.get_command)  # half the time of a short command
    limit = _held() + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    json.dump([_run(arguments) for arguments in commands], sys.stdout)


if __name__ == "__main__":
    _main()
