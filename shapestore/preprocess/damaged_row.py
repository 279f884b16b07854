"""`DamagedRow`: what is to become of a row whose data were damaged in the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.preprocess.source import SourceItem, raw_path
from shapestore.schemas.record import ShapeRecord
from shapestore.store.entries import Failure, RowEntry


@dataclass(frozen=True)
class DamagedRow:
    """What the store says of the source of a row that it has lost."""

    file: str
    """What was damaged, relative to the store."""
    source_sha256: str
    source_size: int
    source_mtime_ns: int
    found: bool
    """Whether the source has the row's item now."""

    def is_unchanged(self, raw: Path, item: SourceItem) -> bool:
        """Whether the item's file or folder below `raw` is what was read, by its hash."""
        try:
            path = raw_path(raw, item)
            return source_sha256(path, fingerprint(path)) == self.source_sha256
        except InputRefused:
            return False

    def settle(self, entry: RowEntry, record: ShapeRecord | None) -> tuple[RowEntry, ShapeRecord | None]:
        """The row as it was computed, if that was from the recorded source; else an empty row that is quarantined.

        An empty row keeps what is recorded of its source, so that it can be told which file would fill it.
        """
        if entry.failure is None and self.found and entry.source_sha256 == self.source_sha256:
            return entry, record
        if not self.found:
            why = "is not found any more"
        elif entry.failure is not None:
            why = f"cannot be computed any more: {entry.failure.reason}: {entry.failure.message}"
        else:
            why = "has changed since it was read"
        failure = Failure(
            reason=Reason.LOST.value,
            message=f"{self.file} was damaged, and {entry.source} {why}",
            traceback=entry.failure.traceback if entry.failure else "",
        )
        kept = {
            "source_sha256": self.source_sha256,
            "source_size": self.source_size,
            "source_mtime_ns": self.source_mtime_ns,
            "failure": failure,
        }
        bare = entry.model_dump(include=set(RowEntry.model_fields) - {"shift", "scale", "declared", "notes"})
        return RowEntry.model_validate(bare | kept), None
