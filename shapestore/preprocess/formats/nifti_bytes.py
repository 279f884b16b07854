"""Bytes of a file that may be compressed: never more of them than asked for."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import open_raw, refuse_short

_GZIP_MAGIC: Final = b"\x1f\x8b"

_BEST_RATIO: Final = 1032
"""No deflate stream grows by more: 258 bytes from 2 bits (zlib's technical notes)."""

_STEP: Final = 1 << 20

_MOST_REST: Final = 4 << 20
"""Bytes that are unpacked, and dropped, behind what was asked for."""


class RawBytes:
    """A file, read from its start on; content in gzip form is unpacked whatever the file is called."""

    def __init__(self, file: BufferedReader) -> None:
        self._size = os.fstat(file.fileno()).st_size
        self._compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        self._file: BufferedIOBase = gzip.GzipFile(fileobj=file) if self._compressed else file

    def head(self, size: int) -> bytes:
        """The first `size` bytes, or all if there are fewer; the position goes back to the start."""
        head = self._file.read(size)
        self._file.seek(0)
        return head

    def refuse_short(self, what: str, needed: int) -> None:
        """Refuse as TRUNCATED if the file cannot hold `needed` bytes, before any is read."""
        if self._compressed:
            what = f"{what}, as gzip packs it at best,"
            needed = -(-needed // _BEST_RATIO)
        refuse_short(what, needed, self._size)

    def skip(self, size: int, what: str) -> None:
        """Go on by `size` bytes, or refuse as TRUNCATED."""
        while size > 0:
            step = len(self._file.read(min(size, _STEP)))
            if step == 0:
                raise InputRefused(Reason.TRUNCATED, f"the file ends {size} bytes before {what} starts")
            size -= step

    def blocks(self, size: int, what: str) -> Iterator[NDArray[np.uint8]]:
        """The next `size` bytes in blocks, whose sizes but the last are multiples of 8; refuses as TRUNCATED.

        A block is overwritten by the next one.
        """
        buffer = np.empty(min(size, _STEP), np.uint8)
        for start in range(0, size, _STEP):
            block = buffer[: size - start]
            done = 0
            while done < len(block):
                step = self._file.readinto(block[done:].data)
                if not step:
                    raise InputRefused(
                        Reason.TRUNCATED, f"{what} needs {size} bytes, the file holds {start + done} of them"
                    )
                done += step
            yield block

    def finish(self) -> int:
        """The number of bytes that follow.

        A gzip stream is read to its end, where its checksum is compared; a damaged one often unpacks to more than
        was there. One that goes on for more than a little is refused as MALFORMED, since it may go on for long.
        """
        if not self._compressed:
            return self._size - self._file.tell()
        rest = 0
        while step := len(self._file.read(_STEP)):
            rest += step
            if rest > _MOST_REST:
                raise InputRefused(Reason.MALFORMED, f"more than {_MOST_REST} bytes follow what the header declares")
        return rest


@contextmanager
def raw_bytes(path: Path) -> Iterator[RawBytes]:
    """Open a raw file, packed or not.

    Raises
    ------
    InputRefused
        As `open_raw`; within the context TRUNCATED if a gzip stream ends early, MALFORMED if it is damaged.
    """
    with open_raw(path) as file:
        try:
            yield RawBytes(file)
        except EOFError as error:
            raise InputRefused(Reason.TRUNCATED, f"{path.name} ends within its gzip stream") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputRefused(Reason.MALFORMED, f"{path.name} is damaged: {error}") from error
        except OSError as error:
            raise InputRefused(Reason.MISSING, f"{path.name} cannot be read: {error.strerror}") from error
