"""Runs an operation in a process of its own, and kills that at a step, or just before it renames or removes a file."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from shapestore.errors import ShapestoreError
from shapestore.store.steps import EVENT


class Blow(NamedTuple):
    """Where an operation is killed."""

    event: str
    """A step of the package, or an audit event that Python raises before it changes a name, such as `os.rename`."""
    occurrence: int
    """From 1."""


class Killed(Exception):
    """The operation was killed."""


def run(operation: Callable[[], Any], blow: Blow | None) -> Any:
    """What an operation returns.

    Raises
    ------
    Killed
        The blow hit it.
    ShapestoreError
        It was refused.
    """
    if blow is None:
        return operation()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_killed(operation, blow, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        raise Killed
    value = pickle.loads(said)
    if isinstance(value, Exception):
        raise value
    return value


def _be_killed(operation: Callable[[], Any], blow: Blow, pipe: int) -> None:
    """Be the process that is killed, or say how the operation ended."""
    reached = 0

    def strike(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal reached
        if blow.event == (arguments[0] if event == EVENT else event):
            reached += 1
            if reached == blow.occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(strike)
        value = operation()
    except ShapestoreError as error:
        value = error
    except BaseException:
        value = AssertionError(traceback.format_exc())
    data = pickle.dumps(value)
    while data:
        data = data[os.write(pipe, data) :]
    os._exit(0)
