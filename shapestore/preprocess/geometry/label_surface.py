"""Closed, outward class surfaces of a label map, in world millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame, box_frame

VOLUME_TOLERANCE: Final = 0.10
"""A surface whose volume differs by more than this share from that of the class's voxels is not its surface."""

# The level is 0.5, less a ten-thousandth of a voxel: on a 0/1 mask the middle of a face between two diagonal
# voxels has exactly 0.5, and the tie leaves edges with four faces. Below it diagonal voxels are joined.
_LEVEL: Final = 0.4999
_BLUR_REACH: Final = 4.0  # in standard deviations; the weight beyond it is 6e-5
_LEVEL_RANGE: Final = (0.05, 0.95)  # levels searched when the volume has to be matched


@dataclass(frozen=True, eq=False)
class ClassSurface:
    """The surface of one class and how it was made.

    Attributes
    ----------
    code
        The class, 1..255.
    mesh
        Closed and outward, world millimetres.
    smoothed
        Whether the mask was blurred; False where the blur would have changed volume or topology.
    level
        Level of the mask at which the surface was taken: 0.4999, or another one where a thin class would lose
        more than `VOLUME_TOLERANCE` of its volume there.
    voxels
        Number of voxels of the class, >= 1.
    """

    code: int
    mesh: Mesh
    smoothed: bool
    level: float
    voxels: int


def class_surfaces(
    codes: NDArray[np.uint8], affine: NDArray[np.float64], classes: int, smoothing: float = 0.7
) -> tuple[ClassSurface, ...]:
    """Take the surfaces of the classes 1..`classes` that the map holds, in the order of their codes.

    Parameters
    ----------
    codes, affine, smoothing
        As in `class_surface`.
    classes
        Number of declared classes, 1..255.

    Returns
    -------
    tuple of ClassSurface
        One for each class with at least one voxel.

    Raises
    ------
    InputRefused
        EMPTY_LABELS where no class has a voxel; otherwise as `class_surface`.
    """
    surfaces = (class_surface(codes, affine, code, smoothing) for code in range(1, classes + 1))
    present = tuple(surface for surface in surfaces if surface is not None)
    if not present:
        raise InputRefused(Reason.EMPTY_LABELS, f"none of the classes 1 to {classes} has a voxel")
    return present


def joint_frame(surfaces: Sequence[ClassSurface]) -> Frame:
    """Frame of all classes together: the centre of their bounding box, the farthest vertex at distance 1."""
    return box_frame(np.concatenate([surface.mesh.vertices for surface in surfaces]))


def class_surface(
    codes: NDArray[np.uint8], affine: NDArray[np.float64], code: int, smoothing: float = 0.7
) -> ClassSurface | None:
    """Take the surface of one class by marching cubes (Lewiner et al., J. Graphics Tools 8(2), 2003).

    The 0/1 mask of the class is blurred first, which takes the steps of the voxels off the surface and the bias
    off its distances. A blur that would change the number of surfaces or handles, or the volume by more than
    `VOLUME_TOLERANCE`, is left out. Beyond the border of the map is background, so surfaces are closed there.

    Parameters
    ----------
    codes
        (X, Y, Z) uint8 class of each voxel, 0 for background.
    affine
        (4, 4) float64, voxel index to world RAS+ millimetres; voxel centres have integer indices.
    code
        The class, 1..255.
    smoothing
        Standard deviation of the Gaussian blur, voxels, >= 0; 0 for none.

    Returns
    -------
    ClassSurface or None
        None where no voxel has the class.

    Raises
    ------
    InputRefused
        BAD_AFFINE for an affine that is not finite, not invertible or not affine; NOT_CLOSED where the surface
        has a border or encloses no positive volume.
    ValueError
        Not a volume of uint8, a class out of range, or a negative or infinite smoothing.
    """
    if codes.ndim != 3 or codes.dtype != np.uint8:
        raise ValueError(f"codes must be a volume of uint8, got {codes.dtype} of shape {codes.shape}")
    if not 1 <= code <= 255 or not 0 <= smoothing < math.inf:
        raise ValueError(f"code must be 1 to 255 and smoothing >= 0, got {code} and {smoothing}")
    _refuse_affine(affine)
    cropped = _cropped(codes == code)
    if cropped is None:
        return None
    mask, origin = cropped
    voxels = int(np.count_nonzero(mask))
    local, smoothed, level = _mask_surface(mask, voxels, smoothing)
    mesh = _to_world(local, origin, affine)
    _refuse_open(mesh, code)
    return ClassSurface(code, mesh, smoothed, level, voxels)


def _refuse_affine(affine: NDArray[np.float64]) -> None:
    """Refuse what places the voxels nowhere, or all in one plane."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or (affine[3] != (0, 0, 0, 1)).any():
        raise InputRefused(Reason.BAD_AFFINE, f"a finite (4, 4) affine was expected, got {affine.tolist()}")
    if np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputRefused(Reason.BAD_AFFINE, f"it is not invertible: {affine.tolist()}")


def _cropped(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """The box of the mask as 0/1 float32 in one voxel of background, and the index of its first voxel.

    One voxel is enough for the blur as well: beyond the box all values are below a half.
    """
    spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if len(spans[0]) == 0:
        return None
    low = np.array([span[0] for span in spans])
    high = np.array([span[-1] + 1 for span in spans])
    padded = np.zeros(high - low + 2, np.float32)
    padded[1:-1, 1:-1, 1:-1] = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return padded, low - 1


def _mask_surface(mask: NDArray[np.float32], voxels: int, smoothing: float) -> tuple[Mesh, bool, float]:
    """The surface in indices of `mask`, whether it is that of the blurred mask, and its level."""
    plain = _contour(mask, _LEVEL)
    if smoothing > 0:
        blurred = gaussian_filter(mask, smoothing, mode="constant", truncate=_BLUR_REACH)
        if blurred.max() > _LEVEL:
            soft = _contour(blurred, _LEVEL)
            if _keeps_volume(soft, voxels) and _topology(soft) == _topology(plain):
                return soft, True, _LEVEL
    if _keeps_volume(plain, voxels):
        return plain, False, _LEVEL
    # Between the levels 0 and 1 the surface of a 0/1 mask moves by a voxel: one of them has the right volume.
    level = brentq(lambda level: _volume(_contour(mask, level)) - voxels, *_LEVEL_RANGE, xtol=1e-4)
    return _contour(mask, level), False, float(level)


def _contour(field: NDArray[np.float32], level: float) -> Mesh:
    """The closed surface around the values above `level`, outward, in index coordinates."""
    vertices, faces, _, _ = marching_cubes(field, level, gradient_direction="ascent", allow_degenerate=False)
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64))


def _keeps_volume(mesh: Mesh, voxels: int) -> bool:
    """Whether the surface encloses the volume of that many voxels, within the tolerance."""
    return abs(_volume(mesh) - voxels) <= VOLUME_TOLERANCE * voxels


def _topology(mesh: Mesh) -> tuple[int, int]:
    """Number of connected surfaces and their Euler characteristic: which outer walls, cavities and handles."""
    a, b, c = mesh.faces.T
    links = coo_array(
        (np.ones(2 * len(a), np.int8), (np.concatenate([a, b]), np.concatenate([b, c]))),
        shape=(len(mesh.vertices), len(mesh.vertices)),
    )
    pieces = int(connected_components(links, directed=False)[0])
    # A closed triangle mesh has three edges to every two faces.
    return pieces, len(mesh.vertices) - len(mesh.faces) // 2


def _to_world(local: Mesh, origin: NDArray[np.int64], affine: NDArray[np.float64]) -> Mesh:
    """Move a surface from crop indices to world millimetres, outward also where the affine mirrors."""
    vertices = (local.vertices + origin) @ affine[:3, :3].T + affine[:3, 3]
    faces = local.faces if np.linalg.det(affine[:3, :3]) > 0 else local.faces[:, ::-1]
    return Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(faces))


def _refuse_open(mesh: Mesh, code: int) -> None:
    """Refuse a surface with a border, or one that does not enclose a volume from outside."""
    start = mesh.faces.ravel()
    end = np.roll(mesh.faces, -1, axis=1).ravel()
    count = len(mesh.vertices)
    # Closed: every directed edge is matched by one the other way.
    if not np.array_equal(np.sort(start * count + end), np.sort(end * count + start)):
        raise InputRefused(Reason.NOT_CLOSED, f"the surface of class {code} has a border")
    if not _volume(mesh) > 0:
        raise InputRefused(Reason.NOT_CLOSED, f"the surface of class {code} has the volume {_volume(mesh):g}")


def _volume(mesh: Mesh) -> float:
    """Signed volume by the divergence theorem, > 0 for an outward surface."""
    # About the first vertex: at world offsets the tetrahedra about the origin would cancel digits.
    a, b, c = np.moveaxis((mesh.vertices - mesh.vertices[0])[mesh.faces], 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)
