"""Which rays leave a mesh: what is seen from far away is outside."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.preprocess.geometry.mesh import Mesh

_RAYS_AT_ONCE: Final = 1 << 19


class Openness:
    """Whether rays meet a mesh within the unit ball.

    Embree traces in float32; O(F log F) to make, about O(log F) a ray, some 100 bytes a face. UsageError where there is
    no embreex for the platform.
    """

    def __init__(self, mesh: Mesh) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise UsageError(
                "The inside of a mesh that is not closed is found by rays, which need the package embreex. It is not "
                "built for this platform (there are builds for x86-64 and macOS): leave the sign out, or run elsewhere."
            ) from error
        self._scene = EmbreeScene(robust=True)  # else rays can slip through between two faces at their common edge
        TriangleMesh(self._scene, mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))

    def escapes(self, origins: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether the ray from each of (n, 3) origins in its (n, 3) direction meets no face."""
        met = self._scene.run(origins.astype(np.float32), directions.astype(np.float32), query="OCCLUDED")
        return np.asarray(met < 0)

    def share(self, points: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) share of the (k, 3) directions in which a ray from each of (n, 3) points meets no face.

        At most half a million rays are held at once, about 50 MB.
        """
        shares = np.empty(len(points))
        step = max(_RAYS_AT_ONCE // len(directions), 1)
        for first in range(0, len(points), step):
            part = points[first : first + step]
            free = self.escapes(np.repeat(part, len(directions), axis=0), np.tile(directions, (len(part), 1)))
            shares[first : first + step] = free.reshape(len(part), len(directions)).mean(axis=1)
        return shares


def spread_directions(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 3) unit vectors spread evenly over the sphere by a golden spiral, turned and shuffled at random."""
    index = np.arange(count)
    height = 1 - (2 * index + 1) / count
    angle = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    spiral = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray((spiral @ turn)[rng.permutation(count)])
