"""Integrity: whether every shard is the committed one, and every row matches its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shapestore.errors import StoreDamaged
from shapestore.quality.measuring import committed_store
from shapestore.store.reader import Store
from shapestore.store.rowcodec import checksum_holds

ABOUT = "Every shard is there, of the committed size and digest, and every row that is read matches its checksum."


def check_group(path: Path, commit: str, group: int, deep: bool) -> list[StoreDamaged]:
    """Compare the shards of one row group with what the commit says of them.

    Parameters
    ----------
    path, commit, group
        The store, the commit that is validated, and the number of the row group.
    deep
        Also compare every row with its checksum, empty ones included: reads every byte once. Otherwise only sizes,
        indices and digests over the rows' checksums are compared, which reads a few bytes a row.

    Returns
    -------
    list[StoreDamaged]
        Each with its array and rows: the whole group's, or a single one.
    """
    return list(_damage(committed_store(path, commit, "off"), group, deep))


def _damage(store: Store, group: int, deep: bool) -> Iterator[StoreDamaged]:
    first, rows = group * store.root.rows_per_shard, store.root.group_rows(group)
    for spec in store.root.content.data_arrays:
        try:
            shard = store.shard(spec.name, group)
        except StoreDamaged as error:
            yield error
            continue
        for slot in range(rows if deep else 0):
            if not checksum_holds(shard.chunk(slot)):
                try:
                    store.check_row(spec.name, first + slot)
                except StoreDamaged as error:
                    yield error
