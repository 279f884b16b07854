"""What a commit takes: the rows of a row group, and the shards that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shapestore.schemas.base import Strict
from shapestore.store.catalogue import NO_RUN
from shapestore.store.shard import ShardEntry


class Failure(Strict):
    """Why a row is empty."""

    reason: str
    """Short, stable text that failures are grouped by."""
    message: str
    """What was found, for a person."""
    traceback: str = ""
    """Where in the program the error arose."""


class RowEntry(Strict):
    """Everything of one row but its arrays."""

    row: int
    shape_id: str
    split: str = ""
    category: str = ""
    group: str
    source: str
    source_sha256: str = ""
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    seed: int
    declared: Mapping[str, int | float] = {}
    """Values of the schema's own index arrays, such as counts."""
    source_size: int = 0
    source_mtime_ns: int = 0
    seconds: float = 0.0
    run: int = NO_RUN
    """Run that computed the row: its number in the store's history."""
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    """Set where the input is quarantined; the row is then empty."""


@dataclass(frozen=True)
class GroupCommit:
    """One row group as it is to be: changed rows, and a new shard for every array that changed."""

    group: int
    """Number of the row group."""
    rows: Mapping[int, RowEntry]
    """Every row that is new or changed, by its number in the store."""
    shards: Mapping[str, ShardEntry]
    """Size and digest of every changed array's shard."""
    staged: Mapping[str, Path] = field(default_factory=dict)
    """Shards that are not in place yet, by array: they replace committed ones."""
