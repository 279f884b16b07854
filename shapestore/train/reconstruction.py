"""Reconstruction of labelled shapes from points on their surfaces: its settings, and what is built from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from shapestore.errors import UsageError
from shapestore.schemas.base import Strict
from shapestore.schemas.families import SdfSamples
from shapestore.schemas.recipe import Seed
from shapestore.schemas.settings_file import in_words, read_settings
from shapestore.store.reader import Store
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import RandomDraw, StratifiedDraw
from shapestore.train.models.settings import VecSetSettings
from shapestore.train.objectives.presets import objective_preset
from shapestore.train.objectives.settings import LabelledSdfSettings
from shapestore.train.settings import RunConfig

BUILT_IN: Final = ("vecset-tiny", "vecset-small", "vecset-paper")
"""Names of the recipes that ship with the package."""

SURFACE: Final = ("surface_points", "surface_labels")
VOLUME: Final = ("vol_points", "vol_sdf", "vol_labels")
NEAR: Final = ("near_points", "near_sdf", "near_labels")

JUDGED: Final = 4096
"""Queries by which a model is judged: inside, outside and near each. By 128 near ones of each of six shapes their IoU
was off by 0.02 to 0.08."""


class DataSettings(Strict):
    """Which shapes are trained on, and what of each a sample has."""

    split: str = "split"
    """Index array that divides the shapes: the dataset's own split, or one of `shapestore split`."""
    train: str = "train"
    """Its part that is trained on."""
    validation: str | None = "val"
    """Its part that is validated on, another one; None: no validation."""
    surface: PositiveInt = 8192
    """Surface points of a sample, with their classes: what the model sees of the shape."""
    inside: PositiveInt = 1024
    """Volume queries inside the shape."""
    outside: PositiveInt = 1024
    """Volume queries outside."""
    near: PositiveInt = 1024
    """Queries near the surface."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle, degrees, by which a training sample is turned. It is never mirrored: left and right have names."""
    seed: Seed = 0
    """Seed of the draws and of the order."""

    @model_validator(mode="after")
    def _parts_differ(self) -> Self:
        """What a model is judged by is not what it was trained on."""
        if self.validation == self.train:
            raise ValueError(
                f"train and validation are both {self.train!r}, so that the best checkpoint would be chosen by what it "
                "was trained on: name another part, or set validation to null for none"
            )
        return self


class ReconstructionConfig(RunConfig):
    """A run that learns to reconstruct labelled shapes."""

    model: VecSetSettings
    """The model."""
    objective: LabelledSdfSettings = LabelledSdfSettings()
    """What is minimised."""
    data: DataSettings = DataSettings()
    """What is trained on."""

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        """The objective speaks of classes of the model, and the model has the points that it starts from."""
        problems = []
        loss, classes = self.objective.class_loss, self.model.classes
        if (highest := max(loss.class_weights, default=0)) > classes:
            problems.append(
                f"objective.class_loss.class_weights names class {highest}, but model.classes is {classes}: name "
                f"classes 1 to {classes} alone, and in the place of a named objective set its values, such as "
                f"objective.class_loss={{kind: {loss.kind}, class_weights: {{{classes}: 2.0}}}}"
            )
        if self.model.start == "fps" and self.model.latents > self.data.surface:
            problems.append(
                f"model.start is fps, which takes the model.latents = {self.model.latents} from the data.surface = "
                f"{self.data.surface} points of a shape: raise data.surface, or lower model.latents"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Samples:
    """The samples of a store that a model is trained on, and those that it is judged by.

    Attributes
    ----------
    dataset
        What is trained on.
    validation
        What validations judge by; None: there are none.
    """

    def __init__(self, store: Store, settings: DataSettings) -> None:
        self.dataset = samples(store, rows_of(store, settings.split, settings.train), settings)
        self.validation: ShapeDataset | None = None
        if settings.validation is not None:
            rows = rows_of(store, settings.split, settings.validation)
            self.validation = samples(store, rows, settings, judged=True)
        self._asked = settings

    @property
    def settings(self) -> DataSettings:
        """The settings in effect: parts are read from the rows of the datasets, what is drawn from that for training.

        `split` alone is what was asked for: it says by what the rows are told.
        """
        surface, volume, near = self.dataset.draws
        assert isinstance(volume, StratifiedDraw)  # noqa: S101
        split = self._asked.split
        return self._asked.model_copy(
            update={
                "train": _part_of(self.dataset, split),
                "validation": None if self.validation is None else _part_of(self.validation, split),
                "surface": surface.size,
                "inside": volume.counts["inside"],
                "outside": volume.counts["outside"],
                "near": near.size,
                "rotation": self.dataset.rotation,
                "seed": self.dataset.seed,
            }
        )


def read_config(name_or_file: str, settings: Iterable[str] = (), classes: int = 10) -> ReconstructionConfig:
    """Read a recipe of training.

    Parameters
    ----------
    name_or_file
        Name of a built-in recipe, or path of a YAML file.
    settings
        `key=value` texts such as `train.steps=500`, or `objective=upstream` for a named objective.
    classes
        Number of classes where the recipe does not say it, as the built-in ones do not.

    Raises
    ------
    RecipeInvalid
        Unknown name, bad YAML, unknown or misspelt keys, values out of range: every problem at once.
    UsageError
        No objective has the name that is given.
    """
    folder = files("shapestore.train.recipes")
    values = read_settings(name_or_file, {name: folder.joinpath(f"{name}.yaml") for name in BUILT_IN}, settings)
    if isinstance(model := values.get("model"), dict):
        model.setdefault("classes", classes)
    if isinstance(objective := values.get("objective"), str):
        values["objective"] = objective_preset(objective).model_dump()
    with in_words(ReconstructionConfig, f"recipe {name_or_file}"):
        return ReconstructionConfig.model_validate(values)


def load_config(name_or_file: str, settings: Iterable[str], store: Store) -> ReconstructionConfig:
    """`read_config`, with the number of classes that the store has.

    Raises
    ------
    UsageError
        The store has no labelled samples, or another number of classes than the recipe says; as `read_config`.
    """
    classes = len(class_names(store))
    config = read_config(name_or_file, settings, classes)
    if config.model.classes != classes:
        raise UsageError(
            f"model.classes is {config.model.classes}, and {store.path} has {classes} classes: "
            f"{', '.join(class_names(store))}. Leave the setting out, and the store's number is taken."
        )
    return config


def class_names(store: Store) -> tuple[str, ...]:
    """Names of the classes of a store, those of codes 1, 2, ...

    Raises
    ------
    UsageError
        It has no labelled volume samples, as stores of label maps do.
    """
    for family in store.root.content.families:
        if isinstance(family, SdfSamples) and family.where == "volume" and family.labels is not None:
            return tuple(code.name for code in family.labels.codes if code.value > 0)
    raise UsageError(
        f"{store.path} has no labelled samples of signed distance. Ingest label maps: shapestore ingest cardiac ..."
    )


def rows_of(store: Store, split: str, part: str) -> NDArray[np.int64]:
    """Rows of one part of a split, at least one.

    Raises
    ------
    UsageError
        There is no such split or part, or it is empty: says how to divide the store.
    """
    divide = f"Divide it by cases with: shapestore split {store.path} {split} --parts train=0.8,val=0.1,test=0.1"
    try:
        rows = store.rows(**{split: part})
    except UsageError as error:
        raise UsageError(str(error) if split in store.root.codes else f"{error} {divide}") from None
    if not len(rows):
        raise UsageError(f"{store.path} has no shape whose {split} is {part}. {divide}")
    return rows


def _part_of(dataset: ShapeDataset, split: str) -> str:
    """Name of the part of a split that a dataset is all of; else how much of which parts it has."""
    store = dataset.store
    values = store.index(split)  # codes, or names as they are
    names = {-1: "no part", **dict(enumerate(store.root.codes.get(split, ())))}
    stored, taken = (Counter(values[rows].tolist()) for rows in (store.rows(), dataset.rows))
    parts = {value: str(names.get(value, value)) for value in sorted(taken)}
    if len(parts) == 1 and taken.items() <= stored.items():
        return "".join(parts.values())
    return ", ".join(f"{taken[value]} of {stored[value]} shapes of {part}" for value, part in parts.items())


def samples(store: Store, rows: NDArray[np.int64], settings: DataSettings, *, judged: bool = False) -> ShapeDataset:
    """Samples of some rows, each with surface points and three kinds of queries.

    Parameters
    ----------
    store, rows
        The shapes.
    settings
        How much of each is drawn.
    judged
        Whether the samples are to judge a model, not to train it: they are not turned, and have `JUDGED` queries of
        each kind. Those near the surface are drawn with replacement, so that some come more than once; others do
        only where a shape has fewer of them.
    """
    queries = {"inside": JUDGED, "outside": JUDGED, "near": JUDGED} if judged else {}
    drawn = settings.model_copy(update=queries)
    draws = (
        RandomDraw(arrays=SURFACE, count=settings.surface),
        StratifiedDraw(arrays=VOLUME, by="vol_sdf", counts={"inside": drawn.inside, "outside": drawn.outside}),
        RandomDraw(arrays=NEAR, count=drawn.near, replace=judged),
    )
    rotation = 0.0 if judged else settings.rotation
    return ShapeDataset(store, draws=draws, rows=rows, seed=settings.seed, rotation=rotation)


def build_model(config: ReconstructionConfig) -> Any:
    """The model with its initial weights, a function of the settings and of `train.seed`."""
    from shapestore.train.models.vecset import VecSet

    return VecSet(config.model, seed=config.train.seed)


def load_model(config: ReconstructionConfig, checkpoint: Path) -> Any:
    """The model of a checkpoint, ready to be judged: of the averaged weights where the run kept an average.

    Raises
    ------
    StoreDamaged
        The checkpoint is lost or damaged.
    WorkMismatch
        It was trained with other settings of the model than the run says.
    """
    from shapestore.train.checkpoint import read_state, read_tensors
    from shapestore.train.readback import flat, require_equal

    model = build_model(config)
    state = read_state(checkpoint)
    asked = flat(model.settings.model_dump(mode="json"), "model.")
    trained = {name: value for name, value in state.settings.items() if name.startswith("model.")}
    require_equal(trained, asked, f"{checkpoint} holds another model:", "Choose a checkpoint of this run.")
    tensors = read_tensors(checkpoint, state)
    model.load_state_dict(tensors.get("average", tensors["weights"]))
    return model.eval()
