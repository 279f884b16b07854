"""What a worker does for `validate`: measure rows, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import StoreChanged, StoreDamaged
from shapestore.quality.check import Batch, Check, Fact, Measure, Settings
from shapestore.quality.finding import Finding, damage
from shapestore.quality.registry import installed_checks, settings_of
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.reader import Store, open_as_is
from shapestore.store.shard_map import Checksums

BATCH_BYTES = 64 * 2**20
"""Values that are in memory at once."""

Key = tuple[str, str]
"""Check, and measure or fact."""


@dataclass(frozen=True)
class Job:
    """What every task of one validation needs to know."""

    store: Path
    commit: str
    """Identity of the commit that is validated."""
    raw: Path | None
    """Root of the raw files; None: checks of scope `source` are left out."""
    checksums: Checksums
    """When row checksums are compared while measuring."""
    names: tuple[str, ...]
    """Checks to run."""
    began: float = 0.0
    """When the validation began, s: files may have been damaged since an earlier one of the same commit."""


@dataclass
class Measured:
    """What was measured of some rows; a check that cannot measure a row has numbers of the others alone."""

    rows: NDArray[np.int64]
    """(m,) the rows."""
    measures: dict[Key, Measure] = field(default_factory=dict)
    facts: dict[Key, tuple[NDArray[np.int64], NDArray[Any]]] = field(default_factory=dict)
    """Rows of each fact, and its values."""
    unmeasured: dict[str, set[int]] = field(default_factory=dict)
    """Check to the rows that it could not measure."""
    unread: set[int] = field(default_factory=set)
    """Those of them of which an array is damaged."""
    findings: dict[Finding, None] = field(default_factory=dict)
    """Why rows could not be read or measured, each once."""

    @classmethod
    def join(cls, parts: Sequence[Measured]) -> Measured:
        """Several pieces as one, by ascending row; a measure that a piece lacks is NaN there."""
        rows = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])
        order = np.argsort(rows, kind="stable")
        whole = cls(rows[order])
        for part in parts:
            whole.take_failures(part)
        for key, first in {key: each for part in parts for key, each in part.measures.items()}.items():
            values = [part.measures[key].values if key in part.measures else _absent(part) for part in parts]
            whole.measures[key] = replace(first, values=np.concatenate(values)[order])
        for key in {key: None for part in parts for key in part.facts}:
            held = [part.facts[key] for part in parts if key in part.facts]
            known, known_values = (np.concatenate(each) for each in zip(*held, strict=True))
            whole.facts[key] = known[np.argsort(known)], known_values[np.argsort(known)]
        return whole

    def take_failures(self, other: Measured) -> None:
        """Count in what could not be measured elsewhere."""
        for check, rows in other.unmeasured.items():
            self.unmeasured.setdefault(check, set()).update(rows)
        self.unread |= other.unread
        self.findings |= other.findings


def measure_rows(job: Job, rows: Sequence[int]) -> Measured:
    """Run the checks of a job on some rows of its store."""
    store = committed_store(job.store, job.commit, job.checksums, job.began)
    schema, recipe = store.root.content, store.root.recipe
    checks = applicable(schema, recipe, job.names)
    row_bytes = max(1, sum(spec.row_bytes for spec in schema.arrays))
    size = max(1, BATCH_BYTES // row_bytes)
    batches = (np.asarray(rows[start : start + size], np.int64) for start in range(0, len(rows), size))
    return Measured.join([_measure_batch(store, job, checks, batch) for batch in batches])


def applicable(schema: StoreSchema, recipe: Recipe, names: Sequence[str]) -> list[tuple[Check, Settings]]:
    """The named checks that the store holds something for, with the recipe's thresholds."""
    settings = settings_of(recipe)
    return [
        (check, settings[check.name])
        for check in installed_checks()
        if check.name in names and check.applies(schema, recipe) is None
    ]


def index_of(store: Store, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Index arrays of some rows; codes as the texts that they stand for."""
    found = {}
    for column in store.root.row_columns:
        values = store.index(column.path)[rows]
        if column.path in store.root.codes:
            names = np.array([*store.names(column.path), ""], dtype=object)  # -1 is the last: no name
            values = names[values]
        found[column.path] = values
    return found


def _measure_batch(
    store: Store, job: Job, checks: Sequence[tuple[Check, Settings]], rows: NDArray[np.int64]
) -> Measured:
    """All checks on one batch."""
    batch = Batch(
        schema=store.root.content,
        recipe=store.root.recipe,
        rows=rows,
        index=index_of(store, rows),
        arrays=_Arrays(store, rows),
        source_kind=store.root.source_kind,
        raw=job.raw,
    )
    done = Measured(rows)
    for check, settings in checks:
        part = _run(check, settings, batch, store)
        done.measures |= part.measures
        done.facts |= part.facts
        done.take_failures(part)
    return done


def _run(check: Check, settings: Settings, batch: Batch, store: Store) -> Measured:
    """One check on one batch; a row that it cannot read or fails on is named, and has no numbers."""
    done = Measured(batch.rows)
    try:
        for found in check.measure(batch, settings):
            _put(done, check, found)
    except StoreDamaged as error:
        lost = batch.rows if error.rows is None else np.intersect1d(batch.rows, np.asarray(error.rows))
        unread = set(lost.tolist())
        without = Measured(
            lost,
            unmeasured={check.name: unread},
            unread=unread,
            findings={damage(error, store.index("shape_id")): None},
        )
        rest = np.flatnonzero(~np.isin(batch.rows, lost)).tolist()
        return Measured.join([without, *([_run(check, settings, _part(batch, rest, store), store)] if rest else [])])
    except Exception as error:  # whatever a check does, the others go on, and so do the other rows
        if len(batch) > 1:
            single = (_part(batch, [position], store) for position in range(len(batch)))
            return Measured.join([_run(check, settings, each, store) for each in single])
        failed = Finding(
            severity="error",
            check=check.name,
            message=f"the check failed on this row: {type(error).__name__}: {error}",
            row=int(batch.rows[0]),
            shape_id=str(batch.index["shape_id"][0]),
            remedy="If the row is sound, this is a fault of the check: report it.",
        )
        return Measured(batch.rows, unmeasured={check.name: set(batch.rows.tolist())}, findings={failed: None})
    return done


def _part(batch: Batch, positions: Sequence[int], store: Store) -> Batch:
    """Some rows of a batch, read by themselves: others of it may be damaged."""
    chosen = list(positions)
    return replace(
        batch,
        rows=batch.rows[chosen],
        index={name: values[chosen] for name, values in batch.index.items()},
        arrays=_Arrays(store, batch.rows[chosen]),
    )


def _put(done: Measured, check: Check, found: Measure | Fact) -> None:
    values = np.asarray(found.values)
    if len(values) != len(done.rows):
        raise ValueError(f"{found.name} has {len(values)} values for {len(done.rows)} rows")
    if isinstance(found, Measure):
        done.measures[check.name, found.name] = replace(found, values=values.astype(np.float64))
    else:
        done.facts[check.name, found.name] = done.rows, values


def _absent(part: Measured) -> NDArray[np.float64]:
    return np.full(len(part.rows), np.nan)


class _Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of some rows, read when a check asks for them and kept for the next one."""

    def __init__(self, store: Store, rows: NDArray[np.int64]) -> None:
        self._store, self._rows = store, rows
        self._held: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._store:
            raise KeyError(name)
        if name not in self._held:
            self._held[name] = self._store.read(self._rows, [name])[name]
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.arrays)

    def __len__(self) -> int:
        return len(self._store.arrays)


@lru_cache(maxsize=2)
def committed_store(path: Path, commit: str, checksums: Checksums, began: float) -> Store:
    """The store as one commit left it; a worker keeps it open from task to task of what began then.

    Raises
    ------
    StoreChanged
        There has been another commit since.
    """
    del began  # part of the cache's key
    store = open_as_is(path, checksums)
    if store.root.sha256 != commit:
        raise StoreChanged(f"{path} was changed by a writer while it was looked at. Run the command again.")
    return store
