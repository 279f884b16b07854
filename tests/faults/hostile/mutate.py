"""Seeded damage to bytes: of any file, of text, and of the fields that binary formats declare sizes in."""

from __future__ import annotations

import gzip
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from numpy.random import Generator

T = TypeVar("T")

Mutation = Callable[[Generator, bytes, bytes], bytes]
"""Takes a file and another one of its kind, and gives the damaged file."""

_INTEGERS: Final = (
    *(0, 1, 2, 3, 7, 255, 256, 32767, 32768, 65535, 65536, 10**6, 10**9, 10**12),
    *(-1, -2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1),
)
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e-45, 1e-20, 1e9, 1e20, 1e38, 1e200, 1.7e308)
_ODD_FLOATS: Final = (float("nan"), float("inf"), float("-inf"))

_TEXT_NUMBERS: Final = (
    *(b"0", b"-0", b"-1", b"1", b"3", b"1e308", b"-1e308", b"1e999999999", b"1e-400", b"nan", b"-inf", b"1.#IND"),
    b"1.#QNAN0",
    *(b"2147483647", b"2147483648", b"-2147483649", b"4294967296", b"9223372036854775807", b"-9223372036854775809"),
    *(b"1000000000000", b"99999999999999999999999999", b"1" * 5000, b"0." + b"3" * 5000, b"0x1p4", b"1_0", b"1e"),
    *(b"+", b"--1"),
    *(b"\xef\xbc\x91", b"\xb2", b"1/", b"1//", b"/1", b"-1/-1/-1", b"1\\", b"#", b"'", b'"', b",", b"1,2"),
    b"../../etc/passwd",
    *(b"/etc/passwd", b"a" * 4096, b"\x00", b"\x1c", b"\x85", b"\xe2\x80\xa8", b"\xff\xfe", b"1\r2", b"1\x0b2"),
)  # fmt: skip
_NUMBER: Final = re.compile(rb"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_WORD: Final = re.compile(rb"[^\s,]+")

_ZIP_FIELDS: Final = {
    b"PK\x01\x02": ((4, "<H"), (8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (30, "<H"),
                    (32, "<H"), (34, "<H"), (42, "<I")),
    b"PK\x03\x04": ((4, "<H"), (6, "<H"), (8, "<H"), (14, "<I"), (18, "<I"), (22, "<I"), (26, "<H"), (28, "<H")),
    b"PK\x05\x06": ((4, "<H"), (6, "<H"), (8, "<H"), (10, "<H"), (12, "<I"), (16, "<I"), (20, "<H")),
}  # fmt: skip
"""Offset and type of the fields of a zip's central headers, local headers and end record (APPNOTE.TXT)."""

_HDF5_MARKS: Final = (b"\x89HDF\r\n\x1a\n", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"BTHD")
"""Signatures of the superblock and of the structures of an HDF5 file."""

_NIFTI_1: Final = (
    (0, "i"), *((40 + 2 * axis, "h") for axis in range(8)), (70, "h"), (72, "h"),
    *((76 + 4 * axis, "f") for axis in range(8)), (108, "f"), (112, "f"), (116, "f"), (123, "B"),
    (252, "h"), (254, "h"),
    *((256 + 4 * field, "f") for field in range(18)), (344, "i"),
)  # fmt: skip
"""Offset and type of sizes, type, spacing, voxel offset, scaling, unit, orientation and magic (nifti1.h)."""

_NIFTI_2: Final = (
    (0, "i"), (4, "i"), (12, "h"), (14, "h"), *((16 + 8 * axis, "q") for axis in range(8)),
    *((104 + 8 * axis, "d") for axis in range(8)), (168, "q"), (176, "d"), (184, "d"), (344, "i"), (348, "i"),
    *((352 + 8 * field, "d") for field in range(18)), (500, "i"),
)  # fmt: skip


def mutated(rng: Generator, form: str, data: bytes, other: bytes) -> bytes:
    """Damage a file one to three times.

    Parameters
    ----------
    rng
        Decides everything.
    form
        A key of `FORMS`.
    data, other
        The file, and another one of its form to splice it with.
    """
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        data = pick(rng, FORMS[form])(rng, data, other)
    return data


def pick(rng: Generator, several: Sequence[T]) -> T:
    """One of several."""
    return several[int(rng.integers(len(several)))]


def _place(rng: Generator, data: bytes) -> int:
    """A position in a file; half of them in its first 512 bytes, where headers are."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 512)
    return int(rng.integers(end + 1))


def flip_bits(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if data else 0):
        changed[min(_place(rng, data), len(data) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite(rng: Generator, data: bytes, other: bytes) -> bytes:
    """A run of equal or random bytes over what was there."""
    start, size = _place(rng, data), int(rng.integers(1, 65))
    run = rng.bytes(size) if rng.random() < 0.5 else bytes([pick(rng, (0, 1, 10, 32, 127, 255))]) * size
    return data[:start] + run + data[start + size :]


def insert(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Bytes between bytes."""
    start = _place(rng, data)
    return data[:start] + rng.bytes(int(rng.integers(1, 65))) + data[start:]


def truncate(rng: Generator, data: bytes, other: bytes) -> bytes:
    """The file up to some byte."""
    return data[: _place(rng, data)]


def remove(rng: Generator, data: bytes, other: bytes) -> bytes:
    """The file without a stretch."""
    start = _place(rng, data)
    return data[:start] + data[start + int(rng.integers(1, 4096)) :]


def duplicate(rng: Generator, data: bytes, other: bytes) -> bytes:
    """A stretch of the file, several times."""
    start = _place(rng, data)
    stretch = data[start : start + int(rng.integers(1, 1024))]
    return data[:start] + stretch * int(rng.integers(2, 20)) + data[start:]


def splice(rng: Generator, data: bytes, other: bytes) -> bytes:
    """The start of one file and the end of another."""
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def change_numbers(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Numbers of a text replaced by huge, negative, overlong and impossible ones; the first ones rather than others."""
    return _replaced(rng, data, [match.span() for match in _NUMBER.finditer(data)])


def change_words(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Words of a text replaced by numbers, paths, and what no text holds."""
    return _replaced(rng, data, [match.span() for match in _WORD.finditer(data)])


def _replaced(rng: Generator, data: bytes, spans: Sequence[tuple[int, int]]) -> bytes:
    if not spans:
        return data
    few = spans if rng.random() < 0.5 else spans[:12]
    for chosen in sorted(rng.integers(len(few), size=int(rng.integers(1, 4))).tolist(), reverse=True):
        start, end = few[chosen]
        data = data[:start] + pick(rng, _TEXT_NUMBERS) + data[end:]
    return data


def change_lines(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Lines lost, doubled, swapped, joined, or ended otherwise."""
    lines = data.split(b"\n")
    at, to = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    match int(rng.integers(6)):
        case 0:
            del lines[at]
        case 1:
            lines[at:at] = [lines[to]] * int(rng.integers(1, 50))
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines[at : at + 2] = [b" ".join(lines[at : at + 2])]
        case 4:
            lines[at] = b" ".join([lines[at]] * int(rng.integers(2, 200)))
        case _:
            return pick(rng, (b"\r", b"\r\n", b"\\\n", b" \n\n\t")).join(lines)
    return b"\n".join(lines)


def reencode(rng: Generator, data: bytes, other: bytes) -> bytes:
    """The text in another encoding, or with a byte order mark that lies."""
    text = data.decode("latin-1")
    return pick(rng, (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\x00\x00")) + (
        text.encode(pick(rng, ("utf-16-le", "utf-16-be", "utf-32-le", "latin-1")))
    )


def write_number(rng: Generator, data: bytes, start: int, kind: str) -> bytes:
    """Write an extreme value of a `struct` type at a position, if the file reaches that far."""
    size = struct.calcsize(kind)
    if start + size > len(data):
        return data
    if kind[-1] in "fd":
        value = pick(rng, (*_FLOATS, *_ODD_FLOATS))
        if kind[-1] == "f" and abs(value) > 3e38 and value in _FLOATS:
            value = 3e38
        packed = struct.pack(kind, value)
    else:
        order = "big" if kind[0] == ">" else "little"
        packed = (pick(rng, _INTEGERS) % 256**size).to_bytes(size, order)
    return data[:start] + packed + data[start + size :]


def write_anywhere(rng: Generator, data: bytes, other: bytes) -> bytes:
    """An extreme number of any type at any place."""
    return write_number(rng, data, _place(rng, data), pick(rng, "<>") + pick(rng, "HIQfd"))


def nifti_field(rng: Generator, data: bytes, other: bytes) -> bytes:
    """A field of a NIfTI header, of either version and byte order."""
    order = ">" if data[:2] == b"\0\0" else "<"
    fields = _NIFTI_2 if 540 in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")) else _NIFTI_1
    start, kind = pick(rng, fields)
    return write_number(rng, data, start, order + kind)


def stl_field(rng: Generator, data: bytes, other: bytes) -> bytes:
    """The number of facets of a binary STL file."""
    return write_number(rng, data, 80, "<I")


def glb_field(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Magic, version, length, or the length and kind of a chunk of a GLB file."""
    second = 20 + int.from_bytes(data[12:16], "little")
    return write_number(rng, data, pick(rng, (0, 4, 8, 12, 16, second, second + 4)), "<I")


def glb_json(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Text damage to the JSON chunk of a GLB file, whose lengths stay right."""
    size = int.from_bytes(data[12:16], "little")
    text = pick(rng, (change_numbers, change_numbers, change_words, flip_bits, remove))(
        rng, data[20 : 20 + size], other
    )
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    total = 20 + len(text) + len(rest)
    return data[:8] + struct.pack("<2I", total, len(text)) + data[16:20] + text + rest


def zip_field(rng: Generator, data: bytes, other: bytes) -> bytes:
    """A field of a zip's directory, of a local header, or of its end."""
    mark = pick(rng, tuple(_ZIP_FIELDS))
    found = [match.start() for match in re.finditer(re.escape(mark), data)]
    if not found:
        return data
    offset, kind = pick(rng, _ZIP_FIELDS[mark])
    return write_number(rng, data, pick(rng, found) + offset, kind)


def npz_member(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Damage to one member of an npz file, which is packed anew, so that its checksum is right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # an earlier damage; zipfile answers it with anything
        return data
    if not members:
        return data
    chosen = int(rng.integers(len(members)))
    name, content = members[chosen]
    damage = pick(rng, (npy_header, npy_header, npy_values, flip_bits, truncate, insert, overwrite))
    members[chosen] = (_renamed(rng, name), damage(rng, content, other))
    packed = io.BytesIO()
    kind = pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", kind) as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for member, content in members:
            archive.writestr(zipfile.ZipInfo(member), content, kind)
    return packed.getvalue()


def _renamed(rng: Generator, name: str) -> str:
    odd = ("../../x.npy", "/etc/x.npy", "a\nb.npy", "x" * 4096 + ".npy", "x.npz", "pc_xyz.npy", "", "\u202e.npy")
    return name if rng.random() < 0.9 else pick(rng, odd)


def npy_header(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Another type, order or shape in the header of an npy array; its length stays right."""
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size]
    match int(rng.integers(4)):
        case 0:
            kinds = (
                b"'|O'",
                b"'<c16'",
                b"'>f4'",
                b"'<f8'",
                b"'|V8'",
                b"'<U9'",
                b"'|b1'",
                b"'<m8[s]'",
                b"[('a','<f4')]",
            )
            header = re.sub(rb"'descr': ?[^,]+", b"'descr': " + pick(rng, kinds), header)
        case 1:
            shapes = (
                b"()",
                b"(0,)",
                b"(-1,)",
                b"(1000000000000,)",
                b"(1, 1)",
                b"(2**40,)",
                b"(9" + b"9" * 5000 + b",)",
            )
            header = re.sub(rb"\([^)]*\)", pick(rng, shapes), header)
        case 2:
            header = header.replace(b"False", pick(rng, (b"True", b"None", b"__import__('os')", b"[" * 200)))
        case _:
            header = change_numbers(rng, header, other)
    return data[:8] + (len(header) % 65536).to_bytes(2, "little") + header + data[10 + size :]


def npy_values(rng: Generator, data: bytes, other: bytes) -> bytes:
    """A number among the values of an npy array."""
    start = 10 + int.from_bytes(data[8:10], "little")
    if start + 4 > len(data):
        return data
    at = start + 4 * int(rng.integers((len(data) - start) // 4))
    return write_number(rng, data, at, pick(rng, ("<f", "<f", "<I", "<B")))


def hdf5_field(rng: Generator, data: bytes, other: bytes) -> bytes:
    """A number within 160 bytes of a signature in an HDF5 file: addresses, sizes, counts, messages."""
    found = [match.start() for mark in _HDF5_MARKS for match in re.finditer(re.escape(mark), data)]
    start = pick(rng, found) + int(rng.integers(160)) if found else 0
    return write_number(rng, data, start, pick(rng, ("<B", "<H", "<I", "<Q")))


def unpacked(rng: Generator, data: bytes, other: bytes) -> bytes:
    """Damage to the content of a gzip file, which is packed anew."""
    try:
        content = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data
    damage = pick(rng, (nifti_field, nifti_field, nifti_field, flip_bits, overwrite, truncate, remove, duplicate))
    return gzip.compress(damage(rng, content, other), 1, mtime=0)


_BYTES: Final[tuple[Mutation, ...]] = (
    flip_bits,
    overwrite,
    insert,
    truncate,
    remove,
    duplicate,
    splice,
    write_anywhere,
)
_TEXT: Final[tuple[Mutation, ...]] = (
    *(change_numbers, change_numbers, change_numbers, change_words, change_lines, change_lines, reencode),
    *(flip_bits, overwrite, truncate, remove, duplicate, splice),
)

FORMS: Final[dict[str, tuple[Mutation, ...]]] = {
    "text": _TEXT,
    "ply": (*_TEXT, *_BYTES),
    "stl": (*_BYTES, stl_field, stl_field, change_numbers, change_words, change_lines),
    "glb": (*_BYTES, *[glb_field] * 3, *[glb_json] * 8),
    "nifti": (*_BYTES, *[nifti_field] * 8),
    "nifti-gz": (*_BYTES, *[unpacked] * 10),
    "npz": (*_BYTES, *[zip_field] * 6, *[npz_member] * 10),
    "h5": (*_BYTES, *[hdf5_field] * 10),
}
"""What is done to a file, by its form."""
