"""NIfTI label maps: one volume of integers with its place in the world."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.integer_values import to_integers
from shapestore.preprocess.formats.label_image import LabelImage
from shapestore.preprocess.formats.nifti_bytes import raw_bytes
from shapestore.preprocess.formats.nifti_header import LONGEST_HEADER, NiftiHeader, parse_header

LABEL_SUFFIXES: Final = (".nii", ".nii.gz", ".hdr", ".img")
"""Ends of the names of files that `read_label_map` reads, in lower case."""

_MOST_VOXELS: Final = 1 << 30
"""A label map of 1024^3."""


def read_label_map(path: Path) -> LabelImage:
    """Read a label map from a NIfTI-1 or NIfTI-2 file.

    Scaling is applied, and values that are integers up to `integer_values.TOLERANCE` are taken for them, whatever
    type they are stored in; negative ones as well. Axes beyond the third must have length 1. Without q-form and
    s-form the axes are taken to run left, front and up from the centre, as nibabel does, with a note.

    Memory: the voxels in the smallest integer type that holds them, whatever type they are stored in.

    Parameters
    ----------
    path
        `.nii`, `.nii.gz`, or either file of a pair `.hdr` and `.img`.

    Returns
    -------
    LabelImage

    Raises
    ------
    InputRefused
        As `open_raw`; UNSUPPORTED for another suffix, numbers that are not real, or more than 2**30 voxels;
        TRUNCATED if the header declares more than the file holds; MALFORMED and BAD_AFFINE as `parse_header`;
        MALFORMED for a damaged gzip stream; NOT_LABELS for values that are no integers and for several volumes.
    """
    name = path.name.lower()
    if not name.endswith(LABEL_SUFFIXES):
        with raw_bytes(path):  # a file that is missing or empty is refused as such
            raise InputRefused(Reason.UNSUPPORTED, f"{path.name}: {', '.join(LABEL_SUFFIXES)} are read")
    pair = name.endswith((".hdr", ".img"))
    first = path.with_suffix(_in_case_of(path, ".hdr")) if pair else path
    with raw_bytes(first) as file:
        header = parse_header(file.head(LONGEST_HEADER))
    if header.single == pair:
        form = "a pair .hdr and .img" if pair else "a single file"
        raise InputRefused(Reason.MALFORMED, f"{first.name} is named as {form}, but its header says otherwise")
    return _read_voxels(path.with_suffix(_in_case_of(path, ".img")) if pair else path, header)


def _in_case_of(path: Path, suffix: str) -> str:
    """A suffix in the case, upper or lower, in which the path writes its own."""
    return suffix.upper() if path.suffix.isupper() else suffix


def _read_voxels(path: Path, header: NiftiHeader) -> LabelImage:
    """Read what the header announces."""
    volumes = 1
    for length in header.shape[3:]:
        volumes *= length
    if volumes > 1:
        raise InputRefused(Reason.NOT_LABELS, f"holds {volumes} volumes; a label map is one")
    size, what = header.data_size, f"a volume of {'x'.join(map(str, header.shape))} {header.dtype.name}"
    with raw_bytes(path) as file:
        file.refuse_short(what, header.offset + size)
        count = size // header.dtype.itemsize
        if count > _MOST_VOXELS:
            raise InputRefused(Reason.UNSUPPORTED, f"{what} has {count} voxels; at most {_MOST_VOXELS} are read")
        file.skip(header.offset, what)
        blocks = (block.view(header.dtype) for block in file.blocks(size, what))
        try:
            values = to_integers(blocks, count, header.slope, header.inter)
        except InputRefused:
            # A damaged stream unpacks to anything; that it is damaged is known at its end, and says more.
            deque(blocks, maxlen=0)
            file.finish()
            raise
        rest = file.finish()
    voxels = values.reshape(header.shape[:3], order="F")
    notes = list(header.notes)
    if len(header.shape) > 3:
        notes.append(f"{len(header.shape)}-D with one volume: read as 3-D")
    if rest:
        notes.append(f"{counted(rest, 'byte')} after the last voxel ignored")
    return LabelImage(voxels, header.affine, tuple(notes))
