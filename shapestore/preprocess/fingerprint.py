"""Whether a raw input is still the one that was read: by size and time where that is enough, else by its hash."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from shapestore.errors import InputRefused, Reason, is_systems_fault


class Fingerprint(NamedTuple):
    """What a file system says of an input without reading it."""

    size: int
    """Bytes of the file, or of all files in the folder."""
    mtime_ns: int
    """Time of the last change, nanoseconds; the latest one in a folder."""


def fingerprint(path: Path) -> Fingerprint:
    """Size and time of a file or folder.

    Raises
    ------
    InputRefused
        It is not there, or cannot be looked at.
    """
    try:
        stats = [file.stat() for file in _files(path)]
    except OSError as error:
        raise _refused(path, error) from None
    if not all(S_ISREG(each.st_mode) for each in stats):
        raise InputRefused(Reason.UNSUPPORTED, f"{path.name} is no regular file: reading it might never end")
    return Fingerprint(sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0))


def source_sha256(path: Path, known: Fingerprint) -> str:
    """Sha256 of a file's bytes, or of the list of names and hashes of a folder's files.

    `known` is the fingerprint of the input: while it stays the same, one process hashes a file once, however many
    shapes it holds.

    Raises
    ------
    InputRefused
        A file cannot be read.
    """
    try:
        return _sha256(path, known)
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> Exception:
    return error if is_systems_fault(error) else InputRefused(Reason.MISSING, f"{path.name}: {error.strerror}")


@lru_cache(maxsize=64)
def _sha256(path: Path, known: Fingerprint) -> str:
    del known  # part of the cache's key
    files = _files(path)
    if files == [path]:
        return _file_sha256(path)
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(f"{file.relative_to(path.parent).as_posix()}\0{_file_sha256(file)}\n".encode())
    return hashed.hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(path: Path) -> list[Path]:
    """The file itself, with its header where a format keeps that apart, or all files below a folder, sorted."""
    if path.suffix.lower() == ".img":
        return [path, *(header for header in (path.with_suffix(".hdr"), path.with_suffix(".HDR")) if header.exists())]
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())
