"""The header of a NIfTI file: shape, number type, scaling and the way to the world."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader, data_type_codes
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason

HEADER_SIZES: Final = {348: 1, 540: 2}
"""Bytes of the header, which its first number states, to the NIfTI version."""

LONGEST_HEADER: Final = max(HEADER_SIZES)

_MAGIC: Final = {
    (1, b"n+1\0"): Nifti1Header,
    (1, b"ni1\0"): Nifti1PairHeader,
    (2, b"n+2\0\r\n\x1a\n"): Nifti2Header,
    (2, b"ni2\0\r\n\x1a\n"): Nifti2PairHeader,
}

_MILLIMETRES: Final = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""NIfTI's codes of the spatial unit: not stated, metre, millimetre, micrometre."""

_UNIT_BITS: Final = 0b111

_SINGULAR: Final = 1e-6
"""An affine is singular if its volume is at most this share of the product of its axes' lengths."""


_MOST_STRETCHED: Final = 1000.0
"""Longest edge of a voxel over the shortest one; what is done at one scale along all axes takes as many more voxels."""


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What a NIfTI header declares, checked."""

    shape: tuple[int, ...]
    """Numbers along each axis, three axes or more, each >= 1."""
    dtype: np.dtype[Any]
    """Real numbers as they lie in the file, with byte order."""
    offset: int
    """Bytes before the voxels, in the file that holds them."""
    single: bool
    """The voxels follow in the same file."""
    slope: float
    inter: float
    """Value = number in the file * slope + inter."""
    affine: NDArray[np.float64]
    """(4, 4) voxel indices to world RAS+ in millimetres."""
    notes: tuple[str, ...]

    @property
    def data_size(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(start: bytes) -> NiftiHeader:
    """Read a NIfTI-1 or NIfTI-2 header of either byte order.

    Parameters
    ----------
    start
        The first `LONGEST_HEADER` bytes of the file, or all of a shorter one.

    Raises
    ------
    InputRefused
        MALFORMED if it is no NIfTI header, or its shape, number type, scaling, unit, spacing or affine cannot be;
        BAD_AFFINE for voxels more than 1000 times longer than wide; TRUNCATED if it is cut short; NOT_LABELS for
        fewer than three axes; UNSUPPORTED for numbers that are not real (colours, complex numbers, bits).
    """
    with np.errstate(all="ignore"):  # fields may hold any bits; results are checked instead
        try:
            return _checked(_raw_header(start))
        except HeaderDataError as error:
            raise _malformed(str(error)) from error


def _raw_header(start: bytes) -> Any:
    """Nibabel's view of the fields, not yet checked."""
    for order in "<>":
        size = struct.unpack(f"{order}i", start[:4])[0] if len(start) >= 4 else 0
        if size not in HEADER_SIZES:
            continue
        if len(start) < size:
            raise InputRefused(Reason.TRUNCATED, f"a header of {size} bytes, of which {len(start)} are there")
        magic = start[344:348] if HEADER_SIZES[size] == 1 else start[4:12]
        kind = _MAGIC.get((HEADER_SIZES[size], magic))
        if kind is None:
            raise _malformed("not NIfTI: the header has its size, but not its magic word (Analyze 7.5?)")
        return kind(start[:size], endianness=order, check=False)
    raise _malformed("not NIfTI: it does not start with the size of a NIfTI header")


def _checked(raw: Any) -> NiftiHeader:
    """All fields, checked."""
    shape = _shape(raw)
    affine, notes = _affine(raw)
    slope, inter = raw.get_slope_inter()
    return NiftiHeader(
        shape=shape,
        dtype=_dtype(raw),
        offset=_offset(raw),
        single=raw.is_single,
        slope=1.0 if slope is None else slope,
        inter=0.0 if inter is None else inter,
        affine=affine,
        notes=notes,
    )


def _shape(raw: Any) -> tuple[int, ...]:
    axes = int(raw["dim"][0])
    if not 1 <= axes <= 7:
        raise _malformed(f"{axes} axes")
    shape = tuple(int(length) for length in raw["dim"][1 : axes + 1])
    if min(shape) < 1:
        raise _malformed(f"the shape {shape}")
    if axes < 3:
        raise InputRefused(Reason.NOT_LABELS, f"{axes} axes; a label map has three")
    return shape


def _dtype(raw: Any) -> np.dtype[Any]:
    code = int(raw["datatype"])
    if code not in data_type_codes:
        raise _malformed(f"the number type code {code}")
    dtype: np.dtype[Any] = raw.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        kind = data_type_codes.label[code]
        raise InputRefused(Reason.UNSUPPORTED, f"voxels of type {kind}; real numbers of at most 64 bits are read")
    return dtype


def _offset(raw: Any) -> int:
    """Where the voxels start; a single file that says 0 means right after the header, as nibabel reads it."""
    offset = float(raw["vox_offset"])
    if not (math.isfinite(offset) and offset >= 0 and offset == int(offset)):
        raise _malformed(f"voxels that start at byte {offset}")
    if raw.is_single and 0 < offset < raw.template_dtype.itemsize:
        raise _malformed(f"voxels that start at byte {int(offset)}, within the header")
    return int(offset) or (raw.single_vox_offset if raw.is_single else 0)


def _affine(raw: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine that the header prefers (s-form, q-form, spacing alone), in millimetres, and what it assumes."""
    spacing = np.asarray(raw["pixdim"][1:4], np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise _malformed(f"the spacing {spacing.tolist()}")
    notes = []
    if int(raw["sform_code"]) == 0 and int(raw["qform_code"]) == 0:
        notes.append("no orientation: assumed axes left, front, up, and the world's origin at the centre")
    if raw["pixdim"][0] == 0:
        raw["pixdim"][0] = 1  # the standard's reading of a q-form without handedness
    try:
        affine = np.array(raw.get_best_affine(), np.float64)
    except ValueError as error:  # a rotation quaternion longer than 1
        raise _malformed(f"the orientation: {error}") from error
    unit = int(raw["xyzt_units"]) & _UNIT_BITS
    if unit not in _MILLIMETRES:
        raise _malformed(f"the unit code {unit}")
    if unit == 0:
        notes.append("no unit of length: assumed millimetres")
    affine[:3] *= _MILLIMETRES[unit]
    axes = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > _SINGULAR * axes.prod()):
        raise _malformed("an affine that is not finite, or singular")
    if axes.max() > _MOST_STRETCHED * axes.min():
        raise InputRefused(Reason.BAD_AFFINE, f"voxels with edges of {', '.join(f'{edge:g}' for edge in axes)} mm")
    return affine, tuple(notes)


def _malformed(what: str) -> InputRefused:
    return InputRefused(Reason.MALFORMED, what)
