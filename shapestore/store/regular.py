"""Reading a small file of a store, which may have been made by somebody who means harm."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG


def read_regular(path: Path, most: int) -> bytes:
    """All bytes of a regular file, or of one that a link leads to.

    A pipe or a device is not even opened: it might block for ever, never end, or act on being opened.

    Raises
    ------
    OSError
        It is not there, or cannot be read.
    ValueError
        It is no regular file, or has more than `most` bytes.
    """
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > most:
        raise ValueError(f"it has {status.st_size} bytes, and at most {most} are read")
    with path.open("rb") as file:
        return file.read(status.st_size)
