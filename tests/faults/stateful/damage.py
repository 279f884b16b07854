"""One file of a store is damaged: which, how, and which rows that may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shapestore.store.layout import PROVENANCE, ROOT, shard_path
from shapestore.store.root import read_root
from tests.faults.stateful.model import ROWS_PER_SHARD, Model, Raw, Row

How = Literal["flipped", "truncated", "deleted"]


@dataclass(frozen=True)
class Damage:
    """A file that is not what was committed."""

    file: str
    """Relative to the store."""
    data: bytes
    """What it held."""
    how: How
    kind: str
    """`metadata`, `index` or `shard`."""
    array: str
    rows: range
    """Rows of the shard."""


def files(store: Path) -> list[tuple[str, str, str, range]]:
    """Every file of the last commit but its root: path, kind, array and rows."""
    root, _ = read_root(store)
    found = [(f"{name}/{ROOT}", "metadata", name, range(0)) for name in root.members()]
    found += [(column.chunk_path(0), "index", column.path, range(0)) for column, length in root.lengths() if length]
    for group in range(root.row_groups):
        first = group * ROWS_PER_SHARD
        rows = range(first, first + root.group_rows(group))
        found += [(shard_path(s.name, group, len(s.shape)), "shard", s.name, rows) for s in root.content.data_arrays]
    return sorted(found, key=lambda each: each[0])


def inflict(store: Path, number: int, how: How, place: float) -> Damage:
    """Damage one file, at a share of its length."""
    known = files(store)
    file, kind, array, rows = known[number % len(known)]
    path = store / file
    data = path.read_bytes()
    position = int(place * len(data))
    path.unlink()  # a file that somebody has mapped is replaced, not written over
    if how == "flipped":
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :])
    elif how == "truncated":
        path.write_bytes(data[:position])
    return Damage(file, data, how, kind, array, rows)


def may_be_refused(damage: Damage, model: Model, raw: Raw) -> bool:
    """Whether repair may have nothing to tell what the file held: raw files have changed, or a user made it."""
    as_read = not any(row.lost or row.content is None or raw.get(row.name) != row.content for row in model.rows)
    if damage.kind == "index" and not damage.array.startswith(PROVENANCE):
        made_here = damage.array in model.parts and (damage.array != "split" or not model.own_split)
        return made_here or not as_read
    return damage.kind == "shard" and not raw.keys() & model.row_of.keys()


def after(damage: Damage, model: Model, raw: Raw) -> Callable[[Model], bool]:
    """Tells whether a repaired store may be what is seen: rows are lost only where their files have changed."""
    could = {n for n in damage.rows if model.rows[n].valid and raw.get(model.rows[n].name) != model.rows[n].content}

    def fits(seen: Model) -> bool:
        lost = {n for n, row in enumerate(seen.rows) if row != model.rows[n]}
        expected = model.with_rows({n: Row(model.rows[n].name, model.rows[n].content, lost=True) for n in lost})
        most = {"flipped": 1, "truncated": len(could), "deleted": len(could)}[damage.how]
        least = len(could) if damage.how == "deleted" else 0
        return lost <= could and least <= len(lost) <= most and seen.visible == expected.visible

    return fits
