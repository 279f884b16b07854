"""Labelled samples of a label map: on the class surfaces, in the volume, and near the surfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import ClassSurface
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.geometry.sample import sample_surface

_HALVINGS: Final = 5
_LARGEST_DRAW: Final = 65_536  # candidates at a time
# Even the octahedron around a lone voxel takes one candidate in six; one in a hundred is a class that the field
# does not hold.
_WASTE: Final = 100
_GRACE: Final = 10_000


class LabelledSurface(NamedTuple):
    """n points on class surfaces, in random order."""

    points: NDArray[np.float32]
    """(n, 3) normalised positions."""
    labels: NDArray[np.int8]
    """(n,) class whose surface it is, 1..127."""
    normals: NDArray[np.float32]
    """(n, 3) unit, out of that class."""


class LabelledSamples(NamedTuple):
    """n positions in [-1, 1]^3 with the field there, in random order."""

    points: NDArray[np.float32]
    """(n, 3) normalised positions."""
    sdf: NDArray[np.float32]
    """(n,) signed distance, normalised units, negative inside."""
    labels: NDArray[np.int8]
    """(n,) class, 0 exactly where `sdf` is not negative."""


def surface_samples(
    surfaces: Sequence[ClassSurface],
    frame: Frame,
    count: int,
    per_class_minimum: int,
    rng: np.random.Generator,
) -> LabelledSurface:
    """Draw points on the surfaces of all classes, uniformly by area within each.

    Parameters
    ----------
    surfaces
        Of the present classes, world millimetres, at least one.
    frame
        Brings world positions into normalised coordinates.
    count
        Number of points, >= 0.
    per_class_minimum
        Points that every class gets before the rest is shared out by area.
    rng
        Source of the draws: class by class, and last the permutation.

    Returns
    -------
    LabelledSurface
        Exactly `count` points, shuffled.

    Raises
    ------
    InputRefused
        OVER_CAPACITY where the minima alone exceed `count`; otherwise as `sample_surface`.
    """
    areas = np.array([_area(surface) for surface in surfaces])
    quotas = class_quotas(areas, count, per_class_minimum)
    drawn = [sample_surface(surface.mesh, int(n), rng) for surface, n in zip(surfaces, quotas, strict=True)]
    points = frame.apply(np.concatenate([samples.points for samples in drawn])).astype(np.float32)
    normals = np.concatenate([samples.normals for samples in drawn]).astype(np.float32)
    labels = np.repeat(np.array([surface.code for surface in surfaces], np.int8), quotas)
    order = rng.permutation(count)
    return LabelledSurface(points[order], labels[order], normals[order])


def volume_samples(
    codes: NDArray[np.uint8],
    affine: NDArray[np.float64],
    frame: Frame,
    field: LabelField,
    count: int,
    inside_ratio: float,
    per_class_minimum: int,
    rng: np.random.Generator,
) -> LabelledSamples:
    """Draw positions inside the classes and outside of all, in an exact proportion.

    Inside: a random voxel of the class, a uniform position within it, taken if the field has that class there.
    Outside: uniform in [-1, 1]^3, taken if the field is not negative. The field decides, so that the proportion
    is that of `sdf < 0` and not that of a mask which differs from it at the surface.

    Parameters
    ----------
    codes
        (X, Y, Z) uint8 class of each voxel, 0 for background.
    affine
        (4, 4) float64, voxel index to world millimetres.
    frame
        The `joint_frame` of the classes, which puts them all into the unit ball and so into the cube.
    field
        Of the same label map, in the same frame.
    count
        Number of positions, >= 0.
    inside_ratio
        Share of positions inside, 0 to 1; `round(inside_ratio * count)` of them are.
    per_class_minimum
        Inside positions that every class gets before the rest is shared out by voxels.
    rng
        Source of the draws: class by class, then outside, and last the permutation.

    Returns
    -------
    LabelledSamples
        Exactly `count` positions, shuffled.

    Raises
    ------
    InputRefused
        OVER_CAPACITY where the minima alone exceed the inside positions; TOO_FEW_POINTS where a class has next
        to no volume of its own in the field.
    ValueError
        `inside_ratio` is out of range, or a class of the field has no voxel.
    """
    if not 0 <= inside_ratio <= 1:
        raise ValueError(f"inside_ratio must be in [0, 1], got {inside_ratio}")
    voxels = np.array([np.count_nonzero(codes == code) for code in field.codes])
    if not voxels.all():
        raise ValueError("the field has a class of which the label map has no voxel")
    inside = round(inside_ratio * count)
    parts = [
        _inside(codes, affine, frame, field, code, int(quota), rng)
        for code, quota in zip(field.codes, class_quotas(voxels, inside, per_class_minimum), strict=True)
    ]
    parts.append(
        _accepted(lambda n: rng.uniform(-1, 1, (n, 3)), field, 0, count - inside, "the cube outside of all classes")
    )
    order = rng.permutation(count)
    points, sdf, labels = (np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True))
    return LabelledSamples(points, sdf, labels)


def near_samples(
    surface: LabelledSurface, field: LabelField, sigma: float, rng: np.random.Generator
) -> LabelledSamples:
    """Move every surface point off its surface, one half outwards and the other inwards.

    The offset is |N(0, sigma)| along the normal. Where the field does not have the intended sign there, because
    the wall or the gap is thinner, the offset is halved until it has, at most five times. Where no offset has it
    the full one stays: outwards from a wall that two classes share lies the other class.

    Parameters
    ----------
    surface
        Points of `surface_samples` in the frame of the field; their order must be random, as it is there.
    field
        Gives sign, distance and class.
    sigma
        Scale of the offsets, normalised units, > 0.
    rng
        Source of the draws: offsets, then sides.

    Returns
    -------
    LabelledSamples
        One position for each surface point and in the same order, clipped to [-1, 1].

    Raises
    ------
    ValueError
        `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0, got {sigma}")
    count = len(surface.points)
    offset = np.abs(rng.normal(0, sigma, count))
    inwards = rng.permutation(count) % 2 == 1
    step = np.asarray(surface.normals * np.where(inwards, -offset, offset)[:, None], np.float64)
    points = _moved(surface.points, step)
    sdf, labels = field.signed(points)
    missed = np.flatnonzero((sdf < 0) != inwards)
    for _ in range(_HALVINGS):
        step[missed] /= 2
        closer = _moved(surface.points[missed], step[missed])
        value = field.signed(closer)
        met = (value.sdf < 0) == inwards[missed]
        rows = missed[met]
        points[rows], sdf[rows], labels[rows] = closer[met], value.sdf[met], value.labels[met]
        missed = missed[~met]
    return LabelledSamples(points, sdf, labels)


def class_quotas(weights: ArrayLike, count: int, minimum: int) -> NDArray[np.int64]:
    """Share `count` out: `minimum` for each class, the rest in proportion to the weights.

    The rest is rounded by the method of largest remainders (Hamilton); of equal remainders the first wins.

    Parameters
    ----------
    weights
        (C,) positive weights, C >= 1.
    count
        What to share out, >= 0.
    minimum
        What each class gets at least, >= 0.

    Returns
    -------
    (C,) int64
        Sums to `count`.

    Raises
    ------
    InputRefused
        OVER_CAPACITY where the minima alone exceed `count`.
    """
    shares = np.asarray(weights, np.float64)
    rest = count - minimum * len(shares)
    if rest < 0:
        raise InputRefused(
            Reason.OVER_CAPACITY,
            f"{len(shares)} classes with {minimum} points each are more than {count} points",
        )
    exact = rest * (shares / shares.sum())
    quotas = np.floor(exact).astype(np.int64)
    largest = np.argsort(quotas - exact, kind="stable")
    quotas[largest[: rest - int(quotas.sum())]] += 1
    return np.asarray(quotas + minimum, np.int64)


def _area(surface: ClassSurface) -> float:
    """Area of a class surface, square millimetres."""
    a, b, c = np.moveaxis(surface.mesh.vertices[surface.mesh.faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _inside(
    codes: NDArray[np.uint8],
    affine: NDArray[np.float64],
    frame: Frame,
    field: LabelField,
    code: int,
    count: int,
    rng: np.random.Generator,
) -> LabelledSamples:
    """Positions within voxels of one class at which the field has that class."""
    voxels = np.flatnonzero(codes == code)

    def draw(n: int) -> NDArray[np.float64]:
        index = np.stack(np.unravel_index(voxels[rng.integers(len(voxels), size=n)], codes.shape), axis=1)
        within = index + rng.uniform(-0.5, 0.5, (n, 3))
        return frame.apply(np.asarray(within @ affine[:3, :3].T + affine[:3, 3]))

    return _accepted(draw, field, code, count, f"class {code}, which has {len(voxels)} voxels,")


def _accepted(
    draw: Callable[[int], NDArray[np.float64]], field: LabelField, code: int, count: int, where: str
) -> LabelledSamples:
    """The first `count` of the drawn positions that have the label `code`."""
    taken: list[LabelledSamples] = []
    missing, drawn = count, 0
    while missing > 0:
        if drawn > _WASTE * count + _GRACE:
            raise InputRefused(
                Reason.TOO_FEW_POINTS,
                f"{where} gave {count - missing} of {count} samples in {drawn} draws: it has next to no volume",
            )
        size = min(missing + missing // 4 + 16, _LARGEST_DRAW)  # most of the first draw is taken
        points = draw(size).astype(np.float32)
        drawn += size
        sdf, labels = field.signed(points)
        kept = np.flatnonzero(labels == code)[:missing]
        taken.append(LabelledSamples(points[kept], sdf[kept], labels[kept]))
        missing -= len(kept)
    empty = LabelledSamples(np.empty((0, 3), np.float32), np.empty(0, np.float32), np.empty(0, np.int8))
    return LabelledSamples(*(np.concatenate(arrays) for arrays in zip(empty, *taken, strict=True)))


def _moved(points: NDArray[np.float32], step: NDArray[np.float64]) -> NDArray[np.float32]:
    """Positions after a step, in the cube and in the precision in which they are kept."""
    return np.asarray(np.clip(points + step, -1, 1), np.float32)
