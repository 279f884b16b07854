"""Inside or outside, for any mesh: the method is chosen by what the mesh is, and how far to trust it is measured."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.inside_grid import inside_grid
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.orientation import Orientation, orient
from shapestore.preprocess.geometry.sample import sample_surface
from shapestore.preprocess.geometry.visibility import Openness, spread_directions
from shapestore.preprocess.geometry.winding import WindingNumber

Method = Literal["winding", "visibility", "escape"]

SHEETS: Final = 0.045
"""A mesh with more than this share of its area in sheets is not turned into a solid: what is seen is outside."""

TORN: Final = 0.1
"""A surface of so many open patches for its faces has cracks, ..."""

LEAK: Final = 0.2
"""... and they matter if light gets through them to this share of the positions that the surface goes round."""

AJAR: Final = 0.002
"""With this share of the area in openings or in what surrounds them, a surface is not known to be whole."""

ENCLOSED: Final = 0.02
"""With this share of the area in parts that may be solid or cavities, 2 % of the answers depend on which."""

_STAGES: Final = (16, 48, 192)
_PROBES: Final = 512


class Inside:
    """Which positions a mesh holds.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`, normalised by `box_frame`; open, torn, repeated or badly wound as it may be.
    seed
        Of the samples and ray directions; where every patch of the mesh is closed, nothing is drawn.

    Attributes
    ----------
    method
        "winding": every patch is closed, and a position is inside where the surface, turned outwards, goes round it:
        the generalised winding number is above 0.5 (Jacobson et al., "Robust inside-outside segmentation using
        generalized winding numbers", SIGGRAPH 2013). "visibility": the same, with open patches turned by the view
        from outside. "escape": the mesh has sheets, and a position is inside where none of 256 rays leaves the mesh.
    confidence
        0 to 1. What the mesh leaves open takes away from it: openings, fillings, surfaces that could be walls or
        sheets, and random positions at which winding number and rays disagree. Below 0.9 more than 2 % of the answers
        may be wrong.

    Raises
    ------
    InputRefused
        As `refuse_unsafe`.
    UsageError
        Rays are needed, and there is no embreex on this platform.
    """

    method: Method
    confidence: float

    def __init__(self, mesh: Mesh, seed: int) -> None:
        refuse_unsafe(mesh)
        rng = np.random.default_rng(seed)
        surface = orient(mesh, rng)
        self._barriers = surface.barriers
        self._number = WindingNumber(surface.mesh)
        self._scene = surface.scene
        if self._scene is None:
            self.method = "winding"
            self.confidence = max(0.0, 1 - 0.1 * surface.stump - 2 * surface.filling - _cavity_doubt(surface))
            return
        self._directions = np.split(spread_directions(sum(_STAGES), rng), np.cumsum(_STAGES)[:-1])
        lit, gap = self._probe(mesh, self._scene, rng)
        self.method = _method(surface, lit)
        self.confidence = _confidence(surface, self.method, lit, gap)

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """(n,) whether each of (n, 3) finite positions is inside.

        The answer for a position does not depend on the others. O(log F) a position; at most 50 MB for rays.

        Raises
        ------
        InputRefused
            NOT_FINITE for a NaN or infinite position.
        """
        positions = np.ascontiguousarray(points, dtype=np.float64)
        if not np.isfinite(positions).all():
            raise InputRefused(Reason.NOT_FINITE, "positions that are on no side of a surface")
        if self.method == "escape" and self._scene is not None:
            return _sealed(self._scene, positions, self._directions)
        return self._number.at(positions) > 0.5

    def grid(self, size: int) -> NDArray[np.bool_]:
        """(size, size, size) whether the centre of each cell of [-1, 1]^3 is inside, indexed (x, y, z).

        As `contains` at the cell centres, for a fraction of its cost: see `inside_grid`.
        """
        return inside_grid(self.contains, self._barriers, size, closed=self._scene is None)

    def _probe(self, mesh: Mesh, scene: Openness, rng: np.random.Generator) -> tuple[float, float]:
        """Two measures at random positions near the surface and throughout the cube.

        The share of the positions within the surface that little light reaches, and the largest share of either kind
        at which winding number and rays contradict one another.
        """
        near = sample_surface(mesh, _PROBES, rng).points + rng.normal(0, 0.02, (_PROBES, 3))
        points = np.concatenate([near, rng.uniform(-1, 1, (_PROBES, 3))])
        within = self._number.at(points) > 0.5
        light = scene.share(points, np.concatenate(self._directions[:2]))
        against = (within & (light > 0.1)) | (~within & (light == 0))
        dim = within & (light > 0) & (light <= 0.1)
        lit = float(dim.sum()) / max(float(within.sum()), 1.0)
        return lit, float(against.reshape(2, _PROBES).mean(axis=1).max())


def _method(surface: Orientation, lit: float) -> Method:
    """Sheets call for rays, unless light leaks in through cracks and the faces say by themselves what is out."""
    torn = surface.loose > TORN and lit > LEAK
    if surface.sheets <= SHEETS or (torn and (surface.trusted or surface.sheets < 2 * SHEETS)):
        return "visibility"
    return "escape"


def _confidence(surface: Orientation, method: Method, lit: float, gap: float) -> float:
    """1 less what is in doubt; the factors were fitted to spoilt solids whose inside is known."""
    if method == "escape":
        doubt = max(3 * (surface.openings + surface.filling), 3 * surface.unclear, lit)
    else:
        # The size of an opening does not tell how much of a part is missing beyond it: a small one weighs a tenth too.
        ajar = 1.0 if surface.stump else min((surface.openings + surface.sheets + surface.unclear) / AJAR, 1.0)
        doubt = 0.1 * ajar + 5 * surface.openings + 2 * surface.filling + surface.unclear + 0.25 * lit
        doubt += _cavity_doubt(surface)
    return max(0.0, 1 - max(doubt, gap))


def _cavity_doubt(surface: Orientation) -> float:
    """What parts within others take away whose winding was lost: they count as solid, and could be cavities."""
    return 0.11 * min(surface.enclosed / ENCLOSED, 1.0)


def _sealed(scene: Openness, points: NDArray[np.float64], stages: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """(n,) positions from which no ray leaves the mesh; those that few rays show to be outside cost no more."""
    rows = np.arange(len(points))
    for directions in stages:
        rows = rows[scene.share(points[rows], directions) == 0]
    sealed = np.zeros(len(points), bool)
    sealed[rows] = True
    return sealed
