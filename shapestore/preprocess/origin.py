"""`Origin`: the source of a store whose rows are to be computed once more, as it is found now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shapestore.errors import StoreDamaged, UsageError
from shapestore.preprocess.compute import Gate, Job
from shapestore.preprocess.history import recorded_root
from shapestore.preprocess.source import SourceItem, load_source
from shapestore.store.layout import work_folder
from shapestore.store.reader import Store


@dataclass(frozen=True)
class Origin:
    """Where rows are computed from."""

    job: Job
    items: Mapping[str, SourceItem]
    """Every item that the source has now, by its id."""


def find_origin(store: Store, raw: Path | None, gate: Gate) -> Origin:
    """The source of a store.

    Parameters
    ----------
    store
        The store; nothing of it but the root need be whole.
    raw
        Root of the raw files; None: the recorded one.
    gate
        The gate that a record must pass.

    Raises
    ------
    UsageError
        The root is not known, is not there, or holds nothing of what the store was made from, as a folder does in which
        a disk is not mounted.
    """
    root = raw or _recorded(store)
    if root is None:
        raise UsageError("the store does not say where its raw files lay")
    if not root.exists():
        raise UsageError(f"{root} does not exist")
    items = load_source(store.root.source_kind).discover(root, store.root.recipe).items
    known = _ids(store)
    if not any(known is None or item.shape_id in known for item in items):
        raise UsageError(f"{root} holds nothing of what the store was made from")
    return Origin(job_of(store, root, gate), {item.shape_id: item for item in items})


def job_of(store: Store, root: Path, gate: Gate) -> Job:
    """What computes rows of a store from the raw files below `root`."""
    return Job(
        store=store.path.absolute(),
        work=work_folder(store.path).absolute(),
        raw=root.absolute(),
        source_kind=store.root.source_kind,
        recipe=store.root.recipe,
        schema=store.root.content,
        rows_per_shard=store.root.rows_per_shard,
        gate=gate,
    )


def _recorded(store: Store) -> Path | None:
    try:
        return recorded_root(store)
    except StoreDamaged:
        return None


def _ids(store: Store) -> frozenset[str] | None:
    """Ids of the store's shapes; None where they cannot be read."""
    try:
        return frozenset(store.index("shape_id").tolist())
    except StoreDamaged:
        return None
