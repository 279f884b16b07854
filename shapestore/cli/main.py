"""The program `shapestore`: its commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from shapestore.cli import (
    bench,
    derive,
    diff,
    evaluate,
    export,
    info,
    ingest,
    ls,
    quarantine,
    rebuild,
    repair,
    show,
    split,
    train,
    validate,
    why,
)

app = typer.Typer(
    help="Raw 3D shapes in, a typed Zarr store out, read back by torch without copying.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
for module in (
    ingest,
    validate,
    info,
    ls,
    show,
    why,
    quarantine,
    rebuild,
    repair,
    diff,
    split,
    derive,
    export,
    bench,
    train,
    evaluate,
):
    app.command(name=module.__name__.rpartition(".")[2])(module.command)

_debug = False

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

_UNREAD = 141
"""Exit code where the reader of the output has gone: that of a program which SIGPIPE ends, 128 + 13.

Typer, Rich and Python itself make 1 of it, which is an internal error here, and 0 would say that data is sound whose
verdict nobody has read. The signal is not left to end the program, as it comes from broken connections as well.
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        from shapestore import __version__

        typer.echo(f"shapestore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error arose.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # its callback has done all
    global _debug
    _debug = debug


def main() -> None:
    """Run the program; every error ends in one message and the exit code of its kind."""
    from shapestore.errors import ShapestoreError, StorageFailed, is_systems_fault

    try:
        _run()
    except ShapestoreError as error:
        _end(str(error), error.exit_code)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):
            _end_unread()
        if stop.code == _INTERRUPTED:
            _end("interrupted", 5)
        raise
    except BrokenPipeError:
        _end_unread()
    except OSError as error:
        text = f"{error.filename or 'the system'}: {error.strerror or error}"
        if is_systems_fault(error):
            _end(f"{text}. Mend that, and run the same command again.", StorageFailed.exit_code)
        _end(text, 1)
    except Exception as error:
        _end(f"{type(error).__name__}: {error}. This is a fault of shapestore; see where with --debug.", 1)


def _run() -> None:
    try:
        app()
    except SystemExit:
        sys.stdout.flush()  # at the interpreter's end it is too late to see that nobody reads
        raise


def _end_unread() -> NoReturn:
    """End without a word. What is still to be flushed goes nowhere, as Python's documentation of SIGPIPE has it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    sys.exit(_UNREAD)


def _end(message: str, code: int) -> NoReturn:
    try:
        if _debug:
            import traceback

            traceback.print_exc()
        from shapestore.schemas.printable import printable

        sys.stderr.write(f"shapestore: {printable(message, keep=chr(10))}\n")
    except BrokenPipeError:
        _end_unread()
    sys.exit(code)
