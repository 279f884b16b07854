"""One operation at a time: every answer goes before its judge, then everybody takes turns at the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.common import Timing, take_turns

OURS: Final = "shapestore"


@dataclass(frozen=True)
class Operation:
    """What is asked of everybody, and who says whether the answer is right."""

    name: str
    """Title of its table."""
    case: str
    """What it is done with."""
    unit: str
    """What an error is."""
    bound: float
    """An answer with a larger error is wrong, and its time is compared with nothing."""
    judge: Callable[[Any], float]
    entrants: Mapping[str, Callable[[], Any]]
    """Library to its call; ours first."""


@dataclass(frozen=True)
class Result:
    """A line of the tables."""

    operation: str
    case: str
    library: str
    unit: str
    bound: float
    error: float
    right: bool
    seconds: Timing
    ratio: float | None
    """Times our time; None where the answer is wrong."""


def run(operations: Iterable[Operation], repeats: int, budget: float, console: Console) -> Iterator[Result]:
    """Judge and time all operations, one after another."""
    for operation in operations:
        console.print(f"[dim]{operation.name}, {operation.case} ...[/dim]")
        errors = {library: operation.judge(call()) for library, call in operation.entrants.items()}
        times = take_turns(operation.entrants, repeats, budget)
        for library, error in errors.items():
            right = error <= operation.bound
            ratio = times[library].median / times[OURS].median if right else None
            names = operation.name, operation.case, library, operation.unit
            yield Result(*names, operation.bound, error, right, times[library], ratio)


def tables(results: Sequence[Result]) -> Iterator[Table]:
    """One table an operation."""
    for name in dict.fromkeys(result.operation for result in results):
        chosen = [result for result in results if result.operation == name]
        first = chosen[0]
        table = Table(title=f"{name} (error: {first.unit})", title_justify="left")
        for heading in ("of", "library"):
            table.add_column(heading, no_wrap=True)
        for heading in ("CPU ms", "min .. max", "x ours", "error", "wrong above"):
            table.add_column(heading, justify="right", no_wrap=True)
        for case in dict.fromkeys(result.case for result in chosen):
            lines = [result for result in chosen if result.case == case]
            for line in lines:
                ratio = "WRONG" if line.ratio is None else f"{line.ratio:.2f}"
                shown = line.case if line is lines[0] else ""
                spread = f"{ms(line.seconds.fastest)} .. {ms(line.seconds.slowest)}"
                table.add_row(
                    shown, line.library, ms(line.seconds.median), spread, ratio, f"{line.error:.2g}", f"{line.bound:g}"
                )
            table.add_section()
        yield table


def ms(seconds: float) -> str:
    """Milliseconds with three digits or more."""
    return f"{seconds * 1e3:.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"
