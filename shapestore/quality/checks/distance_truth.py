"""distance-truth: positions, distances, signs and labels against the raw file, computed anew by other means.

Meshes are read by trimesh and measured by libigl, where ingest has readers, a tree and signs of its own. Label maps are
read by nibabel, and measured by the distance to voxel faces, where ingest takes smoothed surfaces. Clouds are looked up
in their file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import cdist

from shapestore.errors import InputRefused
from shapestore.preprocess.formats.mesh_file import MESH_SUFFIXES
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.quality.check import Batch, Check, Measure, Settings, always
from shapestore.quality.truth_cloud import CLOUD_SUFFIXES, read_cloud
from shapestore.quality.truth_fields import Probes, probes
from shapestore.quality.truth_labels import UNREADABLE, LabelTruth, read_label_truth
from shapestore.quality.truth_mesh import MeshTruth, read_mesh_truth
from shapestore.quality.truth_source import position_of, raw_file
from shapestore.schemas.recipe import LabelsPart

Floats = NDArray[np.float64]
Numbers = dict[str, float]
"""Measure to its number, of one row."""

TOUCHING: Final = 1e-5
"""Positions this near to the surface are on no side of it: a hundred roundings of a coordinate, normalised units."""
SIGNS: Final = 250
"""Positions of an array and row whose side is asked for: exact winding numbers of large meshes take long."""
FEWEST: Final = 200
"""Positions that a shift is estimated from, a voxel and more from the surface: near samples are often too close."""
THERE: Final = "raw file is there"
SAME: Final = "raw file is the one that was read"
COMPARED: Final = "raw file was read by other means and compared"
GONE: Final = "Bring the raw file back, or name the folder where it lies with --raw."
CHANGED: Final = "Bring the file back as it was, or compute its row from the new one: ingest again with --rebuild."
REBUILD: Final = "Compute the row again from its raw file."


class _Settings(Settings):
    """Bounds of what differs from the raw files."""

    error: float = Field(2e-6, gt=0)
    """Largest error of a position or distance of meshes and clouds, normalised units. Float32 coordinates of at most 2
    are off by 1.2e-7 and carry that into a distance; the largest of 30 real meshes was 6e-8."""
    right_side: float = Field(0.999, ge=0, le=1)
    """Least share of positions on the side that the winding number gives, for closed meshes: they have 1."""
    right_label: float = Field(0.99, ge=0, le=1)
    """Least share of positions, at least a voxel from the nearest other label, that have the label of their voxel.
    Smoothing moves surfaces by less than a voxel: hearts have 1, labels of a field that is guessed 0.6."""
    median_error: float = Field(1, gt=0)
    """Largest median error of distances to label surfaces, voxels. Voxel faces stick out of a smooth surface: 0.36 in
    hearts, 0.5 in bodies with voxels of 3 mm, 0.56 with distances between voxel centres. Another sign or unit: many."""
    p99_error: float = Field(2, gt=0)
    """Largest 99th percentile of that error, voxels: the largest of these were 0.72, 0.92 and 0.76."""
    shift: float = Field(0.25, gt=0)
    """Largest shift of a field against its label map, voxels. Hearts and bodies have at most 0.07; the usual faults,
    an index that counts from corners instead of centres and a missing pad, are shifts of a half and of one."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    fields = tuple(probes(batch))
    measures = [replace(each, values=np.full(len(batch), np.nan)) for each in _planned(batch, fields, settings)]
    values = {each.name: each.values for each in measures}
    for row in range(len(batch)):
        for name, number in _numbers(batch, fields, row).items():
            values[name][row] = number
    yield from measures


def _planned(batch: Batch, fields: Sequence[Probes], settings: _Settings) -> Iterator[Measure]:
    """Every measure of a store, still without numbers: the same ones for each batch."""
    none = np.zeros(0)
    yield Measure(THERE, none, low=1, remedy=GONE, wrong="the raw file is gone")
    yield Measure(SAME, none, low=1, remedy=CHANGED, wrong="the raw file has changed since it was read")
    yield Measure(COMPARED, none)
    for field in fields:
        name, arrays = field.name, field.arrays
        in_voxels = batch.recipe.labels is not None
        bounds = (settings.median_error, settings.p99_error, np.inf) if in_voxels else (settings.error,) * 3
        unit = "voxels" if in_voxels else "normalised units"
        for which, high in zip(("median", "p99", "largest"), bounds, strict=True):
            if field.values is not None:
                yield Measure(f"{which} error of {name}", none, high=high, unit=unit, arrays=arrays, remedy=REBUILD)
        if field.signed and not in_voxels:
            low = settings.right_side
            yield Measure(f"share of {name} on the right side", none, low=low, arrays=arrays, remedy=REBUILD)
        if field.signed and in_voxels:
            high = settings.shift
            yield Measure(f"shift of {name}", none, high=high, unit=unit, arrays=arrays, remedy=REBUILD)
        if field.labels is not None:
            low = settings.right_label
            yield Measure(f"share of {name} with the raw label", none, low=low, arrays=arrays, remedy=REBUILD)


def _numbers(batch: Batch, fields: Sequence[Probes], row: int) -> Numbers:
    """The measures of one row: those that there are."""
    file = raw_file(batch, row)
    if file is None:
        return {THERE: 0.0}
    found: Numbers = {THERE: 1.0, SAME: float(file.unchanged)}
    if not file.unchanged:
        return found
    frame = Frame(np.asarray(batch.index["shift"][row]), float(batch.index["scale"][row]))
    part, suffix = batch.recipe.labels, file.path.suffix.lower()
    try:
        if part is not None:
            labels = read_label_truth(file.path, part)
            compared = [_against_labels(labels, field, row, frame, part) for field in fields]
        elif suffix in MESH_SUFFIXES:
            mesh = read_mesh_truth(file.path, frame)
            compared = [_against_mesh(mesh, field, row) for field in fields]
        elif suffix in CLOUD_SUFFIXES:
            cloud = frame.apply(read_cloud(file.path, position_of(batch, row)))
            compared = [_against_cloud(cloud, field, row) for field in fields]
        else:
            compared = []
    except (*UNREADABLE, KeyError, InputRefused):
        compared = []
    for numbers in compared:
        found |= numbers
    return found | {COMPARED: float(bool(compared))}


def _against_mesh(truth: MeshTruth, field: Probes, row: int) -> Numbers:
    points, values, _ = field.of(row)
    if field.cloud is not None or not len(points):
        return {}
    distance = truth.distance(points)
    found = _quantiles(field.name, np.abs(values) - distance)
    if field.signed:
        asked = np.flatnonzero(distance > TOUCHING)[:SIGNS]
        inside = truth.inside(points[asked])
        told = np.isfinite(inside)
        if told.any():
            right = (values[asked] < 0) == (inside == 1)
            found[f"share of {field.name} on the right side"] = float(right[told].mean())
    return found


def _against_cloud(cloud: Floats, field: Probes, row: int) -> Numbers:
    """Points are looked up among all raw ones; distances are those to the stored points, which may be fewer."""
    points, values, _ = field.of(row)
    if not len(points):
        return {}
    to = cloud if field.cloud is None else np.asarray(field.cloud[row], np.float64)
    return _quantiles(field.name, values - cdist(points, to).min(axis=1))


def _against_labels(truth: LabelTruth, field: Probes, row: int, frame: Frame, part: LabelsPart) -> Numbers:
    points, values, labels = field.of(row)
    world = frame.invert(points)
    if part.distance == "edt" and field.signed:
        # Beyond the map this field is extrapolated, which makes it no distance.
        held = truth.within(world)
        world, values, labels = world[held], values[held], None if labels is None else labels[held]
    if not len(world):
        return {}
    nearest = truth.at(world)
    distance = nearest.distance / truth.voxel
    deep = np.abs(distance) > 1
    found: Numbers = {}
    if field.values is not None:
        error = values / (frame.scale * truth.voxel) - distance
        found |= _quantiles(field.name, error)
        if field.signed and np.count_nonzero(deep) >= FEWEST:
            found[f"shift of {field.name}"] = _shift(error[deep], nearest.gradient[deep], distance[deep])
    if labels is not None and field.on_surface:
        found[f"share of {field.name} with the raw label"] = float(truth.touches(world, labels).mean())
    elif labels is not None and deep.any():
        found[f"share of {field.name} with the raw label"] = float((labels == nearest.labels)[deep].mean())
    return found


def _shift(error: Floats, gradient: Floats, distance: Floats) -> float:
    """How far a shape lies beside its label map, in the unit of the errors: the least-squares fit.

    The field of a shape that is moved by s is f(x - s), which is f(x) - s . grad f(x). Two more unknowns take up what
    is alike on all sides: a surface that is larger, and, on either side of it, distances that are.
    """
    slopes = np.column_stack([-gradient, np.ones(len(error)), np.sign(distance)])
    solution, *_ = np.linalg.lstsq(slopes, error)
    return float(np.linalg.norm(solution[:3]))


def _quantiles(name: str, error: Floats) -> Numbers:
    median, p99, largest = np.quantile(np.abs(error), (0.5, 0.99, 1)).tolist()
    return {f"median error of {name}": median, f"p99 error of {name}": p99, f"largest error of {name}": largest}


CHECK = Check(
    name="distance-truth",
    about="Positions, distances, signs and labels against the raw file, read and computed anew by other means.",
    severity="error",
    settings=_Settings,
    applies=always,
    measure=_measure,
    scope="source",
)
