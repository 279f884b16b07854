"""Safe reading of npz files: a zip of npy arrays whose headers are checked before any data is read.

Nothing is unpickled, and nothing is allocated that the compressed bytes could not hold. The npy format is that of
NumPy's NEP 1.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import open_raw, refuse_short

_ZIP_MAGIC: Final = b"PK"
_MAX_DEFLATE_RATIO: Final = 1032
"""Deflate codes at most 258 bytes in 2 bits (RFC 1951), so a byte never holds more than this many."""

_KINDS: Final = "biuf"
"""Kinds of plain numbers: bool, signed, unsigned, float."""

_ZIP_ERRORS: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
    TypeError, OverflowError, IndexError, KeyError, SyntaxError, tokenize.TokenError, RecursionError,
)  # fmt: skip
"""What zipfile and the npy header reader raise for damaged bytes, depending on where the damage is."""

_LENGTHS: Final[Mapping[tuple[int, int], str]] = {(1, 0): "<H", (2, 0): "<I"}
"""Version of the npy format to the form of its header's length."""

_MOST_BYTES: Final = 1 << 30
"""Of one array: 80 million points."""

_MAX_HEADER_BYTES: Final = 10_000
"""What numpy reads at most without being told that the file is trusted."""

_BLOCK_BYTES: Final = 2**20


@dataclass(frozen=True)
class Header:
    """What an npy member declares."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the data, as an integer that does not overflow."""
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


class NpzFile:
    """An open npz file whose headers have all been checked; made by `open_npz`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.headers: Mapping[str, Header] = {key: self._header(key) for key in _keys(archive)}

    def array(self, key: str) -> NDArray[Any]:
        """Read one array.

        Raises
        ------
        InputRefused
            MALFORMED or TRUNCATED: the member's bytes are damaged or end early.
        """
        header = self.headers[key]
        values = np.frombuffer(b"".join(self._blocks(key)), header.dtype)
        return values.reshape(header.shape, order="F" if header.fortran else "C")

    def is_zero(self, key: str) -> bool:
        """Whether all values of one array are 0, without holding them all."""
        dtype = self.headers[key].dtype
        return not any(np.frombuffer(block, dtype).any() for block in self._blocks(key))

    def _header(self, key: str) -> Header:
        with _reading(key), self._archive.open(f"{key}.npy") as member:
            header = _read_header(key, member)
            size = self._archive.getinfo(f"{key}.npy").file_size - member.tell()
        refuse_short(f"{key!r}", header.nbytes, size)
        if header.nbytes < size:
            raise InputRefused(Reason.MALFORMED, f"{key!r} holds {size} bytes where {header} takes {header.nbytes}")
        if header.nbytes > _MOST_BYTES:
            raise InputRefused(
                Reason.UNSUPPORTED,
                f"{key!r} is {header}: {header.nbytes >> 20} MiB; at most {_MOST_BYTES >> 20} are read",
            )
        return header

    def _blocks(self, key: str) -> Iterator[bytes]:
        """The data of one array, in blocks of whole values; reading to the end checks the CRC."""
        left = self.headers[key].nbytes
        with _reading(key), self._archive.open(f"{key}.npy") as member:
            _read_header(key, member)
            while block := member.read(_BLOCK_BYTES):
                left -= len(block)
                refuse_short(f"{key!r}", min(left + len(block), _BLOCK_BYTES), len(block))
                yield block
        refuse_short(f"{key!r}", left, 0)


@contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """Open an npz file and check all its headers.

    Raises
    ------
    InputRefused
        MISSING, EMPTY, LFS_POINTER; TRUNCATED: the zip or an array ends early; UNSUPPORTED: pickled objects, text,
        complex or structured arrays, arrays of more than 1 GiB, other compressions, encryption; MALFORMED: no npz, or
        not as its format asks.
    """
    with open_raw(path) as file:
        with _reading(path.name):
            archive = _open_zip(path.name, file)
        with archive:
            yield NpzFile(archive)


def _open_zip(name: str, file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        file.seek(0)
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            raise
        # The directory of a zip is its end.
        raise InputRefused(Reason.TRUNCATED, f"{name} begins as a zip, and its directory is lost: cut short") from None


def _keys(archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Array names of the members, each once."""
    infos = archive.infolist()
    for info in infos:
        _refuse_member(info)
    names = Counter(info.filename for info in infos)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        # Readers disagree on which one counts.
        raise InputRefused(Reason.MALFORMED, f"members that occur twice: {', '.join(twice)}; write the file anew")
    return tuple(name.removesuffix(".npy") for name in names)


def _refuse_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    if not name.endswith(".npy") or not name.removesuffix(".npy").isidentifier():
        raise InputRefused(Reason.MALFORMED, f"member {name[:80]!r}: expected names such as pc_xyz.npy")
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputRefused(Reason.UNSUPPORTED, f"member {name!r} is encrypted, or neither stored nor deflated")
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _MAX_DEFLATE_RATIO
    refuse_short(f"member {name!r} (declared {info.file_size} bytes)", -(-info.file_size // ratio), info.compress_size)


def _read_header(key: str, member: IO[bytes]) -> Header:
    """Read the header, and leave `member` at the first byte of the data."""
    version = npy.read_magic(member)
    if version not in _LENGTHS:
        raise InputRefused(Reason.UNSUPPORTED, f"{key!r} is npy version {version}: expected an array of plain numbers")
    length = member.read(struct.calcsize(_LENGTHS[version]))
    (size,) = struct.unpack(_LENGTHS[version], length)
    if size > _MAX_HEADER_BYTES:
        raise InputRefused(Reason.MALFORMED, f"{key!r} declares a header of {size} bytes")
    shape, fortran, dtype = _parse_header(version, length + member.read(size))
    if dtype.hasobject:
        raise InputRefused(Reason.UNSUPPORTED, f"{key!r} holds pickled Python objects, which are never loaded")
    if dtype.kind not in _KINDS:
        raise InputRefused(Reason.UNSUPPORTED, f"{key!r} is {dtype}: expected plain numbers")
    if any(size < 0 for size in shape):
        raise InputRefused(Reason.MALFORMED, f"{key!r} declares the shape {shape}")
    return Header(shape, dtype, fortran)


@lru_cache(maxsize=1024)
def _parse_header(version: tuple[int, int], header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype. The files of a cache have the same headers again and again, and parsing takes long."""
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(BytesIO(header))
    return shape, fortran, dtype


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn what the libraries raise for damaged bytes into a refusal that names `what`."""
    try:
        yield
    except _ZIP_ERRORS as error:
        text = " ".join(str(error).split())
        raise InputRefused(Reason.MALFORMED, f"{what}: {text[:200] or type(error).__name__}") from error
