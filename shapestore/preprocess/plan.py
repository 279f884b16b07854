"""The plan: which item goes into which row. It is fixed before any work starts, so nothing later depends on timing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from shapestore.errors import UsageError
from shapestore.preprocess.source import Discovery, SourceItem
from shapestore.store.ledger import read_lines, write_lines

PLAN = "plan"

MOST_PARTS = 128
"""Small jobs are cut into about this many parts, so that many workers can share them."""

LARGEST_PART = 32
"""Most rows of one part: what is lost when a worker is killed."""


@dataclass(frozen=True)
class PlannedItem:
    """One item and its row."""

    row: int
    item: SourceItem


@dataclass(frozen=True)
class Plan:
    """Rows to be computed, ascending: new ones at the end of the store, or empty ones once more."""

    mode: Literal["append", "retry"]
    recipe_digest: str
    rows_per_shard: int
    items: tuple[PlannedItem, ...]

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
        head = {"mode": self.mode, "recipe_digest": self.recipe_digest, "rows_per_shard": self.rows_per_shard}
        lines: list[Any] = [head, *({"row": planned.row, **asdict(planned.item)} for planned in self.items)]
        write_lines(work / PLAN, lines)

    @classmethod
    def load(cls, work: Path) -> Plan | None:
        """The plan of an unfinished job, or None."""
        if not (work / PLAN).exists():
            return None
        head, *lines = read_lines(work / PLAN, f"Delete the folder {work} and ingest again.")
        items = tuple(PlannedItem(line.pop("row"), SourceItem(**line)) for line in lines)
        return cls(head["mode"], head["recipe_digest"], head["rows_per_shard"], items)


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
