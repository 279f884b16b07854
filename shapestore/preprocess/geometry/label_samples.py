"""Labelled samples of a label map: on the class surfaces, and in the volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.label_sdf import FieldValues
from shapestore.preprocess.geometry.label_surface import ClassSurface
from shapestore.preprocess.geometry.label_volume import LabelVolume, voxels_by_class
from shapestore.preprocess.geometry.mesh import Mesh, double_areas
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.geometry.sample import sample_surface

_LARGEST_DRAW: Final = 65_536  # candidates at a time
# Even the octahedron around a lone voxel takes one candidate in six; one in a hundred is a class that the field
# does not hold.
_WASTE: Final = 100
_GRACE: Final = 10_000


class SignedField(Protocol):
    """A signed distance to all classes of a label map: `LabelField`, or `EdtField` for reproduction."""

    codes: tuple[int, ...]
    """Classes that the field holds, ascending."""

    def labels(self, points: ArrayLike) -> NDArray[np.int8]:
        """(n,) class at each normalised position, 0 outside all."""

    def signed(self, points: ArrayLike) -> FieldValues:
        """Signed distance and class at each normalised position."""


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
    areas = np.array([area(surface.mesh) for surface in surfaces])
    quotas = class_quotas(areas, count, per_class_minimum)
    drawn = [sample_surface(surface.mesh, int(n), rng) for surface, n in zip(surfaces, quotas, strict=True)]
    points = frame.apply(np.concatenate([samples.points for samples in drawn])).astype(np.float32)
    normals = np.concatenate([samples.normals for samples in drawn]).astype(np.float32)
    labels = np.repeat(np.array([surface.code for surface in surfaces], np.int8), quotas)
    order = rng.permutation(count)
    return LabelledSurface(points[order], labels[order], normals[order])


def volume_samples(
    volume: LabelVolume,
    frame: Frame,
    field: SignedField,
    count: int,
    inside_ratio: float,
    per_class_minimum: int,
    rng: np.random.Generator,
) -> LabelledSamples:
    """Draw positions inside the classes and outside of all, in an exact proportion.

    Inside: a random voxel of the class, a uniform position within it, taken if the field has that class there.
    Outside: uniform in [-1, 1]^3, taken if the field has no class there. The field decides, so that the proportion
    is that of `sdf < 0` and not that of a mask which differs from it at the surface. Distances are computed for the
    taken positions only.

    Parameters
    ----------
    volume
        The label map.
    frame
        That of its surfaces, which puts all classes into the unit ball and so into the cube.
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
        Exactly `count` positions, shuffled. Memory: 8 bytes a voxel of the classes, and some 100 a position.

    Raises
    ------
    InputRefused
        OVER_CAPACITY where the minima alone exceed the inside positions; TOO_FEW_POINTS where a class has next
        to no volume of its own in the field.
    ValueError
        `inside_ratio` is out of range, or the classes of the field are not those of the label map.
    """
    if not 0 <= inside_ratio <= 1:
        raise ValueError(f"inside_ratio must be in [0, 1], got {inside_ratio}")
    if field.codes != volume.present:
        raise ValueError(f"the field has the classes {field.codes}, the label map has {volume.present}")
    inside = round(inside_ratio * count)
    starts, voxels = voxels_by_class(volume)
    quotas = class_quotas(volume.voxels[list(field.codes)], inside, per_class_minimum)
    parts = [
        _inside(volume, voxels[starts[code] : starts[code + 1]], frame, field, code, int(quota), rng)
        for code, quota in zip(field.codes, quotas, strict=True)
    ]
    parts.append(
        _accepted(lambda n: rng.uniform(-1, 1, (n, 3)), field, 0, count - inside, "the cube outside of all classes")
    )
    points = np.concatenate(parts)[rng.permutation(count)]
    return LabelledSamples(points, *field.signed(points))


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


def area(mesh: Mesh) -> float:
    """Area of a surface, in the square of its unit."""
    return float(double_areas(mesh.vertices, mesh.faces).sum() / 2)


def _inside(
    volume: LabelVolume,
    voxels: NDArray[np.int64],
    frame: Frame,
    field: SignedField,
    code: int,
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Positions within voxels of one class at which the field has that class."""
    turn, shift = volume.affine[:3, :3].T, volume.affine[:3, 3]

    def draw(n: int) -> NDArray[np.float64]:
        picked = voxels[rng.integers(len(voxels), size=n)]
        index = np.stack(np.unravel_index(picked, volume.codes.shape), axis=1)
        return frame.apply((index + rng.uniform(-0.5, 0.5, (n, 3))) @ turn + shift)

    return _accepted(draw, field, code, count, f"class {code}, which has {len(voxels)} voxels,")


def _accepted(
    draw: Callable[[int], NDArray[np.float64]], field: SignedField, code: int, count: int, where: str
) -> NDArray[np.float32]:
    """The first `count` of the drawn positions that have the label `code`."""
    taken = [np.empty((0, 3), np.float32)]
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
        taken.append(points[field.labels(points) == code][:missing])
        missing -= len(taken[-1])
    return np.concatenate(taken)
