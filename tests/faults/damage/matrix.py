"""The matrix of damage: every kind of object, damaged in every way; what readers, validate, repair and Zarr make of it.

`python -m tests.faults.damage.matrix` prints it as it stands in docs/reliability.md.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import NotAStore, StoreChanged, StoreDamaged
from shapestore.preprocess.plan import Plan, rows_from
from shapestore.preprocess.source import SourceItem
from shapestore.preprocess.workers import InProcess
from shapestore.quality.validate import Options, validate
from shapestore.store.layout import PROVENANCE
from shapestore.store.reader import open_store
from shapestore.store.shard_map import Checksums
from tests.faults.damage.stores import (
    History,
    ingest,
    make_history,
    mend,
    no_waiting_for_disks,
    small_index_chunks,
    work,
)
from tests.integration.conftest import tree_digest

Values = Mapping[str, NDArray[Any]]

DAMAGES: Final = ("one bit flipped", "truncated", "emptied", "deleted", "swapped", "older version")


@dataclass(frozen=True)
class Object:
    """One kind of object of a store."""

    name: str
    file: str
    """An example, relative to the store."""
    other: str
    """What it is swapped with: a file of another array, or of another store (`twin:`)."""
    share: float = 0.5
    """Where its file is damaged, as a share of it."""
    byte: int | None = None
    """The same, in bytes from its start; negative: from its end."""
    older: str = "first"
    """Store that has an older version of it."""


OBJECTS: Final = (
    Object("root metadata", "zarr.json", "twin:zarr.json", older="second"),
    Object("array metadata", "pc_xyz/zarr.json", "pc_n/zarr.json", older="second"),
    Object("index array metadata", "valid/zarr.json", "seed/zarr.json", older="second"),
    Object("shard, rows", "pc_xyz/c/0/0/0", "pc_xyz/c/1/0/0", share=0.3),
    Object("shard, index", "pc_xyz/c/0/0/0", "pc_n/c/0/0/0", byte=-20),
    Object("shard, an empty row", "pc_n/c/1/0/0", "pc_xyz/c/1/0/0", share=0.6, older=""),
    Object("shard, the last rows", "pc_n/c/2/0/0", "pc_n/c/1/0/0", share=0.4, older=""),
    Object("packed shard, rows", "udf_grid/c/0/0/0/0", "udf_grid/c/1/0/0/0", share=0.3),
    Object("packed shard, index", "udf_grid/c/0/0/0/0", "twin:udf_grid/c/0/0/0/0", byte=-20),
    Object("index array: ids", "shape_id/c/0", "source_sha256/c/0", byte=262),
    Object("index array: valid", "valid/c/0", "scale/c/0", byte=0),
    Object("index array: scale", "scale/c/0", "twin:scale/c/0", byte=52),
    Object("index array: source hash", "source_sha256/c/0", "twin:source_sha256/c/0", byte=26),
    Object("quarantine", "quarantine/shape_id/c/0", "quarantine/reason/c/0", byte=26),
    Object("integrity", "integrity/sha256/c/0/0/0", "twin:integrity/sha256/c/0/0/0", byte=26),
    Object("ledger of an unfinished ingest", "ledger", "twin:ledger"),
    Object("plan of an unfinished ingest", "plan", "twin:plan"),
    Object("redo log of a killed commit", "redo", "twin:plan", older=""),
)

BESIDE: Final = ("plan", "ledger", "redo")
"""Files that are not of the store, but of the work folder beside it."""

Outcome = Literal["right", "found", "earlier commit", "WRONG DATA"]


@dataclass(frozen=True)
class Cell:
    """What becomes of one object that is damaged in one way."""

    readers: str
    """`right`: they do not need it. `found`: it is named."""
    validate: str
    repair: str
    zarr: str

    def __str__(self) -> str:
        return f"{self.readers}, {self.repair} / {self.zarr}"


def damage(history: History, twin: History, target: Path, what: Object, how: str) -> bool:
    """Damage one object of a copy; false where there is no such damage."""
    file = (work(target) if what.file in BESIDE else target) / what.file
    data = file.read_bytes()
    at = int(what.share * len(data)) if what.byte is None else range(len(data))[what.byte]
    match how:
        case "one bit flipped":
            file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        case "truncated":
            file.write_bytes(data[:at] if at else data[: len(data) // 2])
        case "emptied":
            file.write_bytes(b"")
        case "deleted":
            file.unlink()
        case "swapped":
            shutil.copy(_other(history, twin, target, what), file)
        case "older version" if what.file == "plan":
            items = [SourceItem(*[f"one{number:02d}.obj"] * 3) for number in range(4)]
            root = open_store(target).root
            Plan("append", root.recipe_digest, root.rows_per_shard, rows_from(0, items)).save(work(target))
        case "older version" if what.file == "ledger":
            file.write_bytes(b"".join(data.splitlines(keepends=True)[:-2]))
        case "older version" if what.older:
            shutil.copy(history.folder / f"{what.older}.zarr" / what.file, file)
        case _:
            return False
    return file.exists() is False or file.read_bytes() != data


def _other(history: History, twin: History, target: Path, what: Object) -> Path:
    if what.file in BESIDE:
        return work(twin.unfinished) / what.other.removeprefix("twin:")
    kind, _, name = what.other.rpartition(":")
    return (twin.last if kind else target) / name


def everything(path: Path, checksums: Checksums) -> Iterator[tuple[str, NDArray[Any] | Exception]]:
    """Every array of a store with all that a reader gets of it, or the error that it gets."""
    try:
        store = open_store(path, checksums)
    except (NotAStore, StoreDamaged, StoreChanged) as error:
        yield "", error
        return
    for column, _ in store.root.lengths():
        if not column.path.startswith(PROVENANCE):
            yield column.path, _caught(partial(store.index, column.path))
    for spec in store.root.content.data_arrays:
        yield spec.name, _caught(lambda name=spec.name: store.read(store.rows(), [name])[name])
        yield (
            f"{spec.name}, row by row",
            _caught(lambda view=store[spec.name]: np.stack([view[r] for r in store.rows()])),
        )


def _caught(read: Callable[[], NDArray[Any]]) -> NDArray[Any] | Exception:
    try:
        return read()
    except (StoreDamaged, StoreChanged) as error:
        return error


def by_readers(path: Path, file: str, commits: Mapping[str, Values]) -> Outcome:
    """What shapestore's readers make of a store, in both modes; `commits` is all that they may return."""
    outcomes: set[Outcome] = set()
    modes: tuple[Checksums, ...] = ("first", "always")
    for mode in modes:
        found = dict(everything(path, mode))
        errors = [value for value in found.values() if isinstance(value, Exception)]
        values = {name: value for name, value in found.items() if not isinstance(value, Exception)}
        if errors and file != "zarr.json":  # beside another root, all other files are not the committed ones
            named = any(file in str(error) or isinstance(error, StoreChanged) for error in errors)
            assert named, f"{file} is not named: {errors}"
        fitting = [name for name, commit in commits.items() if _same(values, commit)]
        if not fitting:
            return "WRONG DATA"
        outcomes.add("found" if errors else "earlier commit" if fitting == ["second"] else "right")
    (outcome,) = outcomes
    return outcome


def _same(values: Values, commit: Values) -> bool:
    """Whether all of some values are those of a commit; an array that it has not is not among them."""
    return all(name in commit and _equal(value, commit[name]) for name, value in values.items())


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype == object or other.dtype == object:
        return [str(each) for each in one.tolist()] == [str(each) for each in other.tolist()]
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def by_zarr(path: Path, commits: Mapping[str, Values]) -> str:
    """What zarr-python returns of a store: of rows that hold data, and of index arrays."""
    import zarr

    values: dict[str, NDArray[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            group: Any = zarr.open_group(path, mode="r")
        except Exception:  # whatever it says of damage, it says so
            group = {}
        failed = False
        for name in commits["last"]:
            if ", " not in name:
                try:
                    values[name] = np.asarray(group[name][...])
                except Exception:
                    failed = True
    fitting = [name for name, commit in commits.items() if _fits(values, commit)]
    if not fitting:
        return "WRONG DATA"
    return "error" if failed else "right" if "last" in fitting else "earlier commit"


def _fits(values: Values, commit: Values) -> bool:
    """Whether whole arrays, empty rows included, are those of a commit."""
    valid = np.flatnonzero(commit["valid"])
    return all(
        len(whole) == len(commit["valid"]) and _equal(whole[valid], commit[name])
        if f"{name}, row by row" in commit
        else _equal(whole, commit[name])
        for name, whole in values.items()
    )


def by_validate(path: Path, file: str) -> str:
    """`named`, `nothing` or `a finding`: what `validate --level full` says of the damage."""
    try:
        found = validate(path, Options("full"), InProcess, lambda *_: None).validation.findings
    except (NotAStore, StoreDamaged) as error:
        return "named" if file in str(error) else "WRONG DATA"
    errors = [f"{finding.place} {finding.message}" for finding in found if finding.severity == "error"]
    if any(file in text for text in errors):
        return "named"
    return "a finding" if errors else "nothing"


def cell(history: History, twin: History, target: Path, what: Object, how: str) -> Cell | None:
    """What becomes of one damage; None where there is no such damage."""
    if what.file in BESIDE:
        return _unfinished_cell(history, twin, target, what, how)
    history.copy(history.last, target)
    before = tree_digest(target)
    commits = {name: committed(history.folder / f"{name}.zarr") for name in ("last", "second")}
    if not damage(history, twin, target, what, how):
        return None
    readers = by_readers(target, what.file, commits)
    zarr = by_zarr(target, commits)
    validated = by_validate(target, what.file)
    try:
        outcomes = {each.done for each in mend(target)}
    except (NotAStore, StoreDamaged):
        outcomes = {"refused"}
    if tree_digest(target) == before:
        repaired = "mended"
    elif readers == "earlier commit":
        repaired = "whole"
        assert by_validate(target, what.file) == "nothing"
    else:
        assert "refused" in outcomes, f"{outcomes}, but not what was committed"
        assert by_validate(target, what.file) in ("named", "a finding")
        repaired = "refused"
    return Cell(readers, validated, repaired, zarr)


@cache
def committed(path: Path) -> dict[str, NDArray[Any]]:
    """All that a whole store holds."""
    return {name: value for name, value in everything(path, "always") if not isinstance(value, Exception)}


def _unfinished_cell(history: History, twin: History, target: Path, what: Object, how: str) -> Cell | None:
    """The same ingest command is run again, and repair where that says so: the store must be that of one run."""
    killed = what.file == "redo"
    history.copy(history.killed if killed else history.unfinished, target)
    if not damage(history, twin, target, what, how):
        return None
    commits = {
        path.stem: committed(path) for path in ([history.first, history.second] if killed else [history.unfinished])
    }
    found = by_readers(target, what.file, commits)
    repaired = "finished" if killed else "computed anew"
    try:
        ingest(history, target)
    except StoreDamaged as error:
        said = f"{work(target)}" in str(error) and "shapestore repair" in str(error)
        assert said, error  # noqa: PT017
        assert {each.done for each in mend(target)} == {"dropped"}
        ingest(history, target)
        repaired = "dropped"
    whole = tree_digest(target) == tree_digest(history.last)
    return Cell(found if whole else "WRONG DATA", "nothing", repaired, "not read")


def header() -> str:
    """The first line of the table."""
    return "| object | " + " | ".join(DAMAGES) + " |"


def line(what: Object, cells: Sequence[Cell | None]) -> str:
    """The line of one object."""
    return f"| {what.name} | " + " | ".join(str(each or "-") for each in cells) + " |"


def main() -> None:
    """Print the matrix."""
    with tempfile.TemporaryDirectory() as folder, no_waiting_for_disks(), small_index_chunks():
        history = make_history(Path(folder) / "one")
        twin = make_history(Path(folder) / "twin", "other", seed=100)
        target = Path(folder) / "damaged.zarr"
        print(header(), "|---" * (len(DAMAGES) + 1) + "|", sep="\n")  # noqa: T201
        for what in OBJECTS:
            print(line(what, [cell(history, twin, target, what, how) for how in DAMAGES]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
