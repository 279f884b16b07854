"""The machine: operations on a raw folder and its store, in any order, each held against the model."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import shapestore
from shapestore import api
from shapestore.errors import ShapestoreError, StoreChanged, StoreDamaged
from shapestore.store.layout import PROVENANCE, work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.reader import Store
from shapestore.store.transaction import is_pending, recover
from tests.faults.stateful import model
from tests.faults.stateful.blows import COMMIT, CREATION, NOWHERE, RESTORATION, ROWS, SHARDS, blows
from tests.faults.stateful.clouds import BROKEN, DERIVABLE, KIND, NAMES, SOUND, Truth, text_of
from tests.faults.stateful.damage import Damage, after, inflict, may_be_refused
from tests.faults.stateful.killed import Blow, Killed, run
from tests.faults.stateful.model import Change, Model, Refusal, settle
from tests.faults.stateful.sight import look, look_at, plan_beside
from tests.integration.conftest import tree_digest

SHARES = ({"fit": 0.5, "held_out": 0.5}, {"fit": 0.7, "spare": 0.3})

names = st.sampled_from(NAMES)

edits = st.dictionaries(names, st.sampled_from((*SOUND, *BROKEN, None)), max_size=5)
"""Shape to what its file says from now on; None: it is removed."""


class AnyHistory(RuleBasedStateMachine):
    """A raw folder, a store that is made from it, and what both should be."""

    folder: ClassVar[Path]
    truth: ClassVar[Truth]
    clock: ClassVar[Iterator[int]] = count(1)

    def __init__(self) -> None:
        super().__init__()
        self.home = self.folder / str(next(self.clock))
        self.raw, self.store = self.home / "raw", self.home / "s.zarr"
        self.raw.mkdir(parents=True)
        self.files: dict[str, str] = {}
        self.model = Model()
        self.damage: Damage | None = None
        self.whole: dict[str, str] = {}
        self.held: tuple[Store, Model] | None = None
        self.killed: set[str] = set()
        """Kinds of operation that were killed, and have not come to their end since."""
        self.judged = True
        """Whether the last operation was found to be right; if not, there is nothing to add at the end."""

    # Raw files

    @initialize(
        sound=st.sets(names, min_size=2),
        broken=st.sets(names, max_size=2),
        blow=blows(*CREATION, *ROWS, *COMMIT),
        again=st.booleans(),
    )
    def begin(self, sound: set[str], broken: set[str], blow: Blow | None, again: bool) -> None:
        self.change_files(dict.fromkeys(sorted(sound), SOUND[0]) | dict.fromkeys(sorted(broken), BROKEN[0]))
        self.do_ingest(False, False, blow, again)

    @rule(changes=edits)
    def change_files(self, changes: Mapping[str, str | None]) -> None:
        """Add, change, break, mend or remove files."""
        for name, content in changes.items():
            if content is not None:
                self.write(name, content)
            elif self.files.pop(name, None) is not None:
                (self.raw / name).unlink()

    def write(self, name: str, content: str) -> None:
        (self.raw / name).write_text(text_of(name, content))
        os.utime(self.raw / name, ns=(0, 10**9 * next(self.clock)))  # as if time passed
        self.files[name] = content

    # Operations

    @precondition(lambda self: self.damage is None)
    @rule(
        changes=edits,
        flags=st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
        blow=blows(*ROWS, *COMMIT),
        again=st.booleans(),
    )
    def ingest(
        self, changes: Mapping[str, str | None], flags: tuple[bool, bool], blow: Blow | None, again: bool
    ) -> None:
        retry, rebuild = flags
        self.change_files(changes)
        self.do_ingest(retry, rebuild, blow, again)

    def do_ingest(self, retry: bool, rebuild: bool, blow: Blow | None, again: bool) -> None:
        self.perform(
            partial(self.run_ingest, self.store, retry, rebuild),
            lambda: model.ingest(self.model, self.files, retry, rebuild),
            blow,
            again,
        )

    @precondition(lambda self: self.damage is None and self.model.exists)
    @rule(changes=edits, whole=st.booleans(), blow=blows(*ROWS, *COMMIT), again=st.booleans())
    def rebuild(self, changes: Mapping[str, str | None], whole: bool, blow: Blow | None, again: bool) -> None:
        self.change_files(changes)
        chosen = None if whole else {*changes} & self.model.row_of.keys() or {*changes}
        self.perform(
            partial(api.rebuild, self.store, chosen and sorted(chosen), raw=self.raw, write=True, workers=0),
            lambda: model.rebuild(self.model, self.files, chosen),
            blow,
            again,
        )

    @precondition(lambda self: self.damage is None and self.model.exists)
    @rule(array=st.sampled_from(DERIVABLE), blow=blows(*SHARDS, *COMMIT), again=st.booleans())
    def derive(self, array: str, blow: Blow | None, again: bool) -> None:
        self.perform(
            partial(api.derive, self.store, array, workers=0),
            lambda: model.derive(self.model, array),
            blow,
            again,
        )

    @precondition(lambda self: self.damage is None)
    @rule(
        name=st.sampled_from(["fold", "other", "split"]),
        shares=st.sampled_from(SHARES),
        seed=st.integers(0, 2),
        replace=st.booleans(),
        blow=blows(*COMMIT),
        again=st.booleans(),
    )
    def split(
        self, name: str, shares: dict[str, float], seed: int, replace: bool, blow: Blow | None, again: bool
    ) -> None:
        self.perform(
            partial(api.split, self.store, name, shares, seed=seed, replace=replace),
            lambda: model.split(self.model, name, shares, seed, replace),
            blow,
            again,
        )

    @precondition(lambda self: self.damage is None and self.model.exists)
    @rule(blow=blows(*COMMIT))
    def validate(self, blow: Blow | None) -> None:
        found = self.perform(
            partial(api.validate, self.store, "full", workers=0), lambda: model.unchanged(self.model), blow, False
        )
        if found is not None:
            assert found.passed, found.findings

    # Damage

    # While an ingest is unfinished, repair drops its plan if rows are damaged: tests/preprocess/test_repair.py.
    @precondition(lambda self: self.damage is None and self.model.rows and not self.pending)
    @rule(
        number=st.integers(0, 10_000),
        how=st.sampled_from(["flipped", "truncated", "deleted"]),
        place=st.floats(0, 1, exclude_max=True),
        blow=blows(*RESTORATION, *ROWS, *COMMIT, most=2),
    )
    def damage_and_repair(self, number: int, how: Any, place: float, blow: Blow | None) -> None:
        self.judged = False
        self.whole = tree_digest(self.store)
        self.damage = inflict(self.store, number, how, place)
        try:
            assert look(self.store, self.truth).visible == self.model.visible
        except StoreDamaged:
            pass
        else:
            hidden = self.damage.kind == "metadata" or self.damage.array.startswith(PROVENANCE)
            assert hidden, f"{self.damage.file} was {how}, and readers do not see it"
        self.repair(blow)

    @precondition(lambda self: self.damage is not None)
    @rule(blow=blows(*RESTORATION, *ROWS, *COMMIT, most=2))
    def repair(self, blow: Blow | None) -> None:
        assert self.damage is not None
        self.judged = False
        try:
            mended = run(partial(api.repair, self.store, raw=self.raw, workers=0), blow)
        except Killed:
            self.judged = True
            return
        damage, self.damage = self.damage, None
        if any(each.done == "refused" for each in mended):
            assert may_be_refused(damage, self.model, self.files), mended
            (self.store / damage.file).write_bytes(damage.data)
            assert not [each for each in api.repair(self.store, raw=self.raw, workers=0) if each.done == "refused"]
        seen = look(self.store, self.truth)
        assert after(damage, self.model, self.files)(seen), f"{self.model}\n{damage}\n{mended}\n{seen}"
        if seen.visible == self.model.visible:
            assert tree_digest(self.store) == self.whole
        self.model = self.model.with_rows(dict(enumerate(seen.rows)))
        assert self.killed or not work_folder(self.store).exists()
        self.judged = True

    # Readers

    @precondition(lambda self: self.damage is None and self.model.exists and not self.pending)
    @rule()
    def reopen(self) -> None:
        """A store that was opened before is read as it was then, or says that it was changed."""
        if self.held is not None:
            store, then = self.held
            try:
                assert look_at(pickle.loads(pickle.dumps(store)), self.truth).visible == then.visible
            except StoreChanged:
                assert store.root.sha256 != shapestore.open(self.store).root.sha256
        self.held = shapestore.open(self.store, checksums="always"), self.model
        assert look_at(self.held[0], self.truth).visible == self.model.visible

    # How an operation is judged

    @property
    def pending(self) -> bool:
        """Whether a killed run is to be gone on with."""
        return self.model.plan is not None or is_pending(self.store)

    def run_ingest(self, store: Path, retry: bool, rebuild: bool) -> None:
        api.ingest(
            KIND, self.raw, store, recipe=str(self.folder / "recipe.yaml"), workers=0, retry=retry, rebuild=rebuild
        )

    def perform(
        self, operation: partial[Any], expected: Callable[[], list[Change]], blow: Blow | None, again: bool
    ) -> Any:
        """Run an operation, perhaps to a kill; hold what came of it against the model."""
        self.judged = False
        changes: list[Change] | None = None
        with suppress(Refusal):
            changes = expected()
        value, refusal, ended = None, None, True
        try:
            value = run(operation, blow)
        except Killed:
            ended = False
        except ShapestoreError as error:
            refusal = error
        assert not isinstance(refusal, StoreDamaged), f"nothing is damaged, and yet: {refusal}"
        half_committed = self.killed and isinstance(refusal, StoreChanged)  # only whoever writes may finish that
        assert refusal is None or changes is None or half_committed, f"it was refused: {refusal}"
        assert refusal is not None or changes is not None or not ended, "it was not refused"
        self.settle(changes if changes and refusal is None else [], ended)
        kind = operation.func.__name__
        if not ended:
            self.killed.add(kind)
        elif refusal is None:
            self.killed.discard(kind)
        left = sorted(path.name for path in work_folder(self.store).rglob("*"))
        assert self.killed or self.model.plan is not None or not left, f"left over: {left}"
        self.judged = True
        if not ended and again:
            return self.perform(operation, expected, blow and NOWHERE, False)
        return value

    def settle(self, changes: list[Change], ended: bool) -> None:
        left = plan_beside(self.store)
        if not is_pending(self.store):
            self.model = settle(self.model, changes, look(self.store, self.truth), left, ended)
        else:
            with suppress(StoreChanged):
                settle(self.model, changes, look(self.store, self.truth), left, ended)
            self.model = settle(self.model, changes, self.recovered(), left, ended)

    def recovered(self) -> Model:
        """What the next writer finds."""
        with TemporaryDirectory(dir=self.home) as folder:
            store = Path(folder) / self.store.name
            shutil.copytree(self.store, store)
            shutil.copytree(work_folder(self.store), work_folder(store))
            with WriterLock(store):
                recover(store)
            return look(store, self.truth)

    def teardown(self) -> None:
        """Gone on with and brought up to date, it is what is made of the raw folder at once, shape by shape."""
        if not self.judged:
            return
        if self.damage is not None:
            self.repair(None)
        for _ in range(2):  # the first goes on with what is unfinished, and does no more
            self.do_ingest(True, True, None, False)
        self.run_ingest(self.home / "at_once.zarr", False, False)
        at_once = look(self.home / "at_once.zarr", self.truth)
        grown = {row.name: row for row in self.model.rows if row.name in self.files}
        assert grown == {row.name: row for row in at_once.rows}
        shutil.rmtree(self.home)
