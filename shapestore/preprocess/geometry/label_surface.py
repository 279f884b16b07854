"""Closed, outward class surfaces of a label map, in world millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.closed_mesh import ClosedMesh, closed_mesh, signed_volume
from shapestore.preprocess.geometry.label_fields import SEVERAL, ClassFields
from shapestore.preprocess.geometry.label_volume import LabelVolume
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame, box_frame


@dataclass(frozen=True, eq=False)
class ClassSurface:
    """The surface of one class and how it was made.

    Attributes
    ----------
    code
        The class, 1..254.
    solid
        Closed and outward, world millimetres.
    crisp
        Share of its voxels whose mask was not blurred, because they or voxels next to them are too thin for it.
    level
        Level of the 0/1 mask at which the surface was taken: 0.4999, or another one where a thin class would lose
        more than `VOLUME_TOLERANCE` of its volume there.
    voxels
        Number of voxels of the class, >= 1.
    """

    code: int
    solid: ClosedMesh
    crisp: float
    level: float
    voxels: int

    @property
    def mesh(self) -> Mesh:
        """Closed and outward, world millimetres."""
        return self.solid.mesh


@dataclass(frozen=True, eq=False)
class LabelSurfaces:
    """The surfaces of all classes of a label map.

    Attributes
    ----------
    classes
        One for each class with at least one voxel, in the order of their codes.
    owners
        (X, Y, Z) uint8: the class whose surface encloses the centre of a voxel, 0 for none, or `SEVERAL`. A surface
        passes only through cells whose eight voxel centres are not all on one side of it.
    affine
        (4, 4) float64, index of `owners` to world millimetres.
    """

    classes: tuple[ClassSurface, ...]
    owners: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def frame(self) -> Frame:
        """Frame of all classes together: the centre of their bounding box, the farthest vertex at distance 1."""
        return box_frame(np.concatenate([surface.mesh.vertices for surface in self.classes]))


def class_surfaces(volume: LabelVolume, smoothing: float = 0.7) -> LabelSurfaces:
    """Take the surfaces of all classes by marching cubes (Lewiner et al., J. Graphics Tools 8(2), 2003).

    The 0/1 mask of a class is blurred first, which takes the steps of the voxels off the surface and the bias off
    its distances. Where the blur would take away a part or a gap that is too thin for it, join what is apart or part
    what is joined (`lost_by_blur`), the masks of all classes stay as they are; and all around a class whose volume
    the blur would change by more than `VOLUME_TOLERANCE`. Such a class is taken at the level that keeps its volume
    best, and its neighbours make room for it. So the masks of two classes add up to one wherever the two meet, and both
    have the same wall. Beyond the border of the map is background, so surfaces are closed there.

    Parameters
    ----------
    volume
        With classes up to 254.
    smoothing
        Standard deviation of the Gaussian blur, voxels as of `blurred_mask`, >= 0; 0 for none.

    Returns
    -------
    LabelSurfaces
        Time linear in the voxels of the boxes of all classes. Memory: 4 bytes for each of those, twice over for the
        largest box, 2 bytes a voxel of the volume, and about 150 bytes a face.

    Raises
    ------
    InputRefused
        NOT_CLOSED where a surface has a border or encloses no positive volume.
    ValueError
        A class out of range, or a negative or infinite smoothing.
    """
    if volume.voxels[SEVERAL] or not 0 <= smoothing < math.inf:
        raise ValueError(f"codes are 1 to 254 and smoothing >= 0, got codes {volume.present} and {smoothing}")
    fields = ClassFields(volume, smoothing)
    waiting, meshes = set(volume.present), dict[int, Mesh]()
    while waiting:
        meshes |= {code: fields.contour(code) for code in sorted(waiting)}
        eaten = [
            code
            for code in sorted(waiting)
            if not (fields.is_crisp(code) or fields.keeps_volume(code, signed_volume(meshes[code])))
        ]
        waiting = fields.leave_crisp(eaten)
    crisp = fields.crisp_shares()
    classes = tuple(
        ClassSurface(
            code,
            closed_mesh(_to_world(meshes[code], volume.affine), f"the surface of class {code}"),
            float(crisp[code]),
            fields.level(code),
            int(volume.voxels[code]),
        )
        for code in volume.present
    )
    return LabelSurfaces(classes, fields.owners(), volume.affine)


def _to_world(local: Mesh, affine: NDArray[np.float64]) -> Mesh:
    """Move a surface from indices to world millimetres, outward also where the affine mirrors."""
    vertices = local.vertices @ affine[:3, :3].T + affine[:3, 3]
    faces = local.faces if np.linalg.det(affine[:3, :3]) > 0 else local.faces[:, ::-1]
    return Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(faces))
