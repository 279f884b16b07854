"""One h5 file of scans, one scan a row: checked when it is opened, then read row by row."""

from __future__ import annotations

import os
from math import ceil, prod
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import open_raw, refuse_short, to_float64
from shapestore.preprocess.formats.h5_checks import refuse_unsafe_dataset

_CHUNK_CACHE_BYTES: Final = 16 * 2**20
"""Decompressed chunks that are kept: enough for the rows of one row of chunks, so that each is inflated once."""

_MOST_LISTED: Final = 5

_H5_ERRORS: Final = (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError)
"""What h5py raises for a damaged file, depending on where the damage is."""


class ScanFile:
    """An open file with `data` (N, n, 3), `label` (N,) or (N, 1), and perhaps `mask` (N, n).

    Parameters
    ----------
    path
        The h5 file.

    Raises
    ------
    InputRefused
        The file or one of these datasets is missing, damaged, incomplete, a link, or of another shape or dtype.
    """

    def __init__(self, path: Path) -> None:
        open_raw(path).close()
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
            self._data = self._dataset("data", (None, None, 3), "f")
            self._mask = self._dataset("mask", self._data.shape[:2], "if") if "mask" in self._file else None
            label = self._dataset("label", self._data.shape[:1], "iu")
            self.labels: NDArray[np.int64] = np.asarray(label[()]).reshape(-1).astype(np.int64)
        except _H5_ERRORS as error:
            raise _refusal(path.name, error) from error
        self._name = path.name

    def read(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.int8] | None]:
        """Read one scan.

        Returns
        -------
        points
            (n, 3) float64.
        mask
            (n,) int8: 1 for the object, -1 for background; None where the file does not tell.

        Raises
        ------
        InputRefused
            There is no such row, or its bytes are damaged.
        """
        if not 0 <= row < len(self.labels):
            raise InputRefused(Reason.MALFORMED, f"{self._name} has {len(self.labels)} rows and so no row {row}")
        try:
            points = to_float64(self._data[row])
            mask = None if self._mask is None else np.asarray(self._mask[row])
        except _H5_ERRORS as error:
            raise _refusal(self._name, error) from error
        if mask is None:
            return points, None
        if not np.isfinite(mask).all():
            raise InputRefused(Reason.MALFORMED, f"{self._name}: the mask of row {row} holds NaN or infinity")
        # Any number but -1 is that of the object in its scene.
        return points, np.where(mask == -1, -1, 1).astype(np.int8)

    def _dataset(self, name: str, shape: tuple[int | None, ...], kinds: str) -> Any:
        """Dataset `name` of the file itself, of `shape` (None: any size; a last size of 1 may follow), all there."""
        link = self._file.get(name, getlink=True)
        if link is None:
            held = ", ".join(sorted(self._file)[:_MOST_LISTED]) or "nothing"
            raise InputRefused(Reason.MALFORMED, f"no dataset {name!r}; the file holds {held}")
        if not isinstance(link, h5py.HardLink):
            raise InputRefused(Reason.MALFORMED, f"{name!r} is a link, which is not followed: copy its data here")
        found = self._file[name]
        if not isinstance(found, h5py.Dataset):
            raise InputRefused(Reason.MALFORMED, f"{name!r} is a group, not a dataset")
        if found.is_virtual or found.external:
            raise InputRefused(Reason.MALFORMED, f"{name!r} keeps its data in other files, which are not followed")
        got = found.shape if found.shape is not None else ()
        if found.dtype.kind not in kinds or not (_fits(got, shape) or (name == "label" and _fits(got, (*shape, 1)))):
            wanted = ", ".join("n" if size is None else str(size) for size in shape)
            kind = " or ".join({"f": "floats", "i": "signed integers", "u": "unsigned integers"}[k] for k in kinds)
            raise InputRefused(
                Reason.MALFORMED, f"{name!r}: expected {kind} of shape ({wanted}), got {found.dtype} {got}"
            )
        _refuse_unwritten(name, found)
        refuse_unsafe_dataset(name, found)
        return found


_last: dict[tuple[Path, tuple[int, ...]], ScanFile] = {}


def open_scans(path: Path) -> ScanFile:
    """`ScanFile` of a path; the last one stays open, as rows are mostly read file by file.

    A changed file is opened anew, and so is every file in a forked process.
    """
    try:
        now = path.stat()
    except OSError:
        return ScanFile(path)  # which says what is wrong
    key = (path, (os.getpid(), now.st_ino, now.st_size, now.st_mtime_ns))
    file = _last.get(key)
    if file is None:
        # HDF5 lets handles to one file share what they know of it, so a stale one goes before the next is made.
        _last.clear()
        file = _last[key] = ScanFile(path)
    return file


def _fits(got: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(got) == len(wanted) and all(want in (None, size) for want, size in zip(wanted, got, strict=True))


def _refuse_unwritten(name: str, dataset: Any) -> None:
    """HDF5 gives fill values for what was never written, which must not pass for a scan at the origin."""
    if dataset.chunks is not None:
        parts = zip(dataset.shape, dataset.chunks, strict=True)
        expected = prod(ceil(size / chunk) for size, chunk in parts)
        present = int(dataset.id.get_num_chunks())
        if present < expected:
            raise InputRefused(Reason.TRUNCATED, f"{name!r} has {present} of {expected} chunks")
    else:
        refuse_short(f"{name!r}", int(dataset.nbytes), int(dataset.id.get_storage_size()))


def _refusal(name: str, error: Exception) -> InputRefused:
    """The refusal for what h5py says of a file."""
    cut_short = "truncated file" in str(error)
    return InputRefused(Reason.TRUNCATED if cut_short else Reason.MALFORMED, f"{name}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())
