"""What readers see of a store, told as a `Model`: every byte of it must be that of a file which a row was made from."""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import shapestore
from shapestore.errors import NotAStore, Reason, RowEmpty
from shapestore.preprocess import plan as plans
from shapestore.store.layout import work_folder
from shapestore.store.reader import Store
from tests.faults.stateful.clouds import BROKEN, DERIVABLE, NAMES, SOUND, Truth, item_of, text_of
from tests.faults.stateful.model import Model, Plan, Row


@cache
def _content_of() -> dict[str, str | None]:
    """Hash of a raw file to what it says; none where there was no file."""
    known = product(NAMES, (*SOUND, *BROKEN))
    return {hashlib.sha256(text_of(*each).encode()).hexdigest(): each[1] for each in known} | {"": None}


def look(path: Path, truth: Truth) -> Model:
    """Read everything that a store holds, with every checksum compared."""
    try:
        store = shapestore.open(path, checksums="always")
    except NotAStore:
        return Model()
    return look_at(store, truth)


def look_at(store: Store, truth: Truth) -> Model:
    """Read everything that an open store holds.

    Raises
    ------
    AssertionError
        A row is not what its file gives, or the store contradicts itself.
    """
    quarantine = {int(item["row"]): item for item in store.quarantine()}
    valid = store.index("valid").tolist()
    assert store.rows().tolist() == [row for row, holds in enumerate(valid) if holds]
    assert [*quarantine] == [row for row, holds in enumerate(valid) if not holds]
    assert (store.root.valid, store.root.quarantined) == (sum(valid), len(valid) - sum(valid))
    rows = []
    for number, name in enumerate(store.index("shape_id").tolist()):
        assert store.row_of(name) == number
        content = _content_of()[store.index("source_sha256")[number]]
        lost = not valid[number] and quarantine[number]["reason"] == Reason.LOST
        rows.append(Row(name, content, lost))
        _require_row(store, number, rows[-1], truth)
        if not valid[number]:
            _require_reason(quarantine[number], rows[-1], truth)
    parts = {name: tuple(_names(store, name)) for name in store.root.codes if name != "category"}
    for name, held in parts.items():
        for part in {*held} - {""}:
            assert store.rows(**{name: part}).tolist() == [n for n in range(len(rows)) if valid[n] and held[n] == part]
    return Model(True, tuple(rows), parts, frozenset(DERIVABLE) & {*store.arrays})


def _names(store: Store, column: str) -> list[str]:
    return [(*store.names(column), "")[code] for code in store.index(column).tolist()]


def _require_row(store: Store, number: int, row: Row, truth: Truth) -> None:
    """A row is what its file gives, to the byte, and empty if that is nothing."""
    item, computed = item_of(row.name), truth.computed(row.name, row.content)
    assert bool(store.index("valid")[number]) == row.valid, row
    assert _names(store, "category")[number] == item.category
    assert (store.index("group")[number], store.index("source")[number]) == (item.group, item.path)
    assert store.index("seed")[number] == computed.entry.seed
    if not row.valid:
        with pytest.raises(RowEmpty, match=row.name):
            store.row("pc_xyz", number)
        return
    assert (*store.index("shift")[number],) == computed.entry.shift
    assert store.index("scale")[number] == computed.entry.scale
    for spec in store.root.content.data_arrays:
        assert store[spec.name][number].tobytes() == computed.arrays[spec.name], (row, spec.name)


def _require_reason(said: dict[str, str | int], row: Row, truth: Truth) -> None:
    failure = truth.computed(row.name, row.content).entry.failure
    assert said["shape_id"] == row.name
    if row.lost:
        assert f"was damaged, and {row.name} " in str(said["message"])
    else:
        assert failure is not None
        assert (said["reason"], said["message"]) == (failure.reason, failure.message), row


def plan_beside(path: Path) -> Plan | None:
    """The plan that a killed run left."""
    plan = plans.Plan.load(work_folder(path))
    if plan is None:
        return None
    return Plan(plan.mode == "append", {each.row: frozenset({Row(each.item.shape_id, None)}) for each in plan.items})
