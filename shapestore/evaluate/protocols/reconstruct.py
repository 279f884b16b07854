"""Protocol `reconstruct`: shapes rebuilt from points on their surfaces, against their raw label maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import trimesh
from numpy.typing import NDArray
from pydantic import computed_field
from torch import nn

from shapestore.evaluate.baselines import mean_label_map, nearest_case
from shapestore.evaluate.dense import DenseField, predict
from shapestore.evaluate.metrics.label_overlap import label_overlap
from shapestore.evaluate.queries import SCORES, query_scores
from shapestore.evaluate.reconstruction import SurfaceScores, Truth, decoder, surface_scores, truth_of
from shapestore.evaluate.slices import draw_slices
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.quality.raw_labels import frame_of, over_cube, raw_label_map
from shapestore.schemas.base import Strict
from shapestore.store.reader import Store
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.visit import Visit
from shapestore.train.run import StoreIdentity

GUESSES = MODEL, MEAN_MAP, NEAREST = "model", "mean label map", "nearest training case"
"""What is held against the truth: the model, and what it must beat."""

LONGEST_NAME: Final = 80
"""Most characters of a class name in the name of a file; the code before it tells equal ones apart."""


class Subject(Strict):
    """What was judged, and on what."""

    run: str
    """Folder of the run."""
    step: int
    """Step of the checkpoint."""
    store: StoreIdentity
    """The store of the shapes."""
    part: str
    """Part of the run's split."""
    held_out: bool
    """Whether the shapes were kept from training."""


DenseScore = Literal["iou", "dice", "mean_dice"]
"""Names of scores of all classes together, or of their mean."""


class DenseScores(Strict):
    """Overlap with the truth at the centres of all cells of the cube."""

    iou: float
    """Intersection over union of all classes together."""
    dice: float
    """Dice of all classes together."""
    class_iou: dict[str, float | None]
    """By class; None where the truth has none of it."""
    class_dice: dict[str, float | None]
    """By class; None where the truth has none of it."""
    mean_dice: float | None
    """Mean over the classes that the truth has."""


class CaseScores(Strict):
    """What became of one shape."""

    shape_id: str
    queries: dict[str, float]
    """Scores of the model at stored queries, as `query_scores`."""
    dense: dict[str, DenseScores]
    """Of the model and of each baseline."""
    surface: SurfaceScores | None
    """Of the model; None where it predicted nothing inside."""


class Reconstruction(Strict):
    """What the protocol found."""

    subject: Subject
    cells: int
    """Cells along each axis of the cube."""
    f_score_mm: float
    """Distance of the F-score."""
    cases: tuple[CaseScores, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def means(self) -> dict[str, dict[str, float | None]]:
        """Means over the cases: of each guess at all cells, of the model at stored queries, and of its surface."""
        dense: tuple[DenseScore, ...] = ("iou", "dice", "mean_dice")
        return {
            **{guess: {score: self.dense_mean(guess, score) for score in dense} for guess in self.guesses},
            "queries": {score: self.query_mean(score) for score in SCORES},
            "surface": {score: self.surface_mean(score) for score in SurfaceScores.model_fields},
        }

    @property
    def guesses(self) -> tuple[str, ...]:
        """What was held against the truth."""
        return tuple(self.cases[0].dense)

    def dense_mean(self, guess: str, score: DenseScore) -> float | None:
        """Mean of a score of the model or of a baseline; None where no case has it."""
        return _mean(getattr(case.dense[guess], score) for case in self.cases)

    def class_dice(self, guess: str, name: str) -> float | None:
        """Mean Dice of a class over the cases that have it; None where none has."""
        return _mean(case.dense[guess].class_dice[name] for case in self.cases)

    def query_mean(self, score: str) -> float | None:
        """Mean of a score at stored queries."""
        return _mean(case.queries[score] for case in self.cases)

    def surface_mean(self, score: str) -> float | None:
        """Mean of a score of surfaces over the cases of which something was predicted; None where none was."""
        return _mean(getattr(case.surface, score) for case in self.cases if case.surface is not None)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


@dataclass(frozen=True)
class Options:
    """How cases are judged."""

    raw: Path
    """Folder of the raw label maps."""
    out: Path
    """Empty folder for meshes and pictures."""
    cells: int = 128
    """Cells along each axis of the cube."""
    f_score_mm: float = 2.0
    """Distance of the F-score, millimetres."""


def reconstruct(
    model: nn.Module,
    subject: Subject,
    test: ShapeDataset,
    known: NDArray[np.int64] | None,
    classes: Sequence[str],
    options: Options,
    report: Callable[[int, int], None],
) -> Reconstruction:
    """Judge a model on the shapes of `test`.

    Parameters
    ----------
    model
        In evaluation mode.
    subject
        What is judged, for the record.
    test
        Samples of the shapes to be judged.
    known
        (k,) rows of the same store that were trained on, from which the baselines come; no object of `test` is among
        them, see `Run.require_seen`. None: there are no baselines, as `test` itself was trained on, or this store has
        none of those shapes.
    classes
        Names of the classes 1, 2, ...
    options
        How cases are judged.
    report
        Called with the cases done and all of them.

    Raises
    ------
    InputRefused
        A raw label map is lost, or is not the one that its row was made from.
    """
    guesses = None if known is None else _Baselines(test, known, options)
    cases = []
    for index, row in enumerate(test.rows.tolist()):
        report(index, len(test))
        truth = truth_of(test.store, row, options.raw, options.cells)
        sample = test[Visit(index)]
        field = predict(decoder(model, sample), options.cells, len(classes))
        predicted = {MODEL: field.codes}
        if guesses is not None:
            predicted |= {MEAN_MAP: guesses.mean, NEAREST: guesses.nearest(sample["surface_points"].numpy())}
        shape_id = str(test.ids[index])
        one = ShapeDataset(test.store, draws=test.draws, rows=test.rows[index : index + 1], seed=test.seed)
        cases.append(
            CaseScores(
                shape_id=shape_id,
                queries=query_scores(model, one),
                dense={name: _dense(codes, truth.codes, classes) for name, codes in predicted.items()},
                surface=_surface(field, truth, shape_id, options),
            )
        )
        folder = options.out / f"{index:03d}"
        folder.mkdir()
        write_meshes(folder, field, truth.frame, classes)
        draw_slices(folder / "slices.png", truth.codes, field.codes, classes, shape_id)
    report(len(test), len(test))
    return Reconstruction(subject=subject, cells=options.cells, f_score_mm=options.f_score_mm, cases=tuple(cases))


class _Baselines:
    """Guesses that know nothing but the training cases."""

    def __init__(self, test: ShapeDataset, known: NDArray[np.int64], options: Options) -> None:
        self._maps = np.stack([_codes(test.store, row, options) for row in known.tolist()])
        surface = [draw for draw in test.draws if "surface_points" in draw.arrays]
        cases = ShapeDataset(test.store, draws=surface, rows=known, seed=test.seed)
        self._surfaces = [cases[Visit(index)]["surface_points"].numpy() for index in range(len(cases))]
        self.mean = mean_label_map(self._maps)

    def nearest(self, surface: NDArray[np.float32]) -> NDArray[np.int8]:
        """The label map of the training case whose surface is nearest."""
        found: NDArray[np.int8] = self._maps[nearest_case(surface, self._surfaces)]
        return found


def _codes(store: Store, row: int, options: Options) -> NDArray[np.int8]:
    return over_cube(raw_label_map(store, row, options.raw), frame_of(store, row), options.cells)


def _dense(prediction: NDArray[np.int8], truth: NDArray[np.int8], classes: Sequence[str]) -> DenseScores:
    found = label_overlap(prediction, truth, len(classes))
    return DenseScores(
        iou=found.union_iou,
        dice=found.union_dice,
        class_iou=dict(zip(classes, found.class_iou, strict=True)),
        class_dice=dict(zip(classes, found.class_dice, strict=True)),
        mean_dice=found.mean_dice,
    )


def _surface(field: DenseField, truth: Truth, shape_id: str, options: Options) -> SurfaceScores | None:
    prediction = field.union_surface(truth.frame)
    return None if prediction is None else surface_scores(prediction, truth.surface, shape_id, options.f_score_mm)


def write_meshes(folder: Path, field: DenseField, frame: Frame, classes: Sequence[str]) -> None:
    """One PLY a class, `<code>-<name>.ply`, in the space of the raw file: millimetres, RAS+."""
    for code, name in enumerate(classes, start=1):
        mesh = field.class_surface(code, frame)
        if mesh is not None:
            path = folder / f"{code:02d}-{_file_name(name)}.ply"
            trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(path)


def _file_name(name: str) -> str:
    """As much of a name as every system takes in the name of a file: names of classes are free text."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:LONGEST_NAME]
