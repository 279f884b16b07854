"""Reading a small file of a store, which may have been made by somebody who means harm."""

from __future__ import annotations

from os import fstat
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
    if not S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        size = fstat(file.fileno()).st_size  # of the open file: a writer may have put a longer one in the path's place
        if size > most:
            raise ValueError(f"it has {size} bytes, and at most {most} are read")
        return file.read(size)
