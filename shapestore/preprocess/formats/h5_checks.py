"""What is checked of a dataset in an HDF5 file before any of it is read."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import h5py

from shapestore.errors import InputRefused, Reason

MOST_ROWS: Final = 1 << 20
"""Shapes in one file; each becomes an item of its own."""

MOST_ROW_BYTES: Final = 256 << 20
"""Bytes of one shape, and of one chunk, which is unpacked as a whole."""

_FILTERS: Final = {
    h5py.h5z.FILTER_DEFLATE: "deflate",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_LZF: "lzf",
}
"""What every h5py has; others may need a library that the file's author chose."""


def refuse_unsafe_dataset(name: str, dataset: Any) -> None:
    """Refuse as UNSUPPORTED a dataset that would take too much memory, or a foreign filter, to read row by row.

    Parameters
    ----------
    name
        For messages.
    dataset
        An h5py dataset of one dimension or more, whose first are the rows.
    """
    shape, itemsize = dataset.shape, dataset.dtype.itemsize
    if shape[0] > MOST_ROWS:
        raise InputRefused(Reason.UNSUPPORTED, f"{name!r} has {shape[0]} rows; at most {MOST_ROWS} are read")
    for what, sizes in (("row", shape[1:]), ("chunk", dataset.chunks or ())):
        if (size := prod(sizes) * itemsize) > MOST_ROW_BYTES:
            raise InputRefused(
                Reason.UNSUPPORTED,
                f"{name!r} has {what}s of {size >> 20} MiB; at most {MOST_ROW_BYTES >> 20} are read. "
                "Repack it with: h5repack -l CHUNK=...",
            )
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(place)[0] for place in range(created.get_nfilters())]
    foreign = [number for number in filters if number not in _FILTERS]
    if foreign:
        known = ", ".join(_FILTERS.values())
        raise InputRefused(
            Reason.UNSUPPORTED,
            f"{name!r} is packed with the HDF5 filter {foreign[0]}; {known} are read. "
            "Repack it with: h5repack -f GZIP=4",
        )
