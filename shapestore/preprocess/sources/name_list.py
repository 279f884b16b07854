"""The text lists that datasets come with: one name a line."""

from __future__ import annotations

from pathlib import Path

from shapestore.errors import UsageError


def read_names(path: Path) -> list[tuple[int, str]]:
    """Names in a list, each with its line number from 1; blank lines are skipped.

    Raises
    ------
    UsageError
        The list cannot be read as text, or a name is an absolute path or holds `..` (nothing outside of the raw folder
        is ever looked at because a list says so).
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of names: {error}.") from error
    names = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise UsageError(f"{path}, line {number}: expected a relative name without '..', got {name!r}.")
    return names
