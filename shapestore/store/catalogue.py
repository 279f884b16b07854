"""The built-in index arrays of a store: what is kept of every row, of every quarantined item, and of every shard."""

from __future__ import annotations

from shapestore.schemas.array import ArraySpec
from shapestore.store.columns import Column, coded
from shapestore.store.layout import INDEX_CHUNK_ROWS, INTEGRITY, PROVENANCE, QUARANTINE

NO_CODE = -1
"""Code of a row that has no split or no category."""

NO_RUN = -1
"""Run of a row of which it is not known."""

ROW_COLUMNS = (
    Column("shape_id", "string", "id of the shape, unique in the store", fill=""),
    Column("valid", "bool", "whether the row holds data; false: its input is quarantined", fill=False),
    Column("split", "int8", "split that the dataset assigns", fill=NO_CODE),
    Column("category", "int32", "class of the shape", fill=NO_CODE),
    Column("group", "string", "key that all variants of one object share", fill=""),
    Column("source", "string", "raw file or folder, relative to the raw root", fill=""),
    Column("source_sha256", "string", "sha256 of the raw input", fill=""),
    Column("shift", "float64", "centre in raw coordinates: normalised = (raw - shift) * scale", (3,), ("shape", "xyz")),
    Column("scale", "float64", "normalised units per raw unit"),
    Column("seed", "int64", "seed of all randomness in the row"),
)
"""One value a row, for every row that was planned."""

PROVENANCE_COLUMNS = (
    Column(f"{PROVENANCE}/source_size", "int64", "bytes of the raw input when it was read", units="byte"),
    Column(f"{PROVENANCE}/source_mtime_ns", "int64", "modification time of the raw input when it was read", units="ns"),
    Column(f"{PROVENANCE}/seconds", "float32", "time that the row took to compute", units="s"),
    Column(f"{PROVENANCE}/notes", "string", "remarks on the row, one a line", fill=""),
    Column(f"{PROVENANCE}/run", "int32", "run that computed the row: number into provenance/runs", fill=NO_RUN),
)
"""One value a row, of what may differ between two runs of the same work."""

QUARANTINE_COLUMNS = (
    Column(f"{QUARANTINE}/row", "int64", "row that stays empty", dims=("item",)),
    Column(f"{QUARANTINE}/shape_id", "string", "id of the shape", dims=("item",), fill=""),
    Column(f"{QUARANTINE}/reason", "string", "why the input was refused", dims=("item",), fill=""),
    Column(f"{QUARANTINE}/message", "string", "what was found", dims=("item",), fill=""),
    Column(f"{QUARANTINE}/source", "string", "raw file or folder", dims=("item",), fill=""),
    Column(
        f"{QUARANTINE}/source_sha256",
        "string",
        "sha256 of the raw input, if readable",
        dims=("item",),
        fill="",
    ),
    Column(f"{PROVENANCE}/traceback", "string", "where in the program the error arose", dims=("item",), fill=""),
)
"""One value a quarantined item, in the order of their rows."""

LOG_COLUMNS = (
    Column(f"{PROVENANCE}/commit", "int64", "number of commits so far", dims=("one",), chunk_rows=1),
    Column(
        f"{PROVENANCE}/runs", "string", "JSON list of the runs that wrote here", dims=("one",), fill="", chunk_rows=1
    ),
    Column(f"{PROVENANCE}/validation", "string", "JSON of the last validation", dims=("one",), fill="", chunk_rows=1),
)
"""Single values about the store's history; of fixed length, so that the root does not depend on it."""


def row_columns(declared: tuple[ArraySpec, ...], codes: dict[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """All root-level index arrays: the built-in ones, the declared ones, and one for each named split set."""
    built_in = [
        Column(c.path, c.dtype, c.long_name, c.shape, c.dims, c.fill, c.units, attributes=coded(codes[c.path]))
        if c.path in codes
        else c
        for c in ROW_COLUMNS
    ]
    own = [
        Column(spec.name, spec.dtype, spec.long_name, fill=spec.fill, units=spec.units, attributes={"role": spec.role})
        for spec in declared
    ]
    names = {column.path for column in built_in}
    sets = [
        Column(name, "int8", f"part of the split set {name}", fill=NO_CODE, attributes=coded(parts))
        for name, parts in codes.items()
        if name not in names
    ]
    return (*built_in, *own, *sets)


def integrity_columns(arrays: tuple[str, ...], rows_per_shard: int) -> tuple[Column, Column]:
    """Size and digest of every shard: a row for each row group, a column for each array."""
    chunk_groups = INDEX_CHUNK_ROWS // rows_per_shard
    names = {"arrays": list(arrays)}
    size = Column(
        f"{INTEGRITY}/size", "int64", "bytes of each shard file", (len(arrays),), ("row_group", "array"),
        units="byte", chunk_rows=chunk_groups, attributes=names,
    )  # fmt: skip
    sha256 = Column(
        f"{INTEGRITY}/sha256", "uint8", "digest of each shard: its array, first row, row checksums and index",
        (len(arrays), 32), ("row_group", "array", "byte"), chunk_rows=chunk_groups, attributes=names,
    )  # fmt: skip
    return size, sha256
