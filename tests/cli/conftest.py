"""The program, run over and over by a process that has loaded it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping

import pytest

from tests.integration.conftest import Program, environment
from tests.warm import Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that has loaded what most commands need."""
    with Warm() as process:
        yield process


@pytest.fixture
def program(warm: Warm) -> Program:
    """Runs the command line in a process of its own."""

    def run(
        *arguments: object, env: Mapping[str, str] | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        done = warm.run(*arguments, environment=environment(env))
        assert done.returncode == code, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
