"""From raw voxel values, or a mask for each structure, to one map of class codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel


class ValueCodes(NamedTuple):
    """Codes of a map of values, and what had none."""

    codes: NDArray[np.uint8]
    """(X, Y, Z): 0 outside, i + 1 where the voxel has the i-th value."""
    undeclared: tuple[int, ...]
    """Values other than 0 that have no code, ascending; their voxels are 0 in `codes`."""


class MaskCodes(NamedTuple):
    """Codes of several masks, and what they contest."""

    codes: NDArray[np.uint8]
    """(X, Y, Z): 0 outside all masks, else the lowest code among the masks that cover the voxel."""
    lost: Mapping[int, int]
    """Code to the number of its voxels that a lower code took; only codes that lost some."""


def codes_of_values(voxels: NDArray[np.integer[Any]], values: Sequence[int]) -> ValueCodes:
    """Give every voxel the code of its value.

    Parameters
    ----------
    voxels
        (X, Y, Z) raw values of any integer dtype.
    values
        At most 255 different values, none of them 0; the i-th gets the code i + 1.

    Returns
    -------
    ValueCodes
        In the memory order of `voxels`.
    """
    range_ = np.iinfo(voxels.dtype)
    known = {value: code for code, value in enumerate(values, start=1) if range_.min <= value <= range_.max}
    whole = voxels if voxels.flags.c_contiguous or voxels.flags.f_contiguous else np.ascontiguousarray(voxels)
    codes = np.zeros_like(whole, dtype=np.uint8)
    table = np.array(list(known), voxels.dtype), np.array(list(known.values()), np.uint8)
    # Both arrays lie in one order in memory, and the order of the voxels is of no interest.
    if _look_up(whole.ravel(order="K"), *table, codes.ravel(order="K")):
        return ValueCodes(codes, ())
    return ValueCodes(codes, tuple(np.unique(whole[(whole != 0) & (codes == 0)]).tolist()))


@kernel
def _look_up(
    voxels: NDArray[np.integer[Any]],
    values: NDArray[np.integer[Any]],
    value_codes: NDArray[np.uint8],
    codes: NDArray[np.uint8],
) -> bool:
    """Write the code of every voxel's value; returns whether all but 0 have one."""
    complete = True
    last, code = voxels[0], np.uint8(0)
    for row in range(len(voxels)):
        value = voxels[row]
        if value == 0:
            continue
        if row == 0 or value != last:
            last, code = value, np.uint8(0)
            for place in range(len(values)):
                if values[place] == value:
                    code = value_codes[place]
            complete = bool(complete and code > 0)
        codes[row] = code
    return complete


def codes_of_masks(masks: Iterable[tuple[int, NDArray[np.bool_]]]) -> MaskCodes:
    """Lay masks over one another; where several cover a voxel, the lowest code keeps it.

    Parameters
    ----------
    masks
        Code 1..255 and (X, Y, Z) mask, codes ascending and at least one, all on one grid. Masks with one code are
        parts of one class, and lose nothing to one another.

    Raises
    ------
    ValueError
        There is no mask, or the codes do not ascend.
    """
    codes: NDArray[np.uint8] | None = None
    lost: Counter[int] = Counter()
    last = 1
    for code, mask in masks:
        if codes is None:
            codes = np.zeros_like(mask, dtype=np.uint8)
        if not last <= code <= 255:
            raise ValueError(f"codes must ascend within 1 to 255, got {code} after {last}")
        free = mask & ((codes == 0) | (codes == code))
        taken = int(np.count_nonzero(mask)) - int(np.count_nonzero(free))
        codes[free] = code
        last = code
        if taken:
            lost[code] += taken
    if codes is None:
        raise ValueError("there are no masks")
    return MaskCodes(codes, dict(lost))
