"""How open the view is from either side of a surface: what tells a wall from a sheet, and the outside of a wall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import Patches, areas, unit_normals
from shapestore.preprocess.geometry.visibility import Openness, spread_directions

BURIED: Final = 0.02
"""A place from which fewer rays leave on either side is hidden within other parts."""

_DIRECTIONS: Final = 32
_AT_ONCE: Final = 1 << 14
# Near the surface a sign means nothing within 5e-4; a ray may start anywhere in that band.
_LIFT: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Views:
    """Samples of patches, and the share of rays that leave the mesh from each side of them.

    Attributes
    ----------
    patch
        (n,) the patch of each sample.
    weight
        (n,) the area that each sample stands for.
    front, back
        (n,) share of the rays that leave on the side to which the face's normal points, and on the other.
    count
        Number of patches.
    """

    patch: NDArray[np.int64]
    weight: NDArray[np.float64]
    front: NDArray[np.float64]
    back: NDArray[np.float64]
    count: int

    def area(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(count,) area of each patch that the chosen samples stand for."""
        return np.asarray(np.bincount(self.patch, weights=self.weight * chosen, minlength=self.count), np.float64)

    def seen(self) -> NDArray[np.bool_]:
        """(n,) whether a sample is seen from outside, on either side."""
        return np.asarray(np.maximum(self.front, self.back) >= BURIED)

    def balance(self) -> NDArray[np.float64]:
        """(n,) openness of the darker side relative to the brighter one, 0 to 1; 0 where a sample is not seen."""
        dark, bright = np.minimum(self.front, self.back), np.maximum(self.front, self.back)
        return np.divide(dark, bright, out=np.zeros_like(dark), where=self.seen())


def views(
    patches: Patches, chosen: NDArray[np.bool_], scene: Openness, samples: int, rng: np.random.Generator
) -> Views:
    """Look out from both sides of the chosen patches.

    Samples are drawn area-weighted and stratified within each patch, at least 8 a patch as long as there are few of
    them; each looks in the same 32 directions, half of them on either side. O(samples + patches) rays, 50 MB of
    them at a time.

    Parameters
    ----------
    patches
        Patches of a normalised mesh.
    chosen
        (count,) bool, at least one of them True: the patches to look from.
    scene
        What blocks the view.
    samples
        About how many samples to take.
    rng
        Source of the samples and of the turn of the directions.
    """
    rows = np.flatnonzero(chosen[patches.patch])
    rows = rows[np.argsort(patches.patch[rows], kind="stable")]
    size = areas(Mesh(patches.mesh.vertices, patches.mesh.faces[rows]))
    total = np.bincount(patches.patch[rows], weights=size, minlength=patches.count)
    least = max(1, min(8, 2 * samples // int(chosen.sum())))
    wanted = np.where(chosen, np.maximum(np.round(samples * total / total.sum()), least), 0).astype(np.int64)
    owner = np.repeat(np.arange(patches.count), wanted)
    rank = np.arange(len(owner)) - (np.cumsum(wanted) - wanted)[owner]
    position = (np.cumsum(total) - total)[owner] + total[owner] * (rank + rng.random(len(owner))) / wanted[owner]
    face = rows[np.minimum(np.searchsorted(np.cumsum(size), position, side="right"), len(rows) - 1)]
    front, back = _look(Mesh(patches.mesh.vertices, patches.mesh.faces[face]), scene, rng)
    return Views(owner, (total / np.maximum(wanted, 1))[owner], front, back, patches.count)


def _look(
    triangles: Mesh, scene: Openness, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of rays that leave from a random point of each triangle, on its front and on its back."""
    corners = triangles.vertices[triangles.faces]
    u, v = rng.random((2, len(corners)))
    root = np.sqrt(u)
    weights = np.stack([1 - root, root * (1 - v), root * v], axis=1)
    points = (weights[:, :, None] * corners).sum(axis=1)
    normals = unit_normals(triangles)
    directions = spread_directions(_DIRECTIONS, rng)
    front, back = np.empty(len(points)), np.empty(len(points))
    for first in range(0, len(points), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        ahead = normals[part] @ directions.T > 0
        lifted = points[part, None] + np.where(ahead, _LIFT, -_LIFT)[..., None] * normals[part, None]
        towards = np.broadcast_to(directions, lifted.shape)
        free = scene.escapes(lifted.reshape(-1, 3), towards.reshape(-1, 3)).reshape(ahead.shape)
        front[part] = (free & ahead).sum(axis=1) / np.maximum(ahead.sum(axis=1), 1)
        back[part] = (free & ~ahead).sum(axis=1) / np.maximum((~ahead).sum(axis=1), 1)
    return front, back
