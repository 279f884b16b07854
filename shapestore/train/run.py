"""The folder of a run: what was asked, of which stores, and what came of it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from shapestore.errors import StoreDamaged, UsageError, WorkMismatch
from shapestore.schemas.base import Strict, digest
from shapestore.schemas.settings_file import problems_of
from shapestore.store.durable import new_folder, write_synced
from shapestore.store.reader import Store
from shapestore.train.checkpoint import checkpoint_path, checkpoint_steps, read_state
from shapestore.train.readback import flat, require_equal
from shapestore.train.settings import RunConfig

SETTINGS = "settings.yaml"
RECORD = "run.json"

Config = TypeVar("Config", bound=RunConfig)


class TrainedOn(NamedTuple):
    """What is trained on of one store."""

    store: Store
    rows: NDArray[np.int64]


class StoreIdentity(Strict):
    """Which store it was."""

    path: str
    """Where it lay, for people."""
    commit: str
    """Sha256 of the commit: of all that the store holds."""
    schema_digest: str
    """Digest of its schema."""
    recipe_digest: str
    """Digest of its recipe."""

    @classmethod
    def of(cls, store: Store) -> Self:
        """The identity of an open store."""
        root = store.root
        return cls(
            path=str(store.path),
            commit=root.sha256,
            schema_digest=digest(root.content.model_dump(mode="json")),
            recipe_digest=root.recipe_digest,
        )


class TrainedShape(Strict):
    """A shape that is trained on, by what other stores know it by."""

    shape_id: str
    source_sha256: str
    """Hash of its raw input."""
    alone: bool
    """Whether no other shape of its store comes from that input, so that the hash alone tells."""


class RunRecord(Strict):
    """What a run began with, beside its settings."""

    stores: tuple[StoreIdentity, ...]
    """Stores that it is trained on."""
    shapes: tuple[TrainedShape, ...]
    """All shapes that it is trained on, whatever splits of their stores say later."""
    versions: dict[str, str]
    """Versions of this program and of what it computes with."""


class Run:
    """A folder with `settings.yaml`, `run.json`, `log.jsonl`, `tensorboard/` and `checkpoints/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(cls, path: Path, config: RunConfig, trained_on: Sequence[TrainedOn]) -> Self:
        """Make the folder, all of it at once.

        Raises
        ------
        UsageError
            There is something at `path` already.
        """
        if path.exists():
            raise UsageError(f"{path} is there already. Choose another folder, or go on with --resume auto.")
        settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        record = RunRecord(
            stores=tuple(StoreIdentity.of(store) for store, _ in trained_on),
            shapes=tuple(shape for store, rows in trained_on for shape in _shapes(store, rows)),
            versions=versions(),
        )
        with new_folder(path) as building:
            (building / "checkpoints").mkdir()
            write_synced(building / SETTINGS, settings.encode())
            write_synced(building / RECORD, record.model_dump_json(indent=2).encode())
        return cls(path)

    def config(self, kind: type[Config]) -> Config:
        """The settings of the run.

        Raises
        ------
        UsageError
            The folder holds no run, or one of another kind.
        """
        what = f"{self.path / SETTINGS} holds no settings of this kind of run:"
        try:
            return kind.model_validate(yaml.safe_load(self._read(SETTINGS)))
        except yaml.YAMLError as error:
            raise UsageError(f"{what} {error}") from None
        except ValidationError as error:
            raise UsageError("\n".join([what, *(f"  - {each}" for each in problems_of(kind, error))])) from None

    def record(self) -> RunRecord:
        """What the run began with."""
        try:
            return RunRecord.model_validate_json(self._read(RECORD))
        except ValidationError as error:
            raise StoreDamaged(f"{self.path / RECORD} is damaged: {error}") from None

    def checkpoint(self, which: Literal["last", "best"]) -> Path:
        """Folder of the newest or the best checkpoint.

        Raises
        ------
        UsageError
            There is none yet, or the settings do not say what the best one is.
        """
        steps = checkpoint_steps(self.checkpoints)
        if not steps:
            raise UsageError(f"{self.path} has no checkpoint. Train it first, or wait for the first one.")
        last = checkpoint_path(self.checkpoints, steps[-1])
        if which == "last":
            return last
        best = read_state(last).best
        if best is None:
            raise UsageError(
                f"{self.path} has no best checkpoint, as no validation ran or train.best is not set: --checkpoint last."
            )
        return checkpoint_path(self.checkpoints, best.step)

    def require_same(self, config: RunConfig, trained_on: Sequence[TrainedOn]) -> None:
        """Raise `WorkMismatch`, with all that differs, where the run was begun with other settings or other content."""
        remedy = "Go on with what the run was begun with, or begin another run in another folder."
        asked, given = (flat(each.model_dump(mode="json")) for each in (self.config(type(config)), config))
        require_equal(asked, given, f"{self.path} has other settings:", remedy)
        begun = [identity.model_dump(exclude={"path"}) for identity in self.record().stores]
        now = [StoreIdentity.of(store).model_dump(exclude={"path"}) for store, _ in trained_on]
        what = f"{self.path} was trained on a store of other content:"
        require_equal(_by_number(begun), _by_number(now), what, remedy)

    def require_fit(self, store: Store) -> None:
        """Raise `WorkMismatch` where a store has another schema or recipe than all that the run was trained on."""
        now = StoreIdentity.of(store)
        if not any(
            (known.schema_digest, known.recipe_digest) == (now.schema_digest, now.recipe_digest)
            for known in self.record().stores
        ):
            known = ", ".join(f"{each.path} (recipe {each.recipe_digest[:12]})" for each in self.record().stores)
            raise WorkMismatch(
                f"{store.path} has recipe {now.recipe_digest[:12]}, and {self.path} was trained on {known}: their "
                "arrays do not mean the same. Ingest the store with the recipe that the run was trained on."
            )

    def seen(self, store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are of objects that the run was trained on, however the store is divided now; (n,).

        A shape is known by its raw input, whatever it is called now; by its id as well where the input holds others.
        """
        shapes = self.record().shapes
        known = {(shape.shape_id, shape.source_sha256) for shape in shapes}
        inputs = {shape.source_sha256 for shape in shapes if shape.alone}
        everything, groups = store.rows(), store.index("group")
        was = [
            (shape.shape_id, shape.source_sha256) in known or (shape.alone and shape.source_sha256 in inputs)
            for shape in _shapes(store, everything)
        ]
        return np.isin(groups[rows], groups[everything[was]])

    def require_seen(self, store: Store, rows: NDArray[np.int64], seen: bool) -> None:
        """Raise `UsageError` where some rows are of objects that were trained on and should not be, or the reverse."""
        wrong = rows[self.seen(store, rows) != seen]
        if len(wrong):
            raise UsageError(
                f"{len(wrong)} of the {len(rows)} shapes, such as {store.index('shape_id')[wrong[0]]!r}, were "
                f"{'not ' if seen else ''}trained on, and should {'' if seen else 'not '}have been. {store.path} was "
                f"divided otherwise when {self.path} was trained: judge it on a store that is divided as it was then."
            )

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise UsageError(f"{self.path} is no folder of a run: it has no {name}.") from None


def _shapes(store: Store, rows: NDArray[np.int64]) -> list[TrainedShape]:
    sources = store.index("source")
    of_source = Counter(sources[store.rows()].tolist())
    columns = (store.index(name)[rows].tolist() for name in ("shape_id", "source_sha256", "source"))
    return [
        TrainedShape(shape_id=shape_id, source_sha256=sha256, alone=of_source[source] == 1)
        for shape_id, sha256, source in zip(*columns, strict=True)
    ]


def versions() -> dict[str, str]:
    """Versions of this program and of what it computes with."""
    return {name: version(name) for name in ("shapestore", "torch", "numpy")} | {"python": platform.python_version()}


def _by_number(identities: Sequence[dict[str, str]]) -> dict[str, str]:
    return {f"store {n}: {key}": value for n, identity in enumerate(identities) for key, value in identity.items()}
