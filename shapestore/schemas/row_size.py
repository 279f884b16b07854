"""How large one row may be: what writes or reads a row holds it in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shapestore.schemas.array import ArraySpec

MAX_ROW_BYTES = 2**30
"""Most bytes of one uncompressed row of one array: a float32 grid of 645 cells along each axis."""


def oversized(arrays: Iterable[ArraySpec]) -> Iterator[str]:
    """What is to be said of every array whose rows are larger than that, one sentence each."""
    for spec in arrays:
        if spec.row_bytes > MAX_ROW_BYTES:
            yield f"a row of {spec.name} takes more than {MAX_ROW_BYTES // 2**20} MiB"
