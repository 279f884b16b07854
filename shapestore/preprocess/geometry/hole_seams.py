"""Seams: where two bodies touch, and missing faces have made them look like one surface."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import Patches, unit_normals
from shapestore.preprocess.geometry.winding import WindingNumber

_LIFT: Final = 1e-4


def inside_out(patches: Patches, outward: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(F,) faces of the chosen closed patches in front of which their own patch goes round the wrong way.

    A body has winding numbers of 0 and 1 only. Where two were taken for one, and not wound alike, the smaller one has
    -1 inside.

    Parameters
    ----------
    patches
        Patches of a normalised mesh.
    outward
        (count,) +1 for patches whose faces point out, -1 for those that point in.
    chosen
        (count,) bool: the patches to look at, each in O(F log F) time.
    """
    found = np.zeros(len(patches.patch), bool)
    order = np.argsort(patches.patch, kind="stable")
    first = np.searchsorted(patches.patch[order], np.arange(patches.count + 1))
    for patch in np.flatnonzero(chosen):
        rows = order[first[patch] : first[patch + 1]]
        body = Mesh(patches.mesh.vertices, patches.mesh.faces[rows])
        ahead = body.vertices[body.faces].mean(axis=1) + outward[patch] * _LIFT * unit_normals(body)
        found[rows] = outward[patch] * WindingNumber(body).at(ahead) < -0.5
    return found
