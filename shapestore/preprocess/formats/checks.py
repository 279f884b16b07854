"""What is checked of every raw file before anything reads it."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import Final

from shapestore.errors import InputRefused, Reason

_LFS_MAGIC: Final = b"version https://git-lfs"


def open_raw(path: Path) -> BufferedReader:
    """Open a raw file for reading, positioned at its first byte.

    Raises
    ------
    InputRefused
        MISSING if there is no such file or it cannot be read; EMPTY if it has no byte; LFS_POINTER if it is the
        stand-in that git-lfs leaves where content was not fetched.
    """
    try:
        if not path.is_file():
            raise InputRefused(Reason.MISSING, f"{path.name} is not there, or is no file")
        file = path.open("rb")
        try:
            start = file.read(len(_LFS_MAGIC))
            file.seek(0)
        except OSError:
            file.close()
            raise
    except OSError as error:
        raise InputRefused(Reason.MISSING, f"{path.name} cannot be read: {error.strerror}") from error
    if start and start != _LFS_MAGIC:
        return file
    file.close()
    if not start:
        raise InputRefused(Reason.EMPTY, f"{path.name} has zero bytes")
    raise InputRefused(
        Reason.LFS_POINTER,
        f"{path.name} is a git-lfs pointer, not the file it stands for: run `git lfs pull`",
    )


def read_raw(path: Path) -> bytes:
    """The whole content of a raw file; refuses as `open_raw`."""
    with open_raw(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise InputRefused(Reason.MISSING, f"{path.name} cannot be read: {error.strerror}") from error


def refuse_short(what: str, needed: int, present: int) -> None:
    """Refuse as TRUNCATED, naming `what`, if `needed` bytes were declared and fewer are `present`.

    The numbers are plain integers, which do not overflow, whatever a header declares.
    """
    if needed > present:
        raise InputRefused(
            Reason.TRUNCATED,
            f"{what} needs {needed} bytes, the file holds {present}: it is cut short or damaged",
        )


def counted(number: int, noun: str) -> str:
    """Number and noun as a person writes them, for nouns with a regular plural: "1 face", "12 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
