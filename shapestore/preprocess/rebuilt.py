"""`RebuiltRow`: a row that was computed once more, compared with what the store holds of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict
from shapestore.schemas.record import ShapeRecord
from shapestore.store.entries import Failure, RowEntry
from shapestore.store.listing import listing
from shapestore.store.reader import Store
from shapestore.store.rowcodec import checksum_holds, row_encoder

Outcome = Literal["identical", "different", "failed", "quarantined", "mended"]
"""`failed`: the row holds data, and cannot be computed any more. `quarantined`: it is empty, and would be again for the
same reason. `mended`: it is empty, and can be computed now."""


class ArrayChange(Strict):
    """One array of a row that is not what the store holds."""

    array: str
    values: int
    """Values of the array in one row."""
    differing: int
    """Values whose bytes differ; 0 where the same values are compressed to other bytes."""
    largest: float | None
    """Largest absolute difference of two values; None where none can be told (NaN, or a damaged row)."""
    damaged: bool = False
    """The stored row does not match its checksum."""


class IndexChange(Strict):
    """One index value of a row that is not what the store holds."""

    name: str
    stored: str | int | float | list[float]
    now: str | int | float | list[float]


class RebuiltRow(Strict):
    """One row, computed once more."""

    row: int
    shape_id: str
    outcome: Outcome
    source_changed: bool
    """The raw file is not the one that was read."""
    arrays: tuple[ArrayChange, ...] = ()
    """What differs, in the order of the schema."""
    index: tuple[IndexChange, ...] = ()
    quarantined: Failure | None = None
    """Why the row is empty in the store."""
    failure: Failure | None = None
    """Why it cannot be computed now."""
    seconds: float = 0.0
    """Time that it took to compute."""
    written: bool = False
    """The store holds now what was computed."""


def array_changes(store: Store, row: int, record: ShapeRecord) -> Iterator[ArrayChange]:
    """Every array of a record whose encoded row is not the stored one.

    Raises
    ------
    StoreDamaged
        A shard is lost, or is not the committed one.
    """
    group, slot = divmod(row, store.root.rows_per_shard)
    for spec in store.root.content.data_arrays:
        now = record.arrays[spec.name]
        stored = store.shard(spec.name, group).chunk(slot)
        if not checksum_holds(stored):
            yield ArrayChange(array=spec.name, values=now.size, differing=now.size, largest=None, damaged=True)
        elif stored != row_encoder(spec)(now):
            yield _array_change(spec, store.row(spec.name, row), now)


def _array_change(spec: ArraySpec, stored: NDArray[Any], now: NDArray[Any]) -> ArrayChange:
    # Compared as bits, in which -0 is not 0, and a NaN is itself.
    bits = f"u{spec.numpy_dtype.itemsize}"
    stored, now = np.ascontiguousarray(stored), np.ascontiguousarray(now, spec.numpy_dtype)
    differs = stored.view(bits) != now.view(bits)
    with np.errstate(invalid="ignore"):  # infinite in both
        gaps = np.abs(stored[differs].astype(np.float64) - now[differs].astype(np.float64))
    largest = float(gaps.max(initial=0.0))
    return ArrayChange(
        array=spec.name,
        values=now.size,
        differing=int(differs.sum()),
        largest=largest if math.isfinite(largest) else None,
    )


def judge(store: Store, entry: RowEntry, arrays: Sequence[ArrayChange]) -> RebuiltRow:
    """What is to be said of a row, from what was computed and from what differs in its arrays."""
    quarantined = failure_of(store, entry.row)
    index = tuple(_index_changes(listing(store, [entry.row])[0], entry))
    if quarantined is None and entry.failure is not None:
        outcome: Outcome = "failed"
    elif quarantined is not None and entry.failure is None:
        outcome = "mended"
    elif quarantined is not None and entry.failure is not None:
        same = (quarantined.reason, quarantined.message) == (entry.failure.reason, entry.failure.message)
        outcome = "quarantined" if same and not index else "different"
    else:
        outcome = "different" if arrays or index else "identical"
    return RebuiltRow(
        row=entry.row,
        shape_id=entry.shape_id,
        outcome=outcome,
        source_changed=any(change.name == "source_sha256" for change in index),
        arrays=tuple(arrays),
        index=index,
        quarantined=quarantined,
        failure=entry.failure,
        seconds=entry.seconds,
    )


def _index_changes(stored: Mapping[str, Any], entry: RowEntry) -> Iterator[IndexChange]:
    now = entry.model_dump(include={"category", "group", "source", "source_sha256", "scale", "seed"})
    now |= {"shift": list(entry.shift), **entry.declared}
    for name, value in now.items():
        if stored[name] != value:
            yield IndexChange(name=name, stored=stored[name], now=value)


def failure_of(store: Store, row: int) -> Failure | None:
    """Why a row is empty; None where it holds data."""
    for item in store.quarantine():
        if item["row"] == row:
            return Failure(reason=str(item["reason"]), message=str(item["message"]), traceback=str(item["traceback"]))
    return None
