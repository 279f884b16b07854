"""One shape as a trained model reconstructs it, and what the raw label map says it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shapestore.errors import InputRefused
from shapestore.evaluate.dense import Decode
from shapestore.evaluate.metrics.chamfer import chamfer_l1, chamfer_l2, f_score, normal_consistency
from shapestore.evaluate.metrics.hausdorff import hausdorff95
from shapestore.evaluate.metrics.nearest import nearest_pairs
from shapestore.preprocess.geometry.label_surface import class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.geometry.sample import sample_surface
from shapestore.quality.raw_labels import frame_of, over_cube, raw_label_map
from shapestore.schemas.base import Strict
from shapestore.schemas.seeding import generator
from shapestore.store.reader import Store
from shapestore.train.data.batched import Batch
from shapestore.train.models.vecset import VecSet

SURFACE_SAMPLES = 100_000
"""Points on each of two surfaces that are compared: a tenth of them would already cost some 2 mm of a heart's 95 %
Hausdorff distance."""

TRUTH_SMOOTHING = 0.7
"""Standard deviation of the blur that takes the steps of the voxels off the true surface: voxels of the raw map, as
`class_surfaces` counts them. It is also the default of recipes."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A shape as its raw label map says."""

    codes: NDArray[np.int8]
    """(size, size, size) class of each cell of the cube, 0 outside."""
    surface: Mesh
    """The surface of all classes together, raw units. It is smoothed by `TRUTH_SMOOTHING`, whatever the store's recipe
    smooths its samples by: so results of differently smoothed stores can be compared."""
    frame: Frame
    """Raw to normalised coordinates."""


class SurfaceScores(Strict):
    """How close two surfaces are, each taken at `SURFACE_SAMPLES` points."""

    chamfer_l1_mm: float
    """Mean of both mean distances, millimetres."""
    chamfer_l2_mm2: float
    """Mean of both mean squared distances, square millimetres."""
    f_score: float
    """Harmonic mean of the shares closer than the stated distance."""
    normal_consistency: float
    """Mean absolute cosine of the normals of nearest points."""
    hausdorff95_mm: float
    """The larger of both 95th percentiles of distance, millimetres."""


def truth_of(store: Store, row: int, raw: Path, size: int) -> Truth:
    """Read the raw label map of a row; it must be the file that the row was made from.

    Raises
    ------
    InputRefused
        It is lost, has changed, or is no label map: names the shape.
    """
    try:
        labels, frame = raw_label_map(store, row, raw), frame_of(store, row)
        union = label_volume((labels.codes > 0).astype(np.uint8), labels.affine)
        return Truth(over_cube(labels, frame, size), class_surfaces(union, TRUTH_SMOOTHING).classes[0].mesh, frame)
    except InputRefused as error:
        shape_id = store.index("shape_id")[row]
        detail = f"{shape_id} cannot be judged by its raw file: {error.detail}. Is {raw} the folder of the raw files?"
        raise InputRefused(error.reason, detail) from None


def decoder(model: nn.Module, sample: Batch) -> Decode:
    """What a model makes of the surface of one shape, ready to be asked anywhere.

    Parameters
    ----------
    model
        A `VecSet` in evaluation mode, on any device.
    sample
        `surface_points` (s, 3) and `surface_labels` (s,) of the shape.
    """
    assert isinstance(model, VecSet)  # noqa: S101
    device = next(model.parameters()).device
    points, labels = (sample[name][None].to(device) for name in ("surface_points", "surface_labels"))
    with torch.no_grad():
        vectors = model.expand(model.encode(points, labels))

    def decode(queries: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            answers = model.read(vectors, torch.from_numpy(queries)[None].to(device))
        return np.asarray(answers[0].float().cpu())

    return decode


def surface_scores(prediction: Mesh, truth: Mesh, shape_id: str, threshold: float) -> SurfaceScores:
    """Compare two surfaces.

    Parameters
    ----------
    prediction, truth
        In millimetres.
    shape_id
        Names the points that are drawn.
    threshold
        Distance of the F-score, millimetres.
    """
    one = sample_surface(prediction, SURFACE_SAMPLES, generator(0, f"prediction {shape_id}"))
    other = sample_surface(truth, SURFACE_SAMPLES, generator(0, f"truth {shape_id}"))
    pairs = nearest_pairs(one.points, other.points)
    return SurfaceScores(
        chamfer_l1_mm=chamfer_l1(pairs),
        chamfer_l2_mm2=chamfer_l2(pairs),
        f_score=f_score(pairs, threshold),
        normal_consistency=normal_consistency(pairs, one.normals, other.normals),
        hausdorff95_mm=hausdorff95(pairs),
    )
