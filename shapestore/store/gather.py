"""Copying many rows from their maps into one buffer, with no Python between two rows."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray


@intrinsic  # type: ignore[untyped-decorator]
def _copy(typing_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy `size` bytes from address `source` to address `target`: the C library's memcpy."""
    del typing_context, target, source, size

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        to, start, count = arguments
        pointers = [builder.inttoptr(address, cgutils.voidptr_t) for address in (to, start)]
        cgutils.raw_memcpy(builder, *pointers, count, 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_rows(sources: NDArray[np.intp], targets: NDArray[np.intp], size: int) -> None:
    """Copy rows of `size` bytes from addresses to addresses.

    The caller keeps what lies at the addresses alive. The interpreter lock is released.
    """
    for i in range(len(sources)):
        _copy(targets[i], sources[i], size)
