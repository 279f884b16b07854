"""Integrity: whether every shard is the committed one, and every row matches its checksum."""

from __future__ import annotations

from pathlib import Path

from shapestore.errors import StoreDamaged
from shapestore.quality.measuring import committed_store
from shapestore.store.inspect import damaged_shards

ABOUT = "Every shard is there, of the committed size and digest, and every row that is read matches its checksum."


def check_group(path: Path, commit: str, group: int, deep: bool, began: float) -> list[StoreDamaged]:
    """Compare the shards of one row group with what the commit says of them.

    Parameters
    ----------
    path, commit, group
        The store, the commit that is validated, and the number of the row group.
    deep
        Also compare every row with its checksum, empty ones included: reads every byte once. Otherwise only sizes,
        indices and digests over the rows' checksums are compared, which reads a few bytes a row.
    began
        When the validation began, s: tells it from an earlier one of the same commit.

    Returns
    -------
    list[StoreDamaged]
        Each with its array and rows: the whole group's, or a single one.
    """
    return list(damaged_shards(committed_store(path, commit, "off", began), group, deep))
