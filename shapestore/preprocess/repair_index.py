"""What a chunk of an index array held, from what else there is; what lacks the committed digest does not count."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, StoreDamaged
from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.preprocess.origin import Origin
from shapestore.preprocess.plan import PlannedItem
from shapestore.preprocess.source import raw_path
from shapestore.schemas.seeding import row_seed
from shapestore.store.catalogue import LOG_COLUMNS, NO_CODE
from shapestore.store.entries import RowEntry
from shapestore.store.index_chunk import salvage_chunk
from shapestore.store.inspect import DamagedChunk
from shapestore.store.layout import INTEGRITY, PROVENANCE, QUARANTINE, shard_path
from shapestore.store.reader import Store
from shapestore.store.salvage import entry_of

Values = NDArray[Any]

Compute = Callable[[Sequence[PlannedItem]], Sequence[RowEntry]]
"""Computes rows from their source; its arrays are not needed here."""


class NotToBeHad(Exception):
    """What a chunk held cannot be told; says what is missing."""


class IndexSource:
    """Tells what index arrays held.

    Parameters
    ----------
    store
        The store, as it was opened after the last change.
    origin
        Finds its source, when it is needed; or a text that says why there is none.
    compute
        Computes rows from it.
    """

    def __init__(self, store: Store, origin: Callable[[], Origin | str], compute: Compute) -> None:
        self._store, self._origin, self._compute = store, origin, compute
        self._entries: dict[int, RowEntry] = {}

    def values(self, damage: DamagedChunk) -> Values:
        """The committed values of a chunk, or fill for one of provenance, which has no digest.

        Raises
        ------
        NotToBeHad
            They cannot be told.
        """
        column = damage.column
        values = column.empty(damage.rows)
        try:
            if column.path.startswith(PROVENANCE):
                return self._unknown(damage)
            digest = self._store.root.chunks[column.path][damage.chunk]
            file = self._store.path / damage.file
            if (salvaged := salvage_chunk(file, column, damage.rows, digest)) is not None:
                return salvaged
            values[:] = self._found(column.path, damage.values)
        except StoreDamaged as error:
            raise NotToBeHad(f"it follows from what is damaged as well: {error}") from None
        if column.digest(values) != digest:
            raise NotToBeHad("what its source gives now is not what was committed")
        return values

    def _unknown(self, damage: DamagedChunk) -> Values:
        values = damage.column.empty(damage.rows)
        _, runs, validation = LOG_COLUMNS
        if damage.column.path == runs.path:  # rows go on to name theirs by number
            numbers = self._store.index(f"{PROVENANCE}/run")
            values[0] = json.dumps([{}] * (int(numbers.max(initial=-1)) + 1))
        elif damage.column.path == validation.path:
            values[0] = "null"
        return values

    def _found(self, name: str, where: range) -> Any:
        """Values of one array from what the others, the shards or the source say."""
        if name.startswith(INTEGRITY):
            return self._of_shards(name, where)
        if name.startswith(QUARANTINE):
            return self._of_quarantine(name.rpartition("/")[2], where)
        if name == "valid":
            return ~np.isin(where, self._store.index(f"{QUARANTINE}/row"))
        if name == "shape_id":
            return self._ids_of_seeds(where)
        ids = self._store.index("shape_id")[where].tolist()
        if name == "seed":
            return [row_seed(self._store.root.recipe.seed, shape_id) for shape_id in ids]
        if name in ("source", "group", *self._store.root.codes):
            return self._of_items(name, ids)
        if name == "source_sha256":
            return [self._sha256(shape_id) for shape_id in ids]
        return self._computed(name, where)

    def _of_shards(self, name: str, where: range) -> Values:
        store, arrays = self._store, self._store.root.content.data_arrays
        per_shard = store.root.rows_per_shard
        found = []
        for group in where:
            for spec in arrays:
                path = store.path / shard_path(spec.name, group, len(spec.shape))
                try:
                    entry = entry_of(path, spec, group * per_shard, store.root.group_rows(group), per_shard)
                except ValueError as error:
                    raise NotToBeHad(f"{path} is damaged as well: {error}") from None
                size = name.endswith("/size")
                found.append(entry.size if size else np.frombuffer(bytes.fromhex(entry.sha256), np.uint8))
        return np.array(found).reshape(len(where), len(arrays), *([] if name.endswith("/size") else [-1]))

    def _of_quarantine(self, name: str, where: range) -> Any:
        if name == "row":
            return np.flatnonzero(~self._store.index("valid"))[where]
        rows = self._store.index(f"{QUARANTINE}/row")[where]
        if name in ("shape_id", "source", "source_sha256"):
            return self._store.index(name)[rows]
        failures = [entry.failure for entry in self._entries_of(rows.tolist())]
        return ["" if failure is None else getattr(failure, name) for failure in failures]

    def _ids_of_seeds(self, where: range) -> list[str]:
        """The seed of a row follows from its id, and is another one for every id."""
        seed = self._store.root.recipe.seed
        ids = {row_seed(seed, shape_id): shape_id for shape_id in self._source.items}
        return [ids.get(each, "") for each in self._store.index("seed")[where].tolist()]

    def _of_items(self, name: str, ids: Sequence[str]) -> list[Any]:
        items = self._source.items
        if name not in ("source", "group", "split", "category"):
            raise NotToBeHad(f"{name} was made here, not by the source: make it again with shapestore split --replace")
        field = {"source": "path"}.get(name, name)
        found = [getattr(items[shape_id], field) if shape_id in items else "" for shape_id in ids]
        if name not in self._store.root.codes:
            return found
        codes = {text: code for code, text in enumerate(self._store.root.codes[name])}
        return [codes.get(text, NO_CODE) for text in found]

    def _sha256(self, shape_id: str) -> str:
        """Hash of an item's raw file; empty, as of an item that could not be read, where there is none."""
        if (item := self._source.items.get(shape_id)) is None:
            return ""
        try:
            path = raw_path(self._source.job.raw, item)
            return source_sha256(path, fingerprint(path))
        except InputRefused:
            return ""

    def _computed(self, name: str, where: range) -> list[Any]:
        """Values that come of computing a row; an empty row has those that a row has before it is computed."""
        valid = self._store.index("valid")[where]
        rows = [row for row, holds in zip(where, valid, strict=True) if holds]
        entries = dict(zip(rows, self._entries_of(rows), strict=True))
        built_in = name in RowEntry.model_fields
        unset = RowEntry.model_fields[name].default if built_in else self._store.root.content.by_name[name].fill
        return [
            unset
            if row not in entries
            else getattr(entries[row], name)
            if built_in
            else entries[row].declared.get(name, unset)
            for row in where
        ]

    def _entries_of(self, rows: Sequence[int]) -> list[RowEntry]:
        ids, items = self._store.index("shape_id"), self._source.items
        missing = [row for row in rows if row not in self._entries]
        if lost := [ids[row] for row in missing if ids[row] not in items]:
            raise NotToBeHad(f"{lost[0]} is not found in its source any more")
        for entry in self._compute([PlannedItem(row, items[ids[row]]) for row in missing]):
            self._entries[entry.row] = entry
        return [self._entries[row] for row in rows]

    @property
    def _source(self) -> Origin:
        if isinstance(origin := self._origin(), str):
            raise NotToBeHad(origin)
        return origin
