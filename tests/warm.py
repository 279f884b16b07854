"""Runs of the program that are forked from a process which has loaded what they need, and so begin at once.

Each is what `python -m shapestore` would be: a process of its own, in a session of its own, with its own folder,
environment and output. `python -m tests.warm` is the process that is forked.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, Self

PROJECT = Path(__file__).resolve().parents[1]

LIBRARIES = (
    "distributed",
    "markdown_it",
    "typer.rich_utils",
    "shapestore.cli.main",
    "shapestore.preprocess.cluster",
    "shapestore.preprocess.formats.mesh_file",
    "shapestore.preprocess.ingest",
    "shapestore.preprocess.rebuild",
    "shapestore.quality.truth_cloud",
    "shapestore.quality.truth_labels",
    "shapestore.quality.validate",
    "shapestore.quality.why",
)
"""What commands spend most time to load."""

SECONDS = 300
"""Whatever takes longer than this is killed."""


class WarmProcess:
    """A run: what of `subprocess.Popen` is needed of it."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._warm = warm
        self._ended = os.pidfd_open(pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises
        ------
        TimeoutExpired
            It still runs.
        """
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("shapestore", timeout or 0.0)
            os.close(self._ended)
            self.returncode = self._warm.ask(reap=self.pid)
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None


class Warm:
    """The process that has loaded everything, and the way to it; threads may share it.

    Parameters
    ----------
    libraries
        Modules that it imports.
    prepare, begin
        Functions, as `module:name`: one that it calls after that, and one that each fork of it calls first.
    """

    def __init__(self, libraries: Iterable[str] = LIBRARIES, prepare: str = "", begin: str = "") -> None:
        from shapestore.preprocess.cluster import PINNED

        self._asking = Lock()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                __name__,
                json.dumps({"libraries": [*libraries], "prepare": prepare, "begin": begin}),
            ],
            cwd=PROJECT,
            env=os.environ | PINNED,  # threads of libraries would not be there after a fork
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        arguments: Sequence[object],
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        *,
        cwd: Path = PROJECT,
        cores: Iterable[int] | None = None,
        script: str | None = None,
    ) -> WarmProcess:
        """Run the program, or a script; what it prints goes into two files, or one. `cores` are all that it may use."""
        return WarmProcess(
            self,
            self.ask(
                arguments=[str(argument) for argument in arguments],
                environment=dict(environment),
                streams=[str(out), str(err)],
                cwd=str(cwd),
                cores=sorted(cores or os.sched_getaffinity(0)),
                script=script,
            ),
        )

    def run(
        self, *arguments: object, environment: Mapping[str, str], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """`start` with these options, and wait for the end."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            process = self.start(arguments, environment, out, err, **options)
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            return subprocess.CompletedProcess([*map(str, arguments)], code, out.read_text(), err.read_text())

    def ask(self, **request: object) -> int:
        """Send a request; returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _call(name: str) -> None:
    if name:
        module, function = name.split(":")
        getattr(import_module(module), function)()


def _become(begin: str, request: Mapping[str, Any]) -> NoReturn:
    """Go on as the program, or the script."""
    os.setsid()
    os.chdir(request["cwd"])
    os.sched_setaffinity(0, request["cores"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [os.open(os.devnull, os.O_RDONLY), *(os.open(path, flags, 0o600) for path in request["streams"])]
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    _call(begin)
    sys.argv[1:] = request["arguments"]
    sys.path[0] = request["cwd"]  # as Python has it for a module, and for a script that lies there
    if request["script"] is None:
        runpy.run_module("shapestore", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(request["script"], run_name="__main__")
    sys.exit()


def main() -> None:
    """Fork for every request of a run, and tell of the end of what was forked."""
    settings = json.loads(sys.argv[1])
    for name in settings["libraries"]:
        import_module(name)
    _call(settings["prepare"])
    gc.freeze()  # what every fork shares is looked through by none
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        elif (answer := os.fork()) == 0:
            _become(settings["begin"], request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
