"""With this folder on PYTHONPATH every process of a run, spawned workers too, counts its steps and may die at one.

Python imports `sitecustomize` when it starts. What to do is said by the variable KILL_ORDERS, a JSON object:

folder
    Of this run: in `STEPS` each step has a file that is as long as it was reached often, over all processes;
    `COORDINATOR` holds the process id of the coordinator, `STRUCK` that of the process which dealt the blow.
rows_per_shard
    Most rows of a row group of a new store.
step, occurrence, victim, signal
    Send the signal to this process `itself`, to the `coordinator`, or to its whole process `group` at this occurrence
    of this step; without a step to nobody.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ORDERS = "KILL_ORDERS"
STEPS, COORDINATOR, STRUCK = "steps", "coordinator", "struck"


def run_hidden() -> None:
    """Run the `sitecustomize` that this one hides, if there is one."""
    spec = PathFinder.find_spec("sitecustomize", [each for each in sys.path if Path(each).resolve() != HERE])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


class Hook:
    """The audit hook of one process."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._orders = orders
        self._folder = Path(orders["folder"])

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count a step, and strike if it is the one."""
        if event != "shapestore.step":
            return
        (step,) = arguments
        if step == "locked":
            self._begin()
        occurrence = self._count(step)
        if (step, occurrence) == (self._orders.get("step"), self._orders.get("occurrence")):
            self._strike()

    def _begin(self) -> None:
        """The process that takes the lock coordinates; every sealed row group is to be a commit of its own."""
        sys.modules["shapestore.schemas.store_schema"].MAX_ROWS_PER_SHARD = self._orders["rows_per_shard"]  # type: ignore[attr-defined]
        if (job := sys.modules.get("shapestore.preprocess.job")) is not None:
            job.COMMIT_SECONDS = 0.0  # type: ignore[attr-defined]
        (self._folder / COORDINATOR).write_text(str(os.getpid()))

    def _count(self, step: str) -> int:
        """How often the step was reached by now, over all processes: appends do not overlap."""
        file = os.open(self._folder / STEPS / step, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, b".")
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)

    def _strike(self) -> None:
        coordinator = int((self._folder / COORDINATOR).read_text())
        (self._folder / STRUCK).write_text(str(os.getpid()))
        number = self._orders["signal"]
        if self._orders["victim"] == "group":
            os.killpg(coordinator, number)
        else:
            os.kill(coordinator if self._orders["victim"] == "coordinator" else os.getpid(), number)


if __name__ == "sitecustomize":
    run_hidden()
    if ORDERS in os.environ:
        sys.addaudithook(Hook(json.loads(os.environ[ORDERS])))
