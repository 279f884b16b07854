"""The text lists that datasets come with: one name a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shapestore.errors import UsageError

LARGEST_LIST: Final = 256 << 20
"""Bytes; that of ShapeNet has 4 MB."""


def refuse_no_list(path: Path) -> None:
    """Raise a UsageError unless `path` is a regular file of a size that a list may have; others may never end."""
    try:
        regular, size = path.is_file(), path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a list: {error.strerror}.") from error
    if not regular or size > LARGEST_LIST:
        got = f"{size >> 20} MiB" if regular else "no regular file"
        raise UsageError(f"{path}: expected a list of at most {LARGEST_LIST >> 20} MiB, got {got}.")


def read_list(path: Path) -> str:
    """The text of a list in UTF-8.

    Raises
    ------
    UsageError
        It cannot be read as text; as `refuse_no_list`.
    """
    refuse_no_list(path)
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of names: {error}.") from error


def read_names(path: Path) -> list[tuple[int, str]]:
    """Names in a list, each with its line number from 1; blank lines are skipped.

    Raises
    ------
    UsageError
        As `read_list`; or a name is an absolute path, holds `..` (nothing outside of the raw folder is ever looked at
        because a list says so) or what is not printable.
    """
    lines = read_list(path).splitlines()
    names = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/") or not name.isprintable():
            raise UsageError(f"{path}, line {number}: expected a relative name without '..', got {name[:200]!r}.")
    return names
