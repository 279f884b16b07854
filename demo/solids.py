"""Analytic solids, the furniture and crockery built of them, and points drawn from their surfaces.

Objects are y-up, face +z, stand on y = 0 and measure about a metre. Every solid is closed, with outward
winding and polygonal faces, so its signed volume is positive; an object is a list of overlapping solids, as
the models of public mesh collections are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Solid:
    """A named polygon mesh.

    Attributes
    ----------
    name
        Becomes the group name in files that have groups.
    vertices
        (V, 3) float64.
    faces
        Planar convex polygons as vertex indices, counter-clockwise seen from outside.
    """

    name: str
    vertices: Floats
    faces: tuple[tuple[int, ...], ...]

    def moved(self, offset: ArrayLike) -> Solid:
        """Return the solid translated by `offset` (3,)."""
        return Solid(self.name, self.vertices + np.asarray(offset), self.faces)


def loft(name: str, rings: Floats) -> Solid:
    """Join consecutive rings by quads and close both ends with a polygon.

    Parameters
    ----------
    name
        Name of the solid.
    rings
        (R, S, 3); each ring runs counter-clockwise about the direction in which the rings follow one another.
    """
    count, sides = rings.shape[:2]
    first = np.arange(count)[:, None] * sides
    here, there = first + np.arange(sides), first + np.roll(np.arange(sides), -1)
    quads = np.stack([here[:-1], there[:-1], there[1:], here[1:]], axis=-1).reshape(-1, 4)
    faces = [tuple(map(int, face)) for face in (*quads, here[0, ::-1], here[-1])]
    return Solid(name, rings.reshape(-1, 3), tuple(faces))


def box(name: str, centre: ArrayLike, size: ArrayLike) -> Solid:
    """Return an axis-aligned box of six quads."""
    ring = np.array([[1, -1, 1], [1, -1, -1], [-1, -1, -1], [-1, -1, 1]]) / 2
    rings = np.stack([ring, ring * [1, -1, 1]])
    return loft(name, np.asarray(centre) + rings * np.asarray(size))


def lathe(name: str, profile: ArrayLike, sides: int = 24) -> Solid:
    """Turn a profile about the y axis.

    Parameters
    ----------
    name
        Name of the solid.
    profile
        (P, 2) radius > 0 and height; from the middle of the bottom along the outside. A profile that goes
        back down is a vessel.
    sides
        Corners of each ring.
    """
    radius, height = np.asarray(profile, dtype=np.float64).T[:, :, None]
    angle = np.arange(sides) * (2 * np.pi / sides)
    rings = np.broadcast_arrays(radius * np.cos(angle), height, -radius * np.sin(angle))
    return loft(name, np.stack(rings, axis=-1))


def arc_tube(name: str, centre: ArrayLike, bend: float, radius: float, half_angle: float, sides: int = 12) -> Solid:
    """Sweep a disc along a circular arc in the xy plane, open towards -x: the handle of a mug.

    Parameters
    ----------
    name
        Name of the solid.
    centre
        (3,) centre of the arc.
    bend, radius
        Radius of the arc and of the disc; `radius` < `bend`, or the tube cuts itself.
    half_angle
        The arc covers (-half_angle, half_angle) about +x, radians.
    sides
        Corners of each ring.
    """
    along = np.linspace(-half_angle, half_angle, 2 * sides)[:, None]
    around = np.arange(sides) * (2 * np.pi / sides)
    reach = bend + radius * np.cos(around)
    rings = np.broadcast_arrays(reach * np.cos(along), reach * np.sin(along), radius * np.sin(-around))
    # A rising angle moves the disc towards +y, so its corners run clockwise seen from +z: hence the minus.
    return loft(name, np.asarray(centre) + np.stack(rings, axis=-1))


def doubled_panel(name: str, low: ArrayLike, high: ArrayLike) -> Solid:
    """Return a sheet without thickness at constant z, stored once with each winding: its volume is zero."""
    (x0, y0, z), (x1, y1, _) = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    corners = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
    # Both start at corner 0, so that fans split them along the same diagonal.
    return Solid(name, corners, ((0, 1, 2, 3), (0, 3, 2, 1)))


def bounds(solids: Iterable[Solid]) -> Floats:
    """Return the (2, 3) lowest and highest corner of all solids."""
    vertices = np.concatenate([solid.vertices for solid in solids])
    return np.stack([vertices.min(axis=0), vertices.max(axis=0)])


def triangulate(solids: Sequence[Solid]) -> tuple[Floats, Ints, Ints]:
    """Split all faces into fans.

    Returns
    -------
    tuple
        Vertices (V, 3), triangles (F, 3), and the solid each triangle belongs to (F,).
    """
    triangles: list[tuple[int, int, int]] = []
    owner: list[int] = []
    base = 0
    for index, solid in enumerate(solids):
        for first, *rest in solid.faces:
            fan = [(base + first, base + b, base + c) for b, c in pairwise(rest)]
            triangles += fan
            owner += [index] * len(fan)
        base += len(solid.vertices)
    return np.concatenate([s.vertices for s in solids]), np.array(triangles), np.array(owner)


def sample_surface(solids: Sequence[Solid], count: int, rng: Generator) -> tuple[Floats, Floats, Ints]:
    """Draw points uniformly by area from the surfaces of all solids, hidden ones included.

    Points are uniform in a triangle by the square-root map of Osada et al., Shape Distributions, ACM TOG
    2002, section 4.

    Returns
    -------
    tuple
        Points (count, 3), unit face normals (count, 3), and the solid of each point (count,).
    """
    vertices, triangles, owner = triangulate(solids)
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    twice_area = np.linalg.norm(normal, axis=1)
    chosen = rng.choice(len(triangles), size=count, p=twice_area / twice_area.sum())
    root, slide = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    points = (1 - root) * a[chosen] + root * (1 - slide) * b[chosen] + root * slide * c[chosen]
    return points, normal[chosen] / twice_area[chosen, None], owner[chosen]


def _legs(rng: Generator, width: float, depth: float, height: float) -> list[Solid]:
    thick = rng.uniform(0.03, 0.06)
    if rng.random() < 0.5:
        leg = box("leg", [0, height / 2, 0], [thick, height, thick])
    else:
        leg = lathe("leg", [[0.3 * thick, 0], [0.5 * thick, height]], sides=10)
    x, z = (width - thick) / 2, (depth - thick) / 2
    corners = [(x, z), (x, -z), (-x, -z), (-x, z)]
    return [Solid(f"leg_{k}", leg.moved([u, 0, v]).vertices, leg.faces) for k, (u, v) in enumerate(corners)]


def chair(rng: Generator) -> list[Solid]:
    """Seat, back, four legs, and arms on about half of them."""
    width, depth, seat, back = rng.uniform([0.42, 0.42, 0.40, 0.40], [0.6, 0.55, 0.5, 0.6])
    rear = 0.03 - depth / 2
    parts = [
        box("seat", [0, seat, 0], [width, 0.05, depth]),
        box("back", [0, seat + back / 2, rear], [width, back, 0.05]),
        *_legs(rng, width, depth, seat),
    ]
    if rng.random() < 0.5:
        for side, x in (("left", -width / 2), ("right", width / 2)):
            parts.append(box(f"arm_{side}", [x, seat + 0.2, 0], [0.05, 0.04, depth]))
            parts.append(box(f"post_{side}", [x, seat + 0.1, depth / 3], [0.04, 0.2, 0.04]))
    return parts


def table(rng: Generator) -> list[Solid]:
    """A rectangular top on four legs, or a round one on a foot."""
    width, depth, height = rng.uniform([0.8, 0.6, 0.6], [1.4, 0.9, 0.8])
    if rng.random() < 0.6:
        return [
            box("top", [0, height, 0], [width, 0.04, depth]),
            *_legs(rng, 0.94 * width, 0.94 * depth, height),
        ]
    radius = width / 2
    return [
        lathe("top", [[radius, height - 0.03], [radius, height]], sides=40),
        lathe("foot", [[0.6 * radius, 0], [0.6 * radius, 0.03], [0.05, 0.09], [0.05, height]]),
    ]


def mug(rng: Generator) -> list[Solid]:
    """A thick-walled cup and a handle that pierces its wall."""
    radius, height, wall = rng.uniform([0.3, 0.7, 0.04], [0.45, 1.0, 0.07])
    inner = radius - wall
    cup = lathe("cup", [[0.9 * radius, 0], [radius, 0.1], [radius, height], [inner, height], [inner, wall]], sides=32)
    bend = rng.uniform(0.22, 0.32) * height
    # The ends stop inside the wall: the arc is cut where its middle line meets the middle of the wall.
    half_angle = np.pi - np.arccos(0.3)
    handle = arc_tube("handle", [radius - wall / 2 + 0.3 * bend, height / 2, 0], bend, 0.8 * wall, half_angle)
    return [cup, handle]


def bottle(rng: Generator) -> list[Solid]:
    """A turned body with a shoulder and a neck, and a cap."""
    radius, shoulder, neck = rng.uniform([0.12, 0.5, 0.04], [0.2, 0.7, 0.06])
    body = [[0.9 * radius, 0], [radius, 0.03], [radius, shoulder], [neck, shoulder + 0.18], [neck, 0.98]]
    return [lathe("body", body, sides=32), lathe("cap", [[1.25 * neck, 0.94], [1.25 * neck, 1.0]], sides=20)]


def trash_bin(rng: Generator) -> list[Solid]:
    """An open tapered vessel with a lip."""
    foot, mouth, height = rng.uniform([0.15, 0.2, 0.4], [0.2, 0.28, 0.7])
    lip = [
        [mouth, height - 0.03],
        [mouth + 0.03, height - 0.03],
        [mouth + 0.03, height],
        [mouth - 0.015, height],
    ]
    return [lathe("vessel", [[foot, 0], *lip, [foot - 0.015, 0.02]])]


def cabinet(rng: Generator) -> list[Solid]:
    """A closed body with two doors and their knobs."""
    width, height, depth = rng.uniform([0.6, 0.7, 0.35], [1.0, 1.4, 0.5])
    front = depth / 2
    parts = [box("body", [0, height / 2, 0], [width, height, depth])]
    for side, x in (("left", -width / 4), ("right", width / 4)):
        parts.append(box(f"door_{side}", [x, height / 2, front], [0.46 * width, 0.92 * height, 0.03]))
        parts.append(box(f"knob_{side}", [0.2 * x, 0.55 * height, front + 0.03], [0.02, 0.08, 0.03]))
    return parts


def shelf(rng: Generator) -> list[Solid]:
    """Two sides, a rear wall and three to five boards."""
    width, height, depth = rng.uniform([0.6, 1.0, 0.25], [1.0, 1.8, 0.4])
    boards = int(rng.integers(3, 6))
    parts = [box("rear", [0, height / 2, 0.01 - depth / 2], [width, height, 0.02])]
    parts += [
        box(f"side_{k}", [x, height / 2, 0], [0.03, height, depth]) for k, x in enumerate((-width / 2, width / 2))
    ]
    levels = np.linspace(0.02, height - 0.02, boards)
    return parts + [box(f"board_{k}", [0, y, 0], [width, 0.03, depth]) for k, y in enumerate(levels)]


def display(rng: Generator) -> list[Solid]:
    """A flat screen on a round foot."""
    width, foot = rng.uniform([0.5, 0.1], [1.0, 0.15])
    screen = box("screen", [0, 0.18 + 0.3 * width, 0], [width, 0.6 * width, 0.04])
    return [screen, lathe("foot", [[foot, 0], [foot, 0.02], [0.03, 0.05], [0.03, 0.2]])]


def sofa(rng: Generator) -> list[Solid]:
    """A base with back, arms and two or three cushions."""
    width, depth, back, arm = rng.uniform([1.3, 0.7, 0.55, 0.5], [2.0, 0.9, 0.85, 0.7])
    cushions = int(rng.integers(2, 4))
    parts = [
        box("base", [0, 0.15, 0], [width, 0.3, depth]),
        box("back", [0, 0.1 + back / 2, 0.1 - depth / 2], [width, back, 0.2]),
        *(box(f"arm_{k}", [x, arm / 2, 0], [0.15, arm, depth]) for k, x in enumerate((-width / 2, width / 2))),
    ]
    seat = (width - 0.16) / cushions
    middle = (np.arange(cushions) - (cushions - 1) / 2) * seat
    return parts + [
        box(f"cushion_{k}", [x, 0.34, 0.1], [0.96 * seat, 0.16, depth - 0.25]) for k, x in enumerate(middle)
    ]


#: Object builders by the name of the class in ShapeNet, or in ScanObjectNN where ShapeNet has none.
OBJECTS: dict[str, Callable[[Generator], list[Solid]]] = {
    "bin": trash_bin,
    "bottle": bottle,
    "cabinet": cabinet,
    "chair": chair,
    "display": display,
    "mug": mug,
    "shelf": shelf,
    "sofa": sofa,
    "table": table,
}
