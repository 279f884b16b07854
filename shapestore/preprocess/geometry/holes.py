"""The openings of patches: those that a missing face or a torn edge leaves are filled, for they are no way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.hole_bridges import Bridges, bridges
from shapestore.preprocess.geometry.hole_caps import LONGEST, caps
from shapestore.preprocess.geometry.hole_rims import rims
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import CREASE, Patches, areas

CONTINUES: Final = 0.35
"""A cap of at least this continuity goes on with the surface around it: the opening is a hole ..."""

SMOOTH_SHARE: Final = 1.0
"""... unless it has more than this share of the patch's area: the rim of a strip can be closed to a bubble on it."""

RIGHT_ANGLE: Final = -1e-6
"""A filling of at least this continuity turns by a right angle at most."""

FLAT: Final = 0.99
"""The end of a tube and the mouth of a vessel are flat; an opening that is less so is a dent, ..."""

DENT_SHARE: Final = 0.3
"""... and a hole if it turns by a right angle at most and has at most this share of the patch's area."""

ROUGH_SHARE: Final = 0.03
"""Any other opening is a hole if it has at most this share, and no other patch goes on from its edges."""

LARGEST_HOLE: Final = 0.03
"""No hole has more than this share of the area of all patches."""

SCRAPS: Final = 0.1
"""More than two sheets, and more than this share of the faces, are the scraps of a torn surface, not plates."""

OUTLINE: Final = 0.75
"""An opening of at least this share of its patch's area is the outline of a sheet."""


@dataclass(frozen=True, eq=False)
class Filled:
    """Patches with their holes filled.

    Attributes
    ----------
    patches
        The faces as before, followed by those of the fillings, which belong to the patch around them and have no raw
        winding. The two faces of a plate that got its sides back are one patch, wound alike.
    closed
        (count,) bool: no opening is left, and the winding is consistent.
    filling
        Area of the fillings as a share of all.
    openings
        Caps over the openings that were left, sheets' outlines excepted; over the same vertices.
    stump
        Whether a cap that goes on at its rim, or a dent, has creases along the whole of it: it may be all that is left
        of a part.
    """

    patches: Patches
    closed: NDArray[np.bool_]
    filling: float
    openings: NDArray[np.int64]
    stump: bool = False


def fill_holes(patches: Patches) -> Filled:
    """Close each hole as the surface around it would go on.

    A cap closes an opening that is convincing, a dent, or small. Two sheets that face one another with outlines that
    a band of less than their area joins at right angles are the faces of a plate. O(F log F) time.
    """
    found = rims(patches)
    if found is None:
        return Filled(patches, patches.orientable, 0.0, patches.mesh.faces[:0])
    owner = patches.patch[found.face[found.first[:-1]]]
    ends = patches.mesh.vertices[np.stack([found.start, found.end], axis=1)]
    middles = found.mean(ends.mean(axis=1))
    vertices = np.concatenate([patches.mesh.vertices, middles])
    cap = caps(vertices, found, len(patches.mesh.vertices))
    size = areas(patches.mesh)
    around = np.asarray(np.bincount(patches.patch, weights=size, minlength=patches.count)[owner], np.float64)
    largest = LARGEST_HOLE * float(size.sum())

    smooth = cap.continuity >= CONTINUES
    dent = (cap.continuity >= RIGHT_ANGLE) & (cap.flatness < FLAT)
    ending = np.logical_and.reduceat(found.single, found.first[:-1])
    share = np.where(smooth, SMOOTH_SHARE, np.where(dent, DENT_SHARE, ROUGH_SHARE))
    hole = (smooth | dent | ending) & (cap.area <= np.minimum(share * around, largest))
    sheet = np.flatnonzero(~hole & (cap.continuity < 0) & (found.edges <= LONGEST))
    if len(sheet) > max(2, SCRAPS * len(size)):
        sheet = sheet[:0]
    plate = _plates(bridges(vertices, found, middles, sheet), owner, around, largest)

    capped = hole[cap.rim]
    bridged = np.isin(np.arange(found.count), plate.rims)
    grown, patch = _grown(patches, vertices, cap.faces[capped], owner[cap.rim[capped]], plate, owner)
    closed = grown.orientable.copy()
    closed[patch[owner[~(hole | bridged)]]] = False
    left = ~hole & ~bridged & (cap.area < OUTLINE * around)
    filling = float(cap.area[hole].sum() + plate.area.sum()) / float(size.sum())
    stump = bool((hole & (smooth | dent) & (cap.bend > np.arccos(CREASE))).any())
    return Filled(grown, closed, filling, cap.faces[left[cap.rim]], stump)


def _plates(found: Bridges, owner: NDArray[np.int64], around: NDArray[np.float64], largest: float) -> Bridges:
    """Those bridges that are the sides of a plate, and of which no other one joins the same patches."""
    both = owner[found.rims]
    sides = (found.continuity >= RIGHT_ANGLE) & (found.area <= np.minimum(around[found.rims].sum(axis=1), largest))
    sides &= both[:, 0] != both[:, 1]
    times = np.bincount(both[sides].reshape(-1), minlength=int(both.max(initial=0)) + 1)
    return found.select(sides & (times[both] == 1).all(axis=1))


def _grown(
    patches: Patches,
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    patch: NDArray[np.int64],
    plate: Bridges,
    owner: NDArray[np.int64],
) -> tuple[Patches, NDArray[np.int64]]:
    """Patches with the given faces and plates' sides, and the new number of each patch."""
    first, second = owner[plate.rims].T
    merged = np.arange(patches.count)
    merged[second] = first
    kept, number = np.unique(merged, return_inverse=True)
    orientable = patches.orientable.copy()
    orientable[first] &= orientable[second]
    turned = np.isin(patches.patch, second[plate.turned])
    before = np.where(turned[:, None], patches.mesh.faces[:, ::-1], patches.mesh.faces)
    mesh = Mesh(vertices, np.concatenate([before, faces, plate.faces]))
    agreement = np.zeros(len(mesh.faces), np.int8)
    agreement[: len(before)] = np.where(turned, -patches.agreement, patches.agreement)
    belongs = np.concatenate([patches.patch, patch, first[plate.bridge]])
    return Patches(mesh, number[belongs], agreement, len(kept), orientable[kept]), number
