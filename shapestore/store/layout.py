"""Where things lie: names and numbers of store format 1."""

from __future__ import annotations

from pathlib import Path

FORMAT = 1
"""Number of the format that this package writes."""

INDEX_CHUNK_ROWS = 65_536
"""Rows of one chunk of an index array; a commit rewrites only the chunks that it touches."""

ROOT = "zarr.json"
"""The root's metadata: replacing it is the commit."""

QUARANTINE = "quarantine"
INTEGRITY = "integrity"
PROVENANCE = "provenance"


def work_folder(store: Path) -> Path:
    """Folder beside the store for the lock and everything unfinished; it is gone when nothing is."""
    return store.with_name(store.name + ".ingest")


def shard_path(array: str, group: int, row_dims: int) -> str:
    """Path in the store of the shard that holds row group `group` of `array`, which has `row_dims` row dimensions."""
    return "/".join([array, "c", str(group), *["0"] * row_dims])
