"""How true a signed distance field of a label map is: a ball, whose distance everywhere is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.ndimage import map_coordinates

from benchmarks import geometry_libraries as lib
from benchmarks.common import SEED
from benchmarks.geometry_trials import OURS
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import class_surfaces
from shapestore.preprocess.geometry.label_volume import label_volume

Floats = NDArray[np.float64]

RADIUS: Final = 20.3
REACH: Final = 4.0
"""Positions lie within so many voxels of the surface."""
NEAR: Final = 1.0
"""Those within so many voxels say how true the field is near the surface, and what its slope is."""


@dataclass(frozen=True)
class Truth:
    """How far one field is from the true one, in voxels."""

    method: str
    mean: float
    """Mean absolute error of all positions."""
    near: float
    """The same near the surface."""
    slope: float
    """Least-squares slope of the field over the true distance near the surface; 1 is true."""
    wrong_signs: float
    """Percent of all positions."""


def ball(count: int) -> list[Truth]:
    """All methods at the same `count` positions."""
    rng = np.random.default_rng(SEED)
    size = 2 * round(RADIUS + REACH) + 4
    centre = (size - 1) / 2 + rng.uniform(-0.5, 0.5, 3)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    mask = np.linalg.norm(grid - centre, axis=-1) < RADIUS
    true = rng.uniform(-REACH, REACH, count)
    towards = rng.normal(size=(count, 3))
    points = centre + (RADIUS + true)[:, None] * towards / np.linalg.norm(towards, axis=1, keepdims=True)
    fields = {
        OURS: _ours(mask, points),
        "EDT pair": _read(lib.scipy_edt_pair(mask), points),
        "EDT pair, half a voxel less": _read(_half_less(lib.scipy_edt_pair(mask)), points),
        "exact distance to marching cubes": _marching_cubes(mask, points),
    }
    return [_compared(method, field, true) for method, field in fields.items()]


def _ours(mask: NDArray[np.bool_], points: Floats) -> Floats:
    surfaces = class_surfaces(label_volume(mask.astype(np.uint8), np.eye(4)))
    frame = surfaces.frame()
    return LabelField(surfaces, frame).signed(frame.apply(points)).sdf.astype(np.float64) / frame.scale


def _read(field: NDArray[np.float32], points: Floats) -> Floats:
    return np.asarray(map_coordinates(field, points.T, order=1), np.float64)


def _half_less(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances to the faces of voxels and not to their centres."""
    return np.where(field > 0, field - 0.5, field + 0.5).astype(np.float32)


def _marching_cubes(mask: NDArray[np.bool_], points: Floats) -> Floats:
    mesh = lib.skimage_surface(mask)
    return lib.igl_distances(mesh)(points) * np.where(lib.igl_inside(mesh, points), -1, 1)


def _compared(method: str, field: Floats, true: Floats) -> Truth:
    error, near = np.abs(field - true), np.abs(true) < NEAR
    slope = np.polyfit(true[near], field[near], 1)[0]
    wrong = 100 * np.mean((field < 0) != (true < 0))
    return Truth(method, float(error.mean()), float(error[near].mean()), float(slope), float(wrong))


def table(found: Sequence[Truth]) -> Table:
    """A line a method."""
    made = Table(title=f"label map: a ball of radius {RADIUS:g} voxels, within {REACH:g}", title_justify="left")
    made.add_column("field", no_wrap=True)
    for heading in ("mean error, voxels", f"within {NEAR:g}", "slope", "wrong signs, %"):
        made.add_column(heading, justify="right")
    for each in found:
        made.add_row(
            each.method, f"{each.mean:.3f}", f"{each.near:.3f}", f"{each.slope:.3f}", f"{each.wrong_signs:.2f}"
        )
    return made
