"""The command line: one thin file per command, which parses, calls one function, and prints."""

from shapestore.cli.main import main

__all__ = ["main"]
