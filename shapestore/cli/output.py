"""What all commands share in talking to people and machines: tables for one, JSON for the other, errors for both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shapestore.schemas.printable import printable

STORE = Annotated[str, typer.Argument(help="Path of the store, such as shapes.zarr.", show_default=False)]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]
WORKERS = Annotated[
    int | None, typer.Option(min=0, help="Processes; 0 runs in this one, for debugging.", show_default="one a core")
]
SCHEDULER = Annotated[
    str | None, typer.Option(help="Running Dask scheduler to use, such as tcp://10.0.0.1:8786.", show_default=False)
]

QUARANTINED = 4
"""Exit code: done, but some inputs are quarantined."""

VIOLATED = 3
"""Exit code: the data breaks the schema or a check."""


class _Verbatim(Console):
    """Shows text as it is: names from raw files and stores are no markup, no emoji codes, no commands to a terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text, printable."""
        return super().render_str(printable(text, keep="\n"), **options)


def people() -> Console:
    """Where text for people goes: standard output."""
    # Lines for other programs are never broken.
    return _Verbatim(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 10_000)


def status() -> Console:
    """Where progress and remarks go: standard error."""
    return _Verbatim(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, in ASCII, which no terminal takes for commands; NaN is null."""
    written = json.loads(json.dumps(value, default=str), parse_constant=_null)
    json.dump(written, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table; numbers are aligned to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    rows = [list(row) for row in rows]
    for position, header in enumerate(headers):
        numeric = bool(rows) and all(isinstance(row[position], int | float) for row in rows)
        table.add_column(header, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    people().print(table)


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(_cell(name), _cell(value))
    people().print(table)


def human_seconds(seconds: float) -> str:
    """A duration that people can plan with."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _null(name: str) -> None:
    """What Python writes and reads as NaN or Infinity, which JSON has not."""


def _cell(value: Any) -> str:
    return printable(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
