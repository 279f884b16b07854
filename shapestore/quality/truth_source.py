"""Raw files of stored rows: where they are, whether they are still what was read, and which shape in them a row is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shapestore.errors import InputRefused
from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.preprocess.source import SourceItem, load_source, raw_path
from shapestore.quality.check import Batch
from shapestore.schemas.recipe import Recipe


@dataclass(frozen=True)
class RawFile:
    """The raw file, or folder, of one row."""

    path: Path
    unchanged: bool
    """Whether its hash is the one that ingest noted."""


def raw_file(batch: Batch, row: int) -> RawFile | None:
    """The raw file of a row of a batch; None where it is not there or cannot be read."""
    if batch.raw is None:
        raise ValueError("checks of raw files need the folder in which they are")
    name, shape_id = str(batch.index["source"][row]), str(batch.index["shape_id"][row])
    try:
        path = raw_path(batch.raw, SourceItem(shape_id, name, group=shape_id))
        sha256 = source_sha256(path, fingerprint(path))
    except InputRefused:
        return None
    return RawFile(path, sha256 == str(batch.index["source_sha256"][row]))


def position_of(batch: Batch, row: int) -> int | None:
    """Which of the shapes in its file a row is; None where the file holds one only."""
    assert batch.raw is not None, "a row's file was found"  # noqa: S101
    positions = _positions(batch.source_kind, batch.raw, batch.recipe.model_dump_json())
    return positions.get(str(batch.index["shape_id"][row]))


@lru_cache(maxsize=1)
def _positions(kind: str, raw: Path, recipe: str) -> Mapping[str, int]:
    """Shape id to position, for all shapes that share a file; listed once a process."""
    items = load_source(kind).discover(raw, Recipe.model_validate_json(recipe)).items
    return {item.shape_id: item.position for item in items if item.position is not None}
