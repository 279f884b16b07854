"""Compare: what differs between two stores, shape by shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import StoreDamaged
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict, canonical_json
from shapestore.store.layout import shard_path
from shapestore.store.reader import Store, open_store
from shapestore.store.rowcodec import CHECKSUM_BYTES

Rows = NDArray[np.int64]


class Difference(Strict):
    """One thing that is not the same in both stores; None where a store does not have it."""

    place: str
    a: Any
    b: Any


class Changed(Strict):
    """One array in which rows of shapes that both stores have differ."""

    array: str
    rows: int
    """Rows that differ."""


class Comparison(Strict):
    """What differs between two stores, `a` and `b`. Times, hosts and all else in `provenance` is not compared."""

    version: Literal[1] = 1
    a: str
    b: str
    equal: bool
    """Both hold the same shapes with the same content, in whatever order."""
    layout: tuple[Difference, ...]
    """Format, source kind, rows of a shard."""
    declared: tuple[Difference, ...]
    """Arrays that one of them lacks, and what else is declared otherwise."""
    recipe: tuple[Difference, ...]
    removed: tuple[str, ...]
    """Shapes that only `a` has."""
    added: tuple[str, ...]
    """Shapes that only `b` has."""
    common: int
    """Shapes that both have."""
    moved: int
    """Of these, those that lie in another row. A store that grew has another order than one made at once."""
    changed: tuple[str, ...]
    """Of these, those with other content."""
    arrays: tuple[Changed, ...]
    """Data arrays in which they differ, of the rows that hold data in both."""
    index: tuple[Changed, ...]
    """Index arrays in which they differ; codes are compared by their names."""
    quarantine: tuple[Difference, ...]
    """Of these, those that are quarantined in one store, or for another reason; `place` is the shape."""


def compare_stores(path_a: Path, path_b: Path) -> Comparison:
    """Say what differs between two stores, by shape id.

    What the two commits say is compared, once every shard file is seen to be there and of its committed size. No row
    is read. Shards with the same digest hold the same rows; else rows are the same where their crc32c and sizes are.
    Only packed rows whose compressed bytes differ are decoded, as another release of zstd may compress the same values
    otherwise. An array that is declared with another shape, dtype or kind is a difference of the schema, and its rows
    are not compared.

    Raises
    ------
    NotAStore
        One of the paths holds no store.
    StoreDamaged
        A shard or an index array is lost, or is not the committed one. Of a shard that is not opened only the size is
        looked at: a byte that is changed in it is for `validate` at level `full`.
    """
    a, b = open_store(path_a), open_store(path_b)
    for store in (a, b):
        _look_for_shards(store)
    rows_a, rows_b, removed, added = _matched(a, b)
    index = {name: _index_differs(a, b, name, rows_a, rows_b) for name in _shared_columns(a, b)}
    both = a.index("valid")[rows_a] & b.index("valid")[rows_b]
    arrays = {spec.name: _rows_differ(a, b, spec, rows_a, rows_b, both) for spec in _shared_arrays(a, b)}
    differs = np.any([np.zeros(len(rows_a), bool), *index.values(), *arrays.values()], axis=0)
    found = Comparison(
        a=str(path_a),
        b=str(path_b),
        equal=False,
        layout=tuple(differences(_layout(a), _layout(b))),
        declared=tuple(_declared_differs(a, b)),
        recipe=tuple(differences(a.root.recipe.canonical(), b.root.recipe.canonical())),
        removed=removed,
        added=added,
        common=len(rows_a),
        moved=int((rows_a != rows_b).sum()),
        changed=tuple(a.index("shape_id")[rows_a[differs]]),
        arrays=tuple(_counted(arrays)),
        index=tuple(_counted(index)),
        quarantine=tuple(_quarantine_differs(a, b)),
    )
    parts = (found.layout, found.declared, found.recipe, removed, added, found.changed, found.quarantine)
    return found.model_copy(update={"equal": not any(parts)})


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[Difference]:
    """Every value in which two nested mappings differ, by its dotted key."""
    for key in sorted(a.keys() | b.keys()):
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield Difference(place=f"{prefix}{key}", a=one, b=other)


def _look_for_shards(store: Store) -> None:
    """See that every shard file is there, of the committed size.

    Asking for a size takes microseconds. Asking a file who it is (`Store.shard`) takes less than a millisecond where it
    is in memory, but up to 50 ms where it is not: its rows' checksums lie apart, so that nearly all of it is read.
    """
    size, _ = store.root.integrity_columns
    committed = store.index(size.path)
    broken = [
        (spec.name, group)
        for spec in store.root.content.data_arrays
        for group, expected in enumerate(committed[:, size.attributes["arrays"].index(spec.name)].tolist())
        if _size(store.path / shard_path(spec.name, group, len(spec.shape))) != expected
    ]
    for name, group in broken:
        try:
            store.shard(name, group)
        except StoreDamaged as error:
            files = committed.size
            message = f"{len(broken):,} of {files:,} shard files of {store.path} are lost or of another size. {error}"
            raise StoreDamaged(message, error.array, error.rows) from None


def _size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _layout(store: Store) -> dict[str, Any]:
    root = store.root
    return {"format": root.format, "source": root.source_kind, "rows of a shard": root.rows_per_shard}


def _declared_differs(a: Store, b: Store) -> Iterator[Difference]:
    found = list(differences(_declared(a), _declared(b)))
    yield from found
    if not found:  # the same arrays may still belong to other families, and keep other rules
        yield from differences(_families(a), _families(b))


def _families(store: Store) -> dict[str, Any]:
    families = store.root.content.families
    return {"families": sorted(canonical_json(family.model_dump(mode="json")).decode() for family in families)}


def _declared(store: Store) -> dict[str, Any]:
    """All that is declared of every array but its name; of index arrays, what their codes mean lies with the rows."""
    columns = {column.path: asdict(column) for column in store.root.row_columns}
    dropped = ("path", "fill", "attributes", "chunk_rows")
    index = {name: {k: v for k, v in column.items() if k not in dropped} for name, column in columns.items()}
    return index | {spec.name: spec.model_dump(mode="json", exclude={"name"}) for spec in store.root.content.arrays}


def _matched(a: Store, b: Store) -> tuple[Rows, Rows, tuple[str, ...], tuple[str, ...]]:
    """Rows of the shapes that both have, in the order of `a`, and the ids that only `a`, and only `b` has."""
    ids_a, ids_b = (store.index("shape_id").tolist() for store in (a, b))
    row_b = {shape_id: row for row, shape_id in enumerate(ids_b)}
    rows_a = [row for row, shape_id in enumerate(ids_a) if shape_id in row_b]
    rows_b = [row_b[ids_a[row]] for row in rows_a]
    known = set(ids_a)
    removed = tuple(shape_id for shape_id in ids_a if shape_id not in row_b)
    added = tuple(shape_id for shape_id in ids_b if shape_id not in known)
    return np.array(rows_a, np.int64), np.array(rows_b, np.int64), removed, added


def _shared_columns(a: Store, b: Store) -> Iterator[str]:
    others = {column.path: column for column in b.root.row_columns}
    for column in a.root.row_columns:
        if column.path in others and column.shape == others[column.path].shape:
            yield column.path


def _index_differs(a: Store, b: Store, name: str, rows_a: Rows, rows_b: Rows) -> NDArray[np.bool_]:
    """(n,) whether an index value differs."""
    one, other = _named(a, name)[rows_a], _named(b, name)[rows_b]
    differs = np.asarray(one != other, bool)
    if one.dtype.kind == other.dtype.kind == "f":
        differs &= ~(np.isnan(one) & np.isnan(other))
    return np.asarray(differs.any(axis=tuple(range(1, differs.ndim))))


def _named(store: Store, name: str) -> NDArray[Any]:
    """An index array; names in the place of codes."""
    values = store.index(name)
    return np.array([*store.names(name), ""], object)[values] if name in store.root.codes else values


def _shared_arrays(a: Store, b: Store) -> Iterator[ArraySpec]:
    """Data arrays whose rows can be compared."""
    for spec in a.root.content.data_arrays:
        other = b.root.content.by_name.get(spec.name)
        if other is not None and (spec.shape, spec.dtype, spec.kind) == (other.shape, other.dtype, other.kind):
            yield spec


def _rows_differ(
    a: Store, b: Store, spec: ArraySpec, rows_a: Rows, rows_b: Rows, both: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(n,) whether a row of a data array differs."""
    differs = both & ~_same_shard(a, b, spec.name, rows_a, rows_b)
    open_ = np.flatnonzero(differs)
    differs[open_] = _checksums(a, spec.name, rows_a[open_]) != _checksums(b, spec.name, rows_b[open_])
    if spec.kind == "packed":
        for i in np.flatnonzero(differs).tolist():
            one, other = a.row(spec.name, int(rows_a[i])), b.row(spec.name, int(rows_b[i]))
            differs[i] = one.tobytes() != other.tobytes()
    return differs


def _same_shard(a: Store, b: Store, name: str, rows_a: Rows, rows_b: Rows) -> NDArray[np.bool_]:
    """(n,) whether a row lies at the same place of two shards with one digest, which are the same file."""
    if a.root.rows_per_shard != b.root.rows_per_shard:
        return np.zeros(len(rows_a), bool)
    digests = []
    for store in (a, b):
        _, sha256 = store.root.integrity_columns
        digests.append(store.index(sha256.path)[:, sha256.attributes["arrays"].index(name)])
    shared = min(map(len, digests))
    same = np.zeros(max(map(len, digests)), bool)
    same[:shared] = (digests[0][:shared] == digests[1][:shared]).all(axis=1)
    result: NDArray[np.bool_] = (rows_a == rows_b) & same[rows_a // a.root.rows_per_shard]
    return result


def _checksums(store: Store, name: str, rows: Rows) -> NDArray[np.uint64]:
    """(n,) the crc32c of each row and, above it, its size in the shard."""
    found = np.zeros(len(rows), np.uint64)
    groups, slots = np.divmod(rows, store.root.rows_per_shard)
    order = np.argsort(groups, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(rows) else ():
        shard = store.shard(name, int(groups[here[0]]))
        sizes = np.array(shard.sizes, np.int64)[slots[here]]
        ends = np.array(shard.offsets, np.int64)[slots[here]] + sizes - CHECKSUM_BYTES
        whole = np.frombuffer(shard.bytes, np.uint8)
        checksums = whole[ends[:, np.newaxis] + np.arange(CHECKSUM_BYTES)].view("<u4")[:, 0]
        found[here] = checksums | sizes.astype(np.uint64) << np.uint64(32)
    return found


def _counted(differs: Mapping[str, NDArray[np.bool_]]) -> Iterator[Changed]:
    for name, rows in differs.items():
        if rows.any():
            yield Changed(array=name, rows=int(rows.sum()))


def _quarantine_differs(a: Store, b: Store) -> Iterator[Difference]:
    """Shapes of both stores whose quarantine differs."""
    common = set(a.index("shape_id").tolist()) & set(b.index("shape_id").tolist())
    yield from differences(_refused(a, common), _refused(b, common))


def _refused(store: Store, shape_ids: set[str]) -> dict[str, str]:
    """Why each of these shapes is quarantined, where it is."""
    return {
        str(item["shape_id"]): f"{item['reason']}: {item['message']}"
        for item in store.quarantine()
        if item["shape_id"] in shape_ids
    }
