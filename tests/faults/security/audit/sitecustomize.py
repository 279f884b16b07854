"""Python runs this when it starts, if the folder is in PYTHONPATH: every change of a file system is written down.

What Python itself does is seen (PEP 578), in this process and in all Python processes that it starts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = {
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1,
    "os.symlink": 2, "os.truncate": 1, "os.utime": 1,
}  # fmt: skip
"""Event to how many of its first arguments are paths."""

FOLDERS = {"os.chmod": 2, "os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "open": 99}
"""Event to the position of the descriptor of the folder that its path is relative to."""


def _changed(event: str, arguments: tuple[Any, ...]) -> list[Any]:
    if event == "open":
        path, mode, flags = arguments
        writes = bool(flags & WRITING) if mode is None else any(letter in mode for letter in "wax+")
        return [path] if writes else []
    return list(arguments[: CHANGES.get(event, 0)])


def _absolute(path: Any, event: str, arguments: tuple[Any, ...]) -> str:
    folder = Path.cwd()
    position = FOLDERS.get(event, 99)
    if position < len(arguments) and isinstance(arguments[position], int) and arguments[position] >= 0:
        folder = Path(f"/proc/self/fd/{arguments[position]}").readlink()
    return os.path.normpath(folder / os.fsdecode(path))


if "AUDIT_LOG" in os.environ:
    _log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" or event in CHANGES:
            for path in _changed(event, arguments):
                if not isinstance(path, int):  # a descriptor was opened by a path before
                    line = json.dumps([event, _absolute(path, event, arguments), sys.argv[:1]])
                    os.write(_log, line.encode() + b"\n")

    sys.addaudithook(_hook)
