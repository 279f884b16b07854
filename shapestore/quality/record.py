"""Keeping the outcome of a validation in the store that was validated, where that does not get in anybody's way."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from shapestore.errors import ShapestoreError
from shapestore.preprocess.plan import Plan
from shapestore.quality.result import Validation
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.writer import StoreWriter


def record(path: Path, validation: Validation) -> str:
    """Write when, at which level and with what outcome a store was validated into its provenance.

    Returns
    -------
    str
        Why it could not be written; empty where it was. A store that nobody may write to, that is being written to, or
        whose metadata is damaged, is left as it is.
    """
    if any(finding.check == "structure" for finding in validation.findings):
        return "the store's structure is damaged"
    try:
        with WriterLock(path):
            if Plan.load(work_folder(path)) is not None:
                return "an ingest is unfinished"
            writer = StoreWriter.open(path)
            if writer.root.sha256 != validation.commit:
                return "the store has changed meanwhile"
            writer.log_validation(
                {
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                    "level": validation.level,
                    "commit": validation.commit,
                    "rows": validation.rows,
                    "checked": validation.checked,
                    "passed": validation.passed,
                    "outcome": validation.outcome,
                }
            )
            writer.commit(writer.root, [])
    except (OSError, ShapestoreError) as error:
        return str(error)
    return ""
