"""What a store must hold, in plain Python: rows in their order, split sets, and what is unfinished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from shapestore.preprocess.split import split_by_group
from tests.faults.stateful.clouds import NAMES, SOUND, item_of

ROWS_PER_SHARD = 4

Raw = Mapping[str, str]
"""Shape to what its file says."""


@dataclass(frozen=True)
class Row:
    """One row: a function of what its file said when it was computed."""

    name: str
    content: str | None
    """None: the file was not there."""
    lost: bool = False
    """It was damaged, and its file was not what it had been."""

    @property
    def valid(self) -> bool:
        """Whether it holds data."""
        return self.content in SOUND and not self.lost


Candidates = Mapping[int, frozenset[Row]]
"""Row number to what it may be; more than one where the raw files changed while work on it was unfinished."""


@dataclass(frozen=True)
class Plan:
    """Rows that are computed together; each row group is a commit of its own."""

    appends: bool
    rows: Candidates
    done: frozenset[int] = frozenset()
    """Rows that are known to be committed already."""

    @property
    def identity(self) -> tuple[bool, frozenset[int]]:
        """What tells it from other plans."""
        return self.appends, frozenset(self.rows)

    def groups(self) -> Iterable[tuple[int, ...]]:
        """Rows of each row group, ascending."""
        numbers = sorted({row // ROWS_PER_SHARD for row in self.rows})
        return [tuple(sorted(row for row in self.rows if row // ROWS_PER_SHARD == number)) for number in numbers]


@dataclass(frozen=True)
class Model:
    """A store after some commit, and the plan that lies beside it."""

    exists: bool = False
    rows: tuple[Row, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"split": ()})
    """Split set, the dataset's own among them, to the part of each row; empty: none."""
    derived: frozenset[str] = frozenset()
    plan: Plan | None = None
    """The plan of a killed run."""
    own_split: bool = True
    """Whether `split` is still what the dataset says."""

    @property
    def visible(self) -> tuple[object, ...]:
        """What readers see of it."""
        return self.exists, self.rows, self.parts, self.derived

    @property
    def row_of(self) -> dict[str, int]:
        """Shape to its row."""
        return {row.name: number for number, row in enumerate(self.rows)}

    def with_rows(self, chosen: Mapping[int, Row]) -> Model:
        """Rows computed once more stay in the parts that they were given; new ones have but the dataset's split."""
        rows = dict(enumerate(self.rows)) | dict(chosen)
        assert sorted(rows) == list(range(len(rows))), "rows follow each other without a gap"
        added = [rows[number].name for number in range(len(self.rows), len(rows))]
        parts = {
            name: (*held, *(item_of(each).split if name == "split" else "" for each in added))
            for name, held in self.parts.items()
        }
        return replace(self, rows=tuple(rows[number] for number in range(len(rows))), parts=parts)


class Refusal(Exception):
    """The model says that an operation is refused."""


Change = Plan | Model
"""What an operation does: a plan, commit by commit; or another store, at once."""


def ingest(model: Model, raw: Raw, retry: bool, rebuild: bool) -> list[Change]:
    """Finish what is unfinished; or compute once more what is to be; then append what is new."""
    changes: list[Change] = [] if model.exists else [replace(model, exists=True)]
    waiting: set[str] = set()
    if model.plan is not None:
        changes.append(resumed(model, raw))
        waiting = {row.name for each in model.plan.rows.values() for row in each}
    else:
        changed = {n for n, row in enumerate(model.rows) if row.valid and raw.get(row.name, row.content) != row.content}
        if changed and not rebuild:
            raise Refusal
        empty = {n for n, row in enumerate(model.rows) if not row.valid and row.name in raw}
        if again := changed | (empty if retry else set()):
            changes.append(Plan(False, {n: frozenset({row_now(model.rows[n].name, raw)}) for n in again}))
    if added := sorted(raw.keys() - model.row_of.keys() - waiting):
        first = max([len(model.rows), *(1 + n for n in (model.plan.rows if model.plan else ()))])
        changes.append(Plan(True, {first + n: frozenset({row_now(name, raw)}) for n, name in enumerate(added)}))
    return changes


def row_now(name: str, raw: Raw) -> Row:
    """A row as it is computed now."""
    return Row(name, raw.get(name))


def resumed(model: Model, raw: Raw) -> Plan:
    """The unfinished plan: a row of it may have been computed before the kill, or is now."""
    assert model.plan is not None
    rows = {}
    for number, candidates in model.plan.rows.items():
        (name,) = {row.name for row in candidates}
        rows[number] = candidates | {row_now(name, raw)}
    return replace(model.plan, rows=rows)


def rebuild(model: Model, raw: Raw, names: Iterable[str] | None) -> list[Change]:
    """Compute rows once more, and replace those that differ."""
    if not model.exists or not {*(names or ())} <= model.row_of.keys():
        raise Refusal
    asked = [n for n, row in enumerate(model.rows) if (row.valid if names is None else row.name in names)]
    if model.plan is not None and (model.plan.appends or not model.plan.rows.keys() <= {*asked}):
        raise Refusal
    changes: list[Change] = [resumed(model, raw)] if model.plan is not None else []
    differing = {}
    for number in asked:
        row = model.rows[number]
        now = row_now(row.name, raw)
        keeps = row.name not in raw or (row.valid and not now.valid)
        if not keeps and now != row and number not in (model.plan.rows if model.plan else ()):
            differing[number] = frozenset({now})
    return [*changes, *([Plan(False, differing)] if differing else [])]


def derive(model: Model, array: str) -> list[Change]:
    """Add an array."""
    if not model.exists or model.plan is not None or array in model.derived:
        raise Refusal
    return [replace(model, derived=model.derived | {array})]


def split(model: Model, name: str, shares: Mapping[str, float], seed: int, overwrite: bool) -> list[Change]:
    """Give every row a part, in the order of their ids; no object is in two."""
    taken = name in model.parts and (name != "split" or bool(model.rows) or not model.own_split)
    if not model.exists or model.plan is not None or (taken and not overwrite):
        raise Refusal
    items = [item_of(each) for each in NAMES if each in model.row_of]
    codes = split_by_group([item.group for item in items], [item.category for item in items], shares, seed)
    part = {item.shape_id: [*shares][code] for item, code in zip(items, codes.tolist(), strict=True)}
    parts = {**model.parts, name: tuple(part[row.name] for row in model.rows)}
    return [replace(model, parts=parts, own_split=model.own_split and name != "split")]


def unchanged(model: Model) -> list[Change]:
    """An operation that readers see nothing of."""
    if not model.exists:
        raise Refusal
    return []


def settle(model: Model, changes: list[Change], seen: Model, left: Plan | None, ended: bool) -> Model:
    """The store that came of an operation.

    Parameters
    ----------
    model, changes
        The store before, and what the operation does to it, one after the other.
    seen
        What readers see now.
    left
        The plan that lies beside the store now.
    ended
        Whether the operation came to its end, or was killed at any instant.

    Raises
    ------
    AssertionError
        What is seen is nothing that an operation may end at, or be killed at.
    """
    now = replace(model, plan=None) if any(isinstance(change, Plan) for change in changes) else model
    for change in changes:
        if isinstance(change, Model):
            if ended or change.visible == seen.visible or (seen.exists and not now.exists):
                now = change
            continue
        done, undone = _committed(now, change, seen)
        now = now.with_rows({row: seen.rows[row] for row in done - change.done})
        assert not (ended and undone), f"rows {sorted(undone)} should have been computed"
        if left is not None and left.identity == change.identity:
            now = replace(now, plan=replace(change, done=done))
            break
        assert not undone or done <= change.done, f"rows {sorted(undone)} were to follow, and no plan says so"
    assert now.visible == seen.visible, f"expected {now}, got {seen}"
    assert (now.plan and now.plan.identity) == (left and left.identity), f"expected {now.plan}, got the plan {left}"
    return now


def _committed(model: Model, plan: Plan, seen: Model) -> tuple[frozenset[int], frozenset[int]]:
    """Rows of a plan that can but be what they are to be, and those that can but be what they were."""
    done, undone = set(plan.done), set[int]()
    for rows in plan.groups():
        if plan.done.issuperset(rows):
            continue
        new = all(seen.rows[row : row + 1] and seen.rows[row] in plan.rows[row] for row in rows)
        same = all(seen.rows[row : row + 1] == model.rows[row : row + 1] for row in rows)
        assert new or same, f"rows {rows} of one row group are {seen.rows[rows[0] :]}, not all of {plan.rows}"
        done.update(rows if new and not same else ())
        undone.update(rows if same and not new else ())
    return frozenset(done), frozenset(undone)
