"""Boolean CAD and random assemblies: unions of overlapping bodies, with and without sheets that bound nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from judges.solids import Body, Floats, Solid, box, capsule, cylinder, lathe, lathe_sheet, sphere, torus, union
from shapestore.preprocess.geometry.mesh import Mesh


def chair() -> Solid:
    """Seat, back with slats, round legs that reach into the seat, armrests that touch the back."""
    legs = [cylinder(0.05, 0.9).moved((x, y, -0.42)) for x in (-0.4, 0.4) for y in (-0.4, 0.4)]
    slats = [box((0.08, 0.04, 0.9), (x, 0.45, 0.45)) for x in (-0.3, 0.0, 0.3)]
    arms = [box((0.08, 0.86, 0.06), (x, 0.0, 0.4)) for x in (-0.46, 0.46)]
    return union("chair", [box((1, 1, 0.1)), box((1, 0.04, 0.15), (0, 0.45, 0.95)), *legs, *slats, *arms])


def table() -> Solid:
    """A round plate on a turned foot, its parts stacked face on face."""
    foot = lathe([(0, 0), (0.5, 0), (0.5, 0.06), (0.1, 0.15), (0.08, 0.7), (0, 0.7)], 24)
    return union("table", [foot, cylinder(0.9, 0.05, 40).moved((0, 0, 0.725)), torus(0.88, 0.03).moved((0, 0, 0.725))])


def shelf() -> Solid:
    """Boards that share whole faces with one another, where an edge may have three or four faces."""
    sides = [box((0.1, 0.6, 2.0), (x, 0, 0)) for x in (-0.55, 0.55)]
    boards = [box((1.0, 0.6, 0.1), (0, 0, z)) for z in (-0.95, -0.3, 0.3, 0.95)]
    return union("shelf", [*sides, *boards, box((1.2, 0.02, 2.0), (0, 0.31, 0))])


def bathtub() -> Solid:
    """A vessel with thick walls, open at the top, on four feet."""
    vessel = lathe([(0, 0), (0.8, 0), (1.0, 0.7), (0.94, 0.7), (0.75, 0.08), (0, 0.08)], 32)
    feet = [sphere(0.1, 6).moved((x, y, 0)) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    return union("bathtub", [vessel, *feet])


def lamp() -> Solid:
    """A foot and a rod that are solid under a shade that is a sheet, open above and below."""
    shade = lathe_sheet([(0.6, 0.9), (0.35, 1.5)], 32)
    return union("lamp", [cylinder(0.4, 0.08).moved((0, 0, 0.04)), cylinder(0.03, 1.2).moved((0, 0, 0.6))], [shade])


def cup() -> Solid:
    """A vessel without thickness on a solid saucer."""
    vessel = lathe_sheet([(0, 0.1), (0.35, 0.1), (0.45, 0.6)], 32)
    return union("cup", [lathe([(0, 0), (0.8, 0), (0.85, 0.08), (0, 0.05)], 32)], [vessel])


def sail_plane() -> Solid:
    """A solid fuselage through which wings and fin pass as sheets."""
    fuselage = capsule(0.12, 1.4).moved(rotation=_turn((0, 1, 0), 90))
    wings = panel((-0.2, -1, 0), (0.4, 0, 0), (0, 2, 0))
    fin = panel((-0.75, 0, -0.05), (0.25, 0, 0), (0, 0, 0.5))
    return union("plane", [fuselage], [wings, fin])


def panel(corner: ArrayLike, along: ArrayLike, across: ArrayLike) -> Mesh:
    """Parallelogram of two triangles."""
    a, u, v = (np.asarray(x, np.float64) for x in (corner, along, across))
    return Mesh(np.stack([a, a + u, a + u + v, a + v]), np.array([[0, 1, 2], [0, 2, 3]]))


def assembly(seed: int) -> Solid:
    """3 to 14 random bodies, each overlapping or touching an earlier one; all closed."""
    rng = np.random.default_rng(seed)
    return union(f"assembly {seed}", _assembled(rng, int(rng.integers(3, 15))))


def sheet_assembly(seed: int) -> Solid:
    """A random assembly with 1 to 5 sheets: panels, open cones and shallow open vessels without thickness."""
    rng = np.random.default_rng(seed)
    bodies = _assembled(rng, int(rng.integers(2, 8)))
    return union(f"sheets {seed}", bodies, [_random_sheet(rng) for _ in range(rng.integers(1, 6))])


def hidden_ends(seed: int) -> Solid:
    """A random assembly of bars into a core; of each bar the faces that lie wholly inside the core are left out."""
    rng = np.random.default_rng(seed)
    core = box(rng.uniform(0.5, 1.2, 3)).moved(rotation=_random_turn(rng))
    bars = []
    for _ in range(rng.integers(2, 7)):
        radius, length = rng.uniform(0.05, 0.14), rng.uniform(0.8, 1.6)
        body = cylinder(radius, length, int(rng.choice([4, 6, 16])))
        turn = _random_turn(rng)
        bars.append(body.moved(turn @ [0, 0, length / 2 + rng.uniform(-0.02, 0.02)], turn))
    open_bars = [Body(_visible(bar.mesh, core), bar.contains) for bar in bars]
    return union(f"hidden ends {seed}", [core, *open_bars])


def _assembled(rng: np.random.Generator, count: int) -> list[Body]:
    """Random bodies, each centred near a random vertex of an earlier one."""
    bodies = [_random_body(rng)]
    for _ in range(count - 1):
        anchor = bodies[rng.integers(len(bodies))].mesh.vertices
        offset = anchor[rng.integers(len(anchor))] * rng.uniform(0.7, 1.0)
        rotation = _random_turn(rng) if rng.random() < 0.5 else None
        bodies.append(_random_body(rng).moved(offset, rotation))
    return bodies


def _random_body(rng: np.random.Generator) -> Body:
    """One body of a random kind and size."""
    a, b, c = rng.uniform(0.1, 0.6, 3)
    kind = rng.integers(7)
    if kind <= 1:
        return box((2 * a, 2 * b, c if kind else 0.03))
    if kind == 2:
        return cylinder(a / 2, 3 * b, int(rng.integers(5, 33)))
    if kind == 3:
        return sphere(a, int(rng.integers(4, 13)))
    if kind == 4:
        return capsule(a / 3, 2 * b, int(rng.integers(2, 7)))
    if kind == 5:
        return torus(a + 0.15, 0.05 + 0.1 * b, 2 * int(rng.integers(5, 17)))
    return lathe([(0, 0), (a, 0), (a + b / 2, c + 0.1), (a + b / 2 - 0.04, c + 0.1), (a * 0.9, 0.05), (0, 0.05)], 24)


def _random_sheet(rng: np.random.Generator) -> Mesh:
    """One sheet of a random kind, turned and placed at random."""
    a, b = rng.uniform(0.3, 0.8, 2)
    kind = rng.integers(4)
    if kind == 0:
        sheet = panel((-a, -b, 0), (2 * a, 0, 0), (0, 2 * b, 0))
    elif kind == 1:
        sheet = lathe_sheet([(a, 0), (a * rng.uniform(0.4, 1), b)], int(rng.integers(4, 33)))
    elif kind == 2:
        sheet = lathe_sheet([(0, 0), (a, 0), (a * 1.1, a * rng.uniform(0.3, 1.2))], int(rng.integers(4, 33)))
    else:
        angle = np.linspace(-np.pi / 2, 0, 8)
        bowl = a * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        bowl[0, 0] = 0
        sheet = lathe_sheet(bowl, 24)
    offset = rng.uniform(-0.5, 0.5, 3)
    return Mesh(sheet.vertices @ _random_turn(rng).T + offset, sheet.faces)


def _visible(mesh: Mesh, core: Body) -> Mesh:
    """The faces of which some corner or the middle is outside the core."""
    corners = mesh.vertices[mesh.faces]
    probes = np.concatenate([corners, corners.mean(axis=1, keepdims=True)], axis=1)
    hidden = core.contains(probes.reshape(-1, 3)).reshape(-1, 4).all(axis=1)
    return Mesh(mesh.vertices, mesh.faces[~hidden])


def _random_turn(rng: np.random.Generator) -> Floats:
    """A uniformly random rotation matrix."""
    return np.asarray(Rotation.from_quat(rng.normal(size=4)).as_matrix())


def _turn(axis: ArrayLike, degrees: float) -> Floats:
    """Rotation about an axis of length 1."""
    return np.asarray(Rotation.from_rotvec(np.radians(degrees) * np.asarray(axis, np.float64)).as_matrix())
