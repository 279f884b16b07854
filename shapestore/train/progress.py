"""How far a run is, on standard error: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30


class Reporter:
    """Shows steps done, the time left and the newest numbers, within a `with` block."""

    def __init__(self, start: int, steps: int) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._start = start
        self._steps = steps
        self._began = self._printed = time.monotonic()
        self._stack = ExitStack()
        self._bar = Progress(
            *(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._bar)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """Show a remark that stays."""
        self._console.print(text, markup=False)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show how far it is."""
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._bar.update(self._task, completed=step, description=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            left = (now - self._began) / (step - self._start) * (self._steps - step)
            self.say(f"step {step:,} of {self._steps:,}, about {left / 60:.0f} min left: {text}")
