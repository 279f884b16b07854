"""The plan: which item goes into which row. It is fixed before any work starts, so nothing later depends on timing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from shapestore.errors import StoreDamaged, UsageError
from shapestore.preprocess.damaged_row import DamagedRow
from shapestore.preprocess.source import Discovery, SourceItem
from shapestore.store.ledger import encode_line, read_lines, write_lines

PLAN = "plan"

MOST_PARTS = 128
"""Small jobs are cut into about this many parts, so that many workers can share them."""

LARGEST_PART = 32
"""Most rows of one part: what is lost when a worker is killed."""


Mode = Literal["append", "retry", "rebuild", "repair"]
"""New rows; or once more those that are empty, whose source has changed or that differ, that are damaged."""


@dataclass(frozen=True)
class PlannedItem:
    """One item and its row."""

    row: int
    item: SourceItem
    damaged: DamagedRow | None = None
    """Set where the row was lost in the store, and is to be had from the same source or not at all."""


@dataclass(frozen=True)
class Plan:
    """Rows to be computed, ascending: new ones at the end of the store, or those that it has once more."""

    mode: Mode
    recipe_digest: str
    rows_per_shard: int
    items: tuple[PlannedItem, ...]

    @cached_property
    def shape_ids(self) -> frozenset[str]:
        """Ids of all planned items."""
        return frozenset(each.item.shape_id for each in self.items)

    def groups(self) -> Iterator[tuple[int, tuple[PlannedItem, ...]]]:
        """Planned items of every row group that has any."""
        start = 0
        while start < len(self.items):
            group = self.items[start].row // self.rows_per_shard
            end = start
            while end < len(self.items) and self.items[end].row // self.rows_per_shard == group:
                end += 1
            yield group, self.items[start:end]
            start = end

    def parts(self) -> Iterator[tuple[int, tuple[PlannedItem, ...]]]:
        """The plan in pieces of work: (row group, a few of its items). A function of the plan alone."""
        size = min(LARGEST_PART, max(1, len(self.items) // MOST_PARTS))
        for group, items in self.groups():
            remaining = iter(items)
            while piece := tuple(islice(remaining, size)):
                yield group, piece

    def save(self, work: Path) -> None:
        """Write the plan durably into the work folder."""
        write_lines(work / PLAN, self._lines())

    @cached_property
    def sha256(self) -> str:
        """Identity of the plan: what was done for another one is of no use to it."""
        return hashlib.sha256(b"".join(map(encode_line, self._lines()))).hexdigest()

    def _lines(self) -> Iterator[Any]:
        yield {
            "mode": self.mode,
            "recipe_digest": self.recipe_digest,
            "rows_per_shard": self.rows_per_shard,
            "items": len(self.items),
        }
        for planned in self.items:
            damaged = {} if planned.damaged is None else {"damaged": asdict(planned.damaged)}
            yield {"row": planned.row, **asdict(planned.item), **damaged}

    @classmethod
    def load(cls, work: Path) -> Plan | None:
        """The plan of an unfinished job, or None.

        Raises
        ------
        StoreDamaged
            The file is damaged.
        """
        if not (work / PLAN).exists():
            return None
        remedy = f"Drop it with: shapestore repair {work.with_name(work.name.removesuffix('.ingest'))}"
        lines = list(read_lines(work / PLAN, remedy))
        if not lines or lines[0]["items"] != len(lines) - 1:
            raise StoreDamaged(f"{work / PLAN} is cut short. {remedy}")
        head = lines[0]
        return cls(head["mode"], head["recipe_digest"], head["rows_per_shard"], tuple(map(_planned, lines[1:])))

    def fits(self, shape_ids: Sequence[str]) -> bool:
        """Whether the plan is of a store with these ids, by its rows."""
        count = len(shape_ids)
        held = [each for each in self.items if each.row < count]
        first, last = self.items[0].row, self.items[-1].row
        follows = first <= count if self.mode == "append" else last < count
        return follows and all(shape_ids[each.row] == each.item.shape_id for each in held)


def _planned(line: dict[str, Any]) -> PlannedItem:
    row, damaged = line.pop("row"), line.pop("damaged", None)
    return PlannedItem(row, SourceItem(**line), damaged and DamagedRow(**damaged))


def sorted_items(discovery: Discovery) -> tuple[SourceItem, ...]:
    """All items by id.

    Raises
    ------
    UsageError
        Two items have the same id.
    """
    counts = Counter(item.shape_id for item in discovery.items)
    twice = sorted(shape_id for shape_id, count in counts.items() if count > 1)
    if twice:
        places = [item.path for item in discovery.items if item.shape_id == twice[0]]
        raise UsageError(
            f"{len(twice)} ids occur more than once, such as {twice[0]!r} in {' and '.join(sorted(places)[:3])}. "
            "Ingest a folder in which every shape has a name of its own."
        )
    return tuple(sorted(discovery.items, key=lambda item: item.shape_id))


def rows_from(first_row: int, items: Sequence[SourceItem]) -> tuple[PlannedItem, ...]:
    """Sorted items in consecutive rows."""
    return tuple(PlannedItem(row, item) for row, item in enumerate(items, start=first_row))
