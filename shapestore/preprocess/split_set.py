"""Named split sets of a store: an index array of codes beside the dataset's own, for `store.rows(NAME=PART)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from shapestore.errors import UsageError
from shapestore.preprocess.history import describe_run
from shapestore.preprocess.plan import Plan
from shapestore.preprocess.split import MOST_PARTS, Codes, require_shares, split_by_group
from shapestore.schemas.array import Name
from shapestore.store.catalogue import NO_CODE
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.root import Root, read_root
from shapestore.store.writer import StoreWriter

UNPAIRED_PARTS: Final[Mapping[str, float]] = {"train_mesh": 0.34, "train_pc": 0.33, "train_udf": 0.33}
"""NEPA-3D's unpaired training: each shape is seen in one representation only."""


def write_split(
    store: Path,
    name: str,
    parts: Mapping[str, float],
    seed: int,
    *,
    within: str | None = None,
    whole: Mapping[str, str] | None = None,
    replace: bool = False,
) -> dict[str, int]:
    """Divide the rows of a store by `split_by_group`, stratified by category, and commit the result as `name`.

    Rows are taken in the order of their ids, and quarantined ones have a part too: filling them later moves no other.
    Rows that are appended later have none. What was asked is kept in the store's history.

    Parameters
    ----------
    store
        Folder of the store.
    name
        Name of the split set, or `split`, the dataset's own, which is then lost.
    parts
        Name of each part to its share, summing to 1.
    seed
        Of the shuffle.
    within
        Value of `split` whose rows are divided; None: all rows.
    whole
        Further parts that are not drawn: name to the value of `split` whose rows they take, all of them.
    replace
        Whether a set of this name may be written over. Codes of its former parts stay reserved.

    Returns
    -------
    dict[str, int]
        Name of each part to its rows that hold data.

    Raises
    ------
    UsageError
        The shares, the name or a value of `split` do not fit the store, a group has rows in a drawn part and in a whole
        one, or an ingest is unfinished.
    StoreLocked
        Another process writes to the store.
    """
    require_shares(parts)
    whole = dict(whole or {})
    if not all(whole) or parts.keys() & whole.keys():
        raise UsageError(f"whole parts need names of their own; got {', '.join(map(repr, (*parts, *whole)))}.")
    read_root(store)  # a path that is no store must not get a lock folder beside it
    with WriterLock(store):
        if Plan.load(work_folder(store)) is not None:
            raise UsageError(f"{store} has an unfinished ingest. Finish it first: run the same ingest command again.")
        writer = StoreWriter.open(store)
        _require_name(writer.root, store, name, replace)
        chosen = _assign(writer, parts, seed, within, whole)
        names = (*parts, *whole)
        known = tuple(dict.fromkeys((*writer.root.codes.get(name, ()), *names)))
        if len(known) > MOST_PARTS:
            raise UsageError(f"{store}: {name} has had more than {MOST_PARTS} parts. Choose another name.")
        # The last entry is what NO_CODE picks.
        values = np.array([*(known.index(part) for part in names), NO_CODE], np.int8)[chosen]
        asked = {"name": name, "parts": dict(parts), "seed": seed, "within": within, "whole": whole}
        writer.log_run(describe_run("split", workers=1) | {"rows": len(chosen), "seconds": 0.0, **asked})
        root = writer.root.model_copy(update={"codes": {**writer.root.codes, name: known}})
        writer.commit(root, [], columns={name: values})
        valid = writer.column("valid")
    return {part: int(np.count_nonzero(valid & (chosen == code))) for code, part in enumerate(names)}


def write_unpaired(store: Path, name: str = "unpaired", seed: int = 0, replace: bool = False) -> dict[str, int]:
    """Commit the split set of unpaired training: `train` in three parts by representation, and `eval`, all of `test`.

    Parameters and errors are those of `write_split`.
    """
    return write_split(store, name, UNPAIRED_PARTS, seed, within="train", whole={"eval": "test"}, replace=replace)


def _assign(
    writer: StoreWriter, parts: Mapping[str, float], seed: int, within: str | None, whole: Mapping[str, str]
) -> Codes:
    """(rows,) position of each row's part in `(*parts, *whole)`, or NO_CODE."""
    split, groups = writer.column("split"), writer.column("group")
    names = np.array([*writer.root.codes["category"], ""], dtype=object)
    category = names[writer.column("category")]
    chosen = np.full(writer.root.rows, NO_CODE, np.int8)
    free = np.ones(len(chosen), np.bool_)
    for code, value in enumerate(whole.values(), start=len(parts)):
        taken = split == _code(writer, value)
        if not free[taken].all() or value == within:
            raise UsageError(f"the rows of split {value!r} are asked for twice. Give them to one part.")
        chosen[taken], free[taken] = code, False
    if within is not None:
        free &= split == _code(writer, within)
    ids = writer.column("shape_id")
    drawn = np.array(sorted(np.flatnonzero(free).tolist(), key=lambda row: ids[row]), np.int64)
    chosen[drawn] = split_by_group(groups[drawn].tolist(), category[drawn].tolist(), parts, seed)
    _require_no_leak(writer.path, groups, chosen, len(parts))
    return chosen


def _require_no_leak(store: Path, groups: NDArray[Any], chosen: Codes, drawn: int) -> None:
    """Refuse where the dataset's own split parts a group, and with it the drawn and the whole parts."""
    homes: dict[str, int] = {}
    for group, code in zip(groups.tolist(), chosen.tolist(), strict=True):
        home = homes.setdefault(group, code) if code != NO_CODE else code
        if home != code and max(home, code) >= drawn:
            raise UsageError(
                f"{store}: its own split has rows of group {group!r} on both sides, so they would leak from one part "
                "into another. Write a split without whole parts, or write `split` anew first, with replace."
            )


def _code(writer: StoreWriter, value: str) -> int:
    """Code of one value of `split`."""
    names: Sequence[str] = writer.root.codes["split"]
    if value not in names:
        raise UsageError(f"{writer.path}: no split {value!r}. It has: {', '.join(names) or 'none'}.")
    return names.index(value)


def _require_name(root: Root, store: Path, name: str, replace: bool) -> None:
    """Refuse what cannot name a split set, and what is not to be written over."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UsageError(
            f"{name!r} cannot name a split set: names are of a to z, 0 to 9 and _, and begin with a letter."
        ) from None
    if name in root.codes and name != "category":
        if root.codes[name] and not replace:
            parts = ", ".join(root.codes[name])
            raise UsageError(f"{store} has {name} with {parts}. Choose another name, or write over it with --replace.")
        return
    dims = {dim for spec in root.content.arrays for dim in spec.dims} | {"shape", "xyz"}
    if name in dims or any(name == path.partition("/")[0] for path in root.members()):
        raise UsageError(f"{store} has {name} already, and it is no split set. Choose another name.")
