"""Inside or outside: solids whose occupancy is known, whole and spoilt, and grids of real meshes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import geometry_judges as judge
from benchmarks import geometry_libraries as lib
from benchmarks.common import SEED, Verdict
from benchmarks.geometry_operations import optional
from benchmarks.geometry_trials import OURS, Operation, Result
from judges import damage, furniture, solids
from shapestore.preprocess.geometry.grid import cell_centres
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import sample_surface
from shapestore.preprocess.geometry.sign import Inside

Floats = NDArray[np.float64]

COUNT: Final = 8000
CLEARANCE: Final = 5e-4
"""Positions nearer to the surface than this have no sign worth judging."""
SIGMA: Final = 0.02
"""Spread of the near positions around the surface."""
SPOILT_MEAN, SPOILT_WORST = 0.5, 2.0
"""Percent that may be wrong on spoilt shapes, on average and at worst."""
GRID_WRONG: Final = 0.1
"""Percent of the cells of a grid that may differ from the full winding number."""
NAME: Final = "inside or outside"
GRID: Final = "inside grid"

SPOILT: Mapping[str, Callable[[Mesh], Mesh]] = {
    "double-sided": damage.double_sided,
    "10 % flipped": partial(damage.flip, share=0.1, seed=SEED),
    "50 % flipped": partial(damage.flip, share=0.5, seed=SEED),
    "30 % twice": partial(damage.duplicate, share=0.3, seed=SEED),
    "parts inverted": partial(damage.invert_parts, share=0.3, seed=SEED),
    "2 % holes": partial(damage.holes, area_share=0.02, seed=SEED),
    "2 % in one hole": partial(damage.missing_patch, area_share=0.02, seed=SEED),
    "2 % cracks": partial(damage.cracks, area_share=0.02, seed=SEED),
}


def operations(quick: bool) -> Iterator[Operation]:
    """Whole shapes, then spoilt CAD; near positions and uniform ones."""
    chair = furniture.chair()
    whole = [chair] if quick else _whole(chair)
    for solid in whole:
        yield from _judged(solid, "whole", solid.mesh, 0.0)
    spoilt = [chair] if quick else [chair, furniture.table(), furniture.assembly(SEED), furniture.assembly(SEED + 1)]
    for solid in spoilt:
        for name, spoil in SPOILT.items():
            yield from _judged(solid, name, spoil(solid.mesh), SPOILT_WORST)


def _whole(chair: solids.Solid) -> list[solids.Solid]:
    """Closed shapes of every kind."""
    ball, cavity = solids.sphere(1.0), solids.sphere(0.6)
    return [
        solids.union("sphere", [ball]),
        solids.union("torus", [solids.torus(0.7, 0.25)]),
        solids.union("thin slab", [solids.box((2, 2, 0.01))]),
        solids.hollow("sphere with a cavity", [ball, cavity]),
        chair,
        furniture.table(),
        furniture.shelf(),
        furniture.assembly(SEED),
    ]


def _judged(solid: solids.Solid, state: str, mesh: Mesh, bound: float) -> Iterator[Operation]:
    made = Inside(mesh, SEED)
    case = f"{solid.name}, {state}: {made.method}, {made.confidence:.2f}"
    for where, points in _positions(solid).items():
        calls: dict[str, Callable[[], Any]] = {
            OURS: lambda points=points: Inside(mesh, SEED).contains(points),
            "libigl winding number": partial(lib.igl_inside, mesh, points),
            "trimesh contains": partial(lib.trimesh_inside, mesh, points),
            **optional("open3d", "Open3D parity", partial(lib.open3d_inside, mesh, points)),
        }
        truth = judge.share_wrong(solid.contains(points))
        yield Operation(f"{NAME}, {len(points)} {where} positions", case, "percent wrong", bound, truth, calls)


def _positions(solid: solids.Solid) -> dict[str, Floats]:
    """Near and uniform positions, none of them too near to the surface."""
    rng = np.random.default_rng(SEED)
    on = sample_surface(solid.mesh, 2 * COUNT, rng).points
    drawn = {"near": on + rng.normal(0, SIGMA, on.shape), "uniform": rng.uniform(-1, 1, (2 * COUNT, 3))}
    distances = lib.igl_distances(solid.mesh)
    least = max(CLEARANCE, solid.margin)
    return {where: points[distances(points) > least][:COUNT] for where, points in drawn.items()}


def grids(meshes: Mapping[str, Mesh], size: int) -> Iterator[Operation]:
    """Cells of real meshes, judged by our winding number of every cell."""
    centres = cell_centres(size)
    for name, mesh in meshes.items():
        made = Inside(mesh, SEED)
        calls: dict[str, Callable[[], Any]] = {
            OURS: lambda mesh=mesh: Inside(mesh, SEED).grid(size),
            "the same, every cell": lambda mesh=mesh: Inside(mesh, SEED).contains(centres),
            "libigl winding number": partial(lib.igl_inside, mesh, centres),
            **optional("open3d", "Open3D parity", partial(lib.open3d_inside, mesh, centres)),
        }
        truth = judge.share_wrong(made.contains(centres))
        case = f"{name}: {made.method}, {made.confidence:.2f}"
        yield Operation(f"{GRID}, {size}^3", case, "percent of the cells", GRID_WRONG, truth, calls)


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The bounds on whole and on spoilt shapes, and on grids."""
    ours = [result for result in results if result.library == OURS]
    signs = [result for result in ours if result.operation.startswith(NAME)]
    whole = [result.error for result in signs if result.bound == 0]
    spoilt: dict[str, list[float]] = {}
    for result in signs:
        if result.bound > 0:
            spoilt.setdefault(result.operation, []).append(result.error)
    mean, worst = max(statistics.mean(each) for each in spoilt.values()), max(max(each) for each in spoilt.values())
    cells = [100 - result.error for result in ours if result.operation.startswith(GRID)]
    found = [
        Verdict("signs of whole shapes: most percent wrong", 0.0, max(whole), at_most=True),
        Verdict("signs of spoilt CAD, near or uniform: mean percent wrong", SPOILT_MEAN, mean, at_most=True),
        Verdict("signs of spoilt CAD: most percent wrong", SPOILT_WORST, worst, at_most=True),
    ]
    if cells:
        wanted = 100 - GRID_WRONG
        found.append(Verdict("inside grids: least percent of cells as the full winding number", wanted, min(cells)))
    return found
