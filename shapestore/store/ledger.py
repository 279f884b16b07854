"""A file of checksummed lines that survives being killed: a torn or damaged last line is dropped, not misread."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shapestore.errors import StoreDamaged
from shapestore.schemas.base import canonical_json
from shapestore.store.durable import sync_folder
from shapestore.store.rowcodec import crc32c
from shapestore.store.steps import reached


def encode_line(value: Any) -> bytes:
    """One value as a line: its crc32c in hexadecimal, a blank, its JSON."""
    body = canonical_json(value)
    return b"%08x " % crc32c(body) + body + b"\n"


def decode_line(line: bytes) -> Any:
    """The value of a line.

    Raises
    ------
    ValueError
        The line is torn or damaged.
    """
    checksum, blank, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or not blank or checksum != b"%08x" % crc32c(body):
        raise ValueError("a torn or damaged line")
    return json.loads(body)


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a whole file of lines, which appears only when it is complete and durable."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.writelines(encode_line(value) for value in values)
        file.flush()
        os.fsync(file.fileno())
    reached("lines written")
    partial.replace(path)
    sync_folder(path.parent)
    reached("lines durable")


def read_lines(path: Path, remedy: str) -> Iterator[Any]:
    """Every value of a file that `write_lines` made; `remedy` says what to do if it is damaged.

    Raises
    ------
    StoreDamaged
        A line is damaged.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decode_line(line)
            except ValueError as error:
                raise StoreDamaged(f"{path}, line {number}: {error}. {remedy}") from None


class Ledger:
    """A file of lines that is appended to, one durable line at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedWriter | None = None

    def replay(self) -> list[Any]:
        """All whole lines; what follows the first torn or damaged one is cut off, as if it was never written."""
        if not self._path.exists():
            return []
        values, good = [], 0
        with self._path.open("rb+") as file:
            for line in file:
                try:
                    values.append(decode_line(line))
                except ValueError:
                    break
                good += len(line)
            file.truncate(good)
        return values

    def append(self, value: Any) -> None:
        """Add one line, and wait until it is on disk."""
        assert self._file is not None, "appended outside the with block"  # noqa: S101
        self._file.write(encode_line(value))
        self._file.flush()
        reached("ledger written")
        os.fsync(self._file.fileno())
        reached("ledger durable")

    def __enter__(self) -> Self:
        self._file = self._path.open("ab")
        sync_folder(self._path.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
