"""Labelled samples near the class surfaces of a label map, as many inside as outside."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.label_owners import OwnerMap
from shapestore.preprocess.geometry.label_samples import (
    LabelledSamples,
    SignedField,
    area,
    class_quotas,
)
from shapestore.preprocess.geometry.label_surface import LabelSurfaces
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.geometry.sample import sample_surface

_HALVINGS: Final = 5
_ROUNDS: Final = 8  # draws; nearly all points are taken at the first


def near_samples(
    surfaces: LabelSurfaces,
    frame: Frame,
    field: SignedField,
    count: int,
    sigma: float,
    per_class_minimum: int,
    rng: np.random.Generator,
) -> LabelledSamples:
    """Move surface points off their surface: one half inwards, the other outwards to where no class is.

    The offset is |N(0, sigma)| along the normal. Where the field does not have the intended sign there, because the
    wall or the gap is thinner, the offset is halved until it has, at most five times; where it has it at no offset,
    another point is drawn on the same surface. After eight rounds the rest is taken as it is.

    The points of the inner half are shared out as those of `surface_samples` are, so that every class has its share.
    Outwards from a wall that two classes share lies the other class: each class has as much of the outer half as it
    would have of surface points, times the share of its area that is next to background, and only that is drawn from.

    Parameters
    ----------
    surfaces
        Of the label map.
    frame
        Brings world positions into normalised coordinates.
    field
        Of the same label map, in the same frame; gives sign, distance and class.
    count
        Number of positions, >= 1; the outer half has one more if it is odd.
    sigma
        Scale of the offsets, normalised units, > 0.
    per_class_minimum
        Points that every class gets before the rest is shared out by area, as of `count` surface points.
    rng
        Source of the draws: for the inner and then the outer half, round by round, points class by class and then
        offsets; last the permutation.

    Returns
    -------
    LabelledSamples
        Exactly `count` positions, shuffled, clipped to [-1, 1]. Memory: some 200 bytes a position, and 24 a face
        that is next to background.

    Raises
    ------
    InputRefused
        OVER_CAPACITY where the minima alone exceed `count`.
    ValueError
        `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0, got {sigma}")
    inner = count // 2
    outer = count - inner
    meshes = [surface.mesh for surface in surfaces.classes]
    owners = OwnerMap(surfaces, frame)
    exposed = [owners.exposed(surface, frame) for surface in surfaces.classes]
    areas = np.array([area(mesh) for mesh in meshes])
    bare = np.array([area(mesh) for mesh in exposed]) / areas
    inwards = class_quotas(areas, inner, per_class_minimum // 2)
    outwards = class_quotas(class_quotas(areas, outer, per_class_minimum // 2) * bare, outer, 0)
    points = np.concatenate(
        [
            _half(meshes, inwards, frame, field, True, sigma, rng),
            _half(exposed, outwards, frame, field, False, sigma, rng),
        ]
    )[rng.permutation(count)]
    return LabelledSamples(points, *field.signed(points))


def _half(
    meshes: list[Mesh],
    counts: NDArray[np.int64],
    frame: Frame,
    field: SignedField,
    inside: bool,
    sigma: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Positions off each of several meshes, inside or outside of the classes as far as there are such."""
    missing = counts
    taken = [np.empty((0, 3), np.float32)]
    for _ in range(_ROUNDS):
        start, normals, number = _drawn(meshes, missing, frame, rng)
        points, met = _moved(start, -normals if inside else normals, sigma, field, inside, rng)
        taken.append(points[met])
        points = points[~met]
        missing = np.bincount(number[~met], minlength=len(counts))
    return np.concatenate([*taken, points])


def _drawn(
    meshes: list[Mesh], counts: NDArray[np.int64], frame: Frame, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Points on each of several meshes, the normals there, and the number of the mesh."""
    asked = np.flatnonzero(counts)
    samples = [sample_surface(meshes[number], int(counts[number]), rng) for number in asked]
    points = np.concatenate([np.empty((0, 3)), *(frame.apply(drawn.points) for drawn in samples)])
    normals = np.concatenate([np.empty((0, 3)), *(drawn.normals for drawn in samples)])
    return points, normals, np.repeat(asked, counts[asked])


def _moved(
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    sigma: float,
    field: SignedField,
    inside: bool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Positions a random offset away, nearer where only that has the intended side, and which have it."""
    step = direction * np.abs(rng.normal(0, sigma, len(start)))[:, None]
    points = _kept(start + step)
    met = (field.labels(points) > 0) == inside
    missed = np.flatnonzero(~met)
    for _ in range(_HALVINGS):
        step[missed] /= 2
        closer = _kept(start[missed] + step[missed])
        found = (field.labels(closer) > 0) == inside
        points[missed[found]] = closer[found]
        met[missed[found]] = True
        missed = missed[~found]
    return points, met


def _kept(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Positions in the cube and in the precision in which they are kept."""
    return np.asarray(np.clip(points, -1, 1), np.float32)
