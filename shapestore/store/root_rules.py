"""What a root keeps beside the types of its values: so that no name leads out of the store, and no count lies.

A signature says that a root is whole, not who made it: these rules hold for a root that somebody made to do harm.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from shapestore.schemas.array import Name
from shapestore.schemas.row_size import oversized
from shapestore.schemas.store_schema import RESERVED_NAMES
from shapestore.store.layout import INDEX_CHUNK_ROWS, PROVENANCE

if TYPE_CHECKING:
    from shapestore.store.root import Root

BUILT_IN_CODES = ("split", "category")
"""Index arrays of codes that every store has."""


def contradictions(root: Root) -> Iterator[str]:
    """Everything that no writer makes, one sentence each; what follows may rely on what comes first."""
    if root.rows_per_shard > INDEX_CHUNK_ROWS:
        yield f"a row group has more than {INDEX_CHUNK_ROWS} rows"
    yield from _names(root)
    yield from oversized(root.content.data_arrays)
    yield from _values(root)
    yield from _digests(root)


def _names(root: Root) -> Iterator[str]:
    """Names of index arrays become paths, and together with those of dimensions variables of one dataset."""
    yield from (f"there are no codes for {name}" for name in BUILT_IN_CODES if name not in root.codes)
    sets = root.codes.keys() - set(BUILT_IN_CODES)
    yield from (f"{name!r} cannot name an index array" for name in sorted(sets) if not _is_name(name))
    dims = {dim for spec in root.content.arrays for dim in spec.dims}
    taken = RESERVED_NAMES | root.content.by_name.keys()
    yield from (f"{name} has two meanings" for name in sorted(sets & (taken | dims) | taken & dims))


def _is_name(text: str) -> bool:
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError:
        return False
    return True


def _values(root: Root) -> Iterator[str]:
    for spec in root.content.arrays:
        if spec.kind == "index" and spec.shape:
            yield f"the index array {spec.name} has more than one value a row"
        if isinstance(spec.fill, int | float) and abs(spec.fill) > sys.float_info.max:
            yield f"the fill of {spec.name} is no {spec.dtype}"


def _digests(root: Root) -> Iterator[str]:
    """Every chunk of what was committed has its digest: so rows cost whoever declares them."""
    for column, length in root.lengths():
        known = len(root.chunks.get(column.path, ()))
        if not column.path.startswith(PROVENANCE) and known != -(-length // column.chunk_rows):
            yield f"{column.path} has {known} digests for its {length} values"
