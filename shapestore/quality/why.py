"""Why: the whole chain of one shape, from its raw file to what every check measures of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from shapestore.errors import InputRefused, Reason, StoreDamaged
from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.preprocess.history import recorded_root, run_of
from shapestore.preprocess.rebuilt import failure_of
from shapestore.preprocess.source import SourceItem, raw_path
from shapestore.quality.finding import INTEGRITY, Severity
from shapestore.quality.measuring import Job, applicable, measure_rows
from shapestore.quality.registry import installed_checks
from shapestore.schemas.base import Strict
from shapestore.store.entries import Failure
from shapestore.store.listing import listing
from shapestore.store.reader import Store, open_store

FileState = Literal["same", "changed", "missing", "not looked at"]
"""Of the raw file, compared with what was read; `not looked at`: the raw folder is not there."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

REMEDIES: Mapping[str, str] = {
    Reason.ERROR: "This is a fault of the program or of a plug-in: report it with the traceback.",
    Reason.WORKER_DIED: "Compute it once more with fewer workers, each of which then has more memory.",
    Reason.RULE: "The raw file gives arrays that the schema refuses: mend or replace it.",
    Reason.GATE: "Look at the raw file, and mend it. Thresholds belong to the recipe: others need another store.",
}
"""What to do about a quarantined row, where it is not to mend or replace the raw file."""


class SourceFile(Strict):
    """The raw file or folder that a row came from."""

    path: str
    """Relative to the raw root."""
    root: str
    """The raw root, given or recorded; empty where neither is."""
    sha256: str
    """Of what was read; empty where it could not be read."""
    size: int
    """Bytes when it was read."""
    modified: str
    """Time of its last change when it was read, UTC; empty where it could not be read."""
    kind: str
    """Source kind."""
    package: str
    """Installed package that read it, with its version; empty where the history does not say."""
    state: FileState


class CheckValue(Strict):
    """One number of one check for the row."""

    check: str
    measure: str
    value: float | None
    """None: there is nothing to measure in this row, or the number is not finite."""
    unit: str
    low: float | None
    """Least sound number; None: there is no such bound."""
    high: float | None
    """Largest sound number."""
    severity: Severity
    sound: bool


class Why(Strict):
    """The chain of one shape."""

    store: str
    row: int
    shape_id: str
    valid: bool
    source: SourceFile
    recipe: str
    """Name of the recipe."""
    recipe_digest: str
    index: Mapping[str, Any]
    """Every index value of the row by name: split, category, group, seed, shift, scale, counts, ..."""
    run: Mapping[str, Any] | None
    """The run that computed the row; None where the history does not hold it."""
    seconds: float | None
    """Time that the row took to compute."""
    notes: tuple[str, ...]
    quarantined: Failure | None
    """Why the row is empty."""
    damage: tuple[str, ...]
    """What is lost or damaged of the row as it is stored, empty or not: one text an array."""
    remedy: str
    """What to do about the quarantine, and about the damage; empty where there is neither."""
    checks: tuple[CheckValue, ...]
    """What is measured of the row by itself; what concerns the store as a whole is for `validate`."""
    unmeasured: tuple[str, ...]
    """Checks that failed on the row, each with the error; those that damage keeps from reading it are not named."""


def why(path: Path, shape_id: str, raw: Path | None = None) -> Why:
    """Find out where a shape came from, how it was computed, and what the checks say of it.

    Checks that read the raw file are run where the file is still the one that was read.

    Parameters
    ----------
    path, shape_id
        The store and the shape.
    raw
        Root of the raw files; None: the recorded one.

    Raises
    ------
    UsageError
        The store has no such shape; the nearest name is said.
    RecipeInvalid
        The recipe has thresholds of a check that is not installed.
    """
    store = open_store(path)
    row = store.row_of(shape_id)
    index = listing(store, [row])[0]
    run = run_of(store, row)
    root = raw or recorded_root(store)
    source = _source(store, index, run, root)
    quarantined = failure_of(store, row)
    checks, unread, unmeasured = (
        _checks(store, row, root if source.state == "same" else None) if quarantined is None else ((), (), ())
    )
    damage = tuple(dict.fromkeys((*_damage(store, row), *unread)))
    return Why(
        store=str(path),
        row=row,
        shape_id=shape_id,
        valid=quarantined is None,
        source=source,
        recipe=store.root.recipe.name,
        recipe_digest=store.root.recipe_digest,
        index={name: value for name, value in index.items() if name not in ("row", "shape_id", "valid")},
        run=run,
        seconds=_finite(round(float(store.index("provenance/seconds")[row]), 3)),
        notes=tuple(filter(None, store.index("provenance/notes")[row].split("\n"))),
        quarantined=quarantined,
        damage=damage,
        remedy=_remedy(path, shape_id, quarantined, bool(damage)),
        checks=checks,
        unmeasured=unmeasured,
    )


def _source(store: Store, index: Mapping[str, Any], run: Mapping[str, Any] | None, root: Path | None) -> SourceFile:
    reader = run.get("source", {}) if run else {}
    changed = EPOCH + timedelta(microseconds=int(store.index("provenance/source_mtime_ns")[index["row"]]) // 1000)
    return SourceFile(
        path=index["source"],
        root=str(root) if root else "",
        sha256=index["source_sha256"],
        size=int(store.index("provenance/source_size")[index["row"]]),
        modified=changed.isoformat(timespec="seconds") if index["source_sha256"] else "",
        kind=store.root.source_kind,
        package=" ".join(filter(None, (reader.get("package"), reader.get("version")))),
        state=_state(root, index["source"], index["source_sha256"]),
    )


def _state(root: Path | None, source: str, sha256: str) -> FileState:
    """Whether a raw file is still the one that was read: by its hash, whatever its time."""
    if root is None or not root.exists():
        return "not looked at"
    try:
        path = raw_path(root, SourceItem(shape_id="", path=source, group=""))
        found = source_sha256(path, fingerprint(path))
    except InputRefused:
        return "missing"
    return "same" if found == sha256 else "changed"


def _damage(store: Store, row: int) -> Iterator[str]:
    """What cannot be read of a row, array by array."""
    for spec in store.root.content.data_arrays:
        try:
            store.check_row(spec.name, row)
        except StoreDamaged as error:
            yield error.problem


def _remedy(path: Path, shape_id: str, failure: Failure | None, damaged: bool) -> str:
    told = []
    if damaged:
        told.append(f"Mend what is lost or damaged: {shlex.join(['shapestore', 'repair', str(path)])}")
    if failure is not None:
        what = REMEDIES.get(failure.reason, "Mend or replace the raw file.")
        told.append(f"{what} After that: {shlex.join(['shapestore', 'rebuild', str(path), shape_id, '--write'])}")
    return "\n".join(told)


def _checks(
    store: Store, row: int, raw: Path | None
) -> tuple[tuple[CheckValue, ...], tuple[str, ...], tuple[str, ...]]:
    """Every number that the installed checks measure of one row, what they cannot read of it, and which fail on it."""
    names = tuple(check.name for check in installed_checks() if check.scope == "content" or raw is not None)
    job = Job(store.path.absolute(), store.root.sha256, raw.absolute() if raw else None, "always", names)
    measured = measure_rows(job, [row])
    severities = {check.name: check.severity for check, _ in applicable(store.root.content, store.root.recipe, names)}
    values = tuple(
        CheckValue(
            check=check,
            measure=name,
            value=_finite(measure.values[0]),
            unit=measure.unit,
            low=_finite(measure.low),
            high=_finite(measure.high),
            severity=measure.severity or severities[check],
            sound=not measure.broken[0],
        )
        for (check, name), measure in measured.measures.items()
        if len(measure.values)
    )
    unread = tuple(finding.message for finding in measured.findings if finding.check == INTEGRITY)
    failed = (finding for finding in measured.findings if finding.check != INTEGRITY)
    return values, unread, tuple(f"{finding.check}: {finding.message}" for finding in failed)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
