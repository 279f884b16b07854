"""What is checked of every raw file before anything reads it."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason

_LFS_MAGIC: Final = b"version https://git-lfs"

_LARGEST: Final = 2 << 30
"""Bytes of a file that is read as a whole; a binary STL of 40 million facets."""


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
    """The whole content of a raw file; refuses as `open_raw`, and as UNSUPPORTED more than 2 GiB."""
    with open_raw(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST:
            raise InputRefused(
                Reason.UNSUPPORTED, f"{path.name} has {size / 2**30:.1f} GiB; at most {_LARGEST >> 30} are read"
            )
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


def natural(number: object) -> int:
    """A whole number >= 0 out of JSON; ValueError if it is none."""
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} where a number of bytes or items is due")
    return number


def to_float64(numbers: ArrayLike) -> NDArray[np.float64]:
    """Numbers of any real type as float64; a signalling NaN becomes a quiet one without a warning."""
    with np.errstate(invalid="ignore"):
        return np.asarray(numbers, np.float64)


def counted(number: int, noun: str) -> str:
    """Number and noun as a person writes them, for nouns with a regular plural: "1 face", "12 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
