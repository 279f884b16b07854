"""The program `shapestore`: its commands, and what becomes of errors."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from shapestore.cli import derive, diff, export, info, ingest, ls, quarantine, rebuild, show, split, validate, why

app = typer.Typer(
    help="Raw 3D shapes in, a typed Zarr store out, read back by torch without copying.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
for module in (ingest, validate, info, ls, show, why, quarantine, rebuild, diff, split, derive, export):
    app.command(name=module.__name__.rpartition(".")[2])(module.command)

_debug = False

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""


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
    from shapestore.errors import ShapestoreError

    try:
        app()
    except ShapestoreError as error:
        _end(str(error), error.exit_code)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _end("interrupted", 5)
        raise
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing is wrong
        sys.exit(0)
    except OSError as error:
        _end(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    except Exception as error:
        _end(f"{type(error).__name__}: {error}. This is a fault of shapestore; see where with --debug.", 1)


def _end(message: str, code: int) -> None:
    if _debug:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"shapestore: {message}\n")
    sys.exit(code)
