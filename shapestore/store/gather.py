"""Copying many rows from their maps into one buffer, with no Python between two rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from shapestore.kernel import kernel

PAGE_BYTES = 4096
"""Files are mapped in pages of this size; a larger real one costs a few needless prefetches."""

AHEAD = 16
"""Entries between one that is copied and the one that is asked for: 8 to 64 do as well."""


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


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line of an address, and so for the translation of its page, without waiting for it."""
    del typing_context, address

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        flag = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag]),
            "llvm.prefetch.p0i8",
        )
        read, keep, data = flag(0), flag(3), flag(1)
        builder.call(function, [builder.inttoptr(arguments[0], cgutils.voidptr_t), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@kernel
def copy_rows(sources: NDArray[np.intp], targets: NDArray[np.intp], size: int) -> None:
    """Copy rows of `size` bytes from addresses to addresses.

    The caller keeps what lies at the addresses alive. The interpreter lock is released.

    A copy stops at every page of a mapped file until its address is translated. All pages are asked for before the
    first copy, so that these translations overlap.
    """
    for source in sources:
        for offset in range(0, size, PAGE_BYTES):
            _prefetch(source + offset)
        _prefetch(source + size - 1)
    for i in range(len(sources)):
        _copy(targets[i], sources[i], size)


@kernel
def copy_entries(sources: NDArray[np.intp], picks: NDArray[np.intp], targets: NDArray[np.intp], size: int) -> None:
    """Copy chosen entries of rows, one after another: entry `picks[i, j]` of row i becomes entry j of target i.

    The caller keeps what lies at the addresses alive, and has checked that every pick lies within its row. The
    interpreter lock is released.

    Parameters
    ----------
    sources, targets
        (n,) addresses of the rows, and of what they become.
    picks
        (n, k) numbers of entries.
    size
        Bytes of an entry.
    """
    for i in range(len(sources)):
        for j in range(picks.shape[1]):
            if j + AHEAD < picks.shape[1]:
                _prefetch(sources[i] + size * picks[i, j + AHEAD])
            _copy(targets[i] + size * j, sources[i] + size * picks[i, j], size)
