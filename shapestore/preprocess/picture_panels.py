"""What to show of a shape: each family of arrays as panels, and the choice of those that tell most together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.preprocess import picture_draw as draw
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import (
    AnyFamily,
    FpsOrder,
    LabelCounts,
    Labels,
    OccupancyGrid,
    Points,
    QueryPool,
    RayPool,
    SdfGrid,
    SdfSamples,
    UdfGrid,
)
from shapestore.store.reader import Store

MOST_PANELS: Final = 6

SIDES: Final = ((35.0, 22.0), (125.0, 22.0))
"""Azimuth and elevation of the two views, degrees."""

FIRST_OF_ORDER: Final = 128
"""Leading points of a farthest-point order that are shown."""

CUT_SHARE: Final = 0.1
"""Share of the samples that a flat cut shows: those nearest to the plane."""


@dataclass(frozen=True)
class Panel:
    """One square of a picture."""

    title: str
    draw: Callable[[Axes], None]


Panels = tuple[Panel, ...]


@dataclass(frozen=True)
class Shape:
    """One row of a store, as the panels read it."""

    store: Store
    row: int

    def array(self, spec: ArraySpec, count: ArraySpec | None = None) -> NDArray[Any]:
        """One array, cut to its count; floats in single precision at least."""
        values = self.store.row(spec.name, self.row)
        if count is not None:
            values = values[: int(self.store.index(count.name)[self.row])]
        return values.astype(np.float32) if values.dtype == np.float16 else values

    @property
    def families(self) -> tuple[AnyFamily, ...]:
        """All families of the store."""
        return self.store.root.content.families

    @property
    def up(self) -> int:
        """Which axis is up by the custom of the dataset or of the file format: 1 for y, 2 for z."""
        root = self.store.root
        cache = root.recipe.cache
        source = str(self.store.index("source")[self.row]).lower()
        y_up = root.source_kind in ("shapenet", "scanobjectnn") or source.endswith((".glb", ".gltf"))
        y_up |= root.source_kind == "modelnet40" and not source.endswith(".off")
        return 1 if y_up or (cache is not None and cache.layout != "vecsetx") else 2

    def views(self) -> tuple[draw.View, ...]:
        """Where it is seen from."""
        return tuple(draw.View(azimuth, elevation, self.up) for azimuth, elevation in SIDES)


def overview(shape: Shape) -> Panels:
    """The panels that tell most, at most six: surface, samples by their sign, grids, queries, rays."""
    ranked: list[tuple[int, Panels]] = []
    for family in shape.families:
        if isinstance(family, Points):
            ranked.append((0, points_panels(shape, family, None)))
        elif isinstance(family, SdfSamples):
            ranked.append((1 + ("surface", "volume", "near").index(family.where), sample_panels(shape, family, None)))
        elif isinstance(family, UdfGrid | SdfGrid):
            ranked.append((4, grid_panels(shape, family)))
        elif isinstance(family, QueryPool):
            ranked.append((5, query_panels(shape, family, None)[1:]))
        elif isinstance(family, RayPool):
            ranked.append((6, ray_panels(shape, family, None)[:1]))
        elif isinstance(family, OccupancyGrid):
            ranked.append((7, grid_panels(shape, family)))
    chosen: list[tuple[int, Panels]] = []
    for rank, panels in sorted(ranked, key=lambda each: each[0]):
        if sum(len(each) for _, each in chosen) + len(panels) <= MOST_PANELS:
            chosen.append((rank, panels))
    # Grids come last, so that their three slices stand in one line; three pairs stand in three columns.
    ordered = [panels for _, panels in sorted(chosen, key=lambda each: each[0] in (4, 7))]
    if [len(panels) for panels in ordered] == [2, 2, 2]:
        ordered = list(zip(*ordered, strict=True))
    return tuple(panel for panels in ordered for panel in panels)


def panels_of(shape: Shape, name: str) -> Panels:
    """The panels that show one array.

    Raises
    ------
    UsageError
        The store has no such array, or it is one value a row.
    """
    spec = shape.store.root.content.by_name.get(name)
    if spec is None or spec.kind == "index":
        shown = ", ".join(each.name for each in shape.store.root.content.data_arrays)
        raise UsageError(f"{shape.store.path} has no array {name!r} to draw. It has: {shown}.")
    family = next(family for family in shape.families if spec in family.arrays())
    if isinstance(family, Points):
        return points_panels(shape, family, spec)
    if isinstance(family, SdfSamples):
        return sample_panels(shape, family, spec)
    if isinstance(family, QueryPool):
        return query_panels(shape, family, spec)
    if isinstance(family, RayPool):
        return ray_panels(shape, family, spec)
    if isinstance(family, FpsOrder):
        return order_panels(shape, family)
    if isinstance(family, Labels):
        return label_panels(shape, family)
    if isinstance(family, LabelCounts):
        return count_panels(shape, family)
    if isinstance(family, UdfGrid | SdfGrid | OccupancyGrid):
        return grid_panels(shape, family)
    raise UsageError(f"{name} is one value a row: see it with shapestore show.")


def points_panels(shape: Shape, family: Points, asked: ArraySpec | None) -> Panels:
    """Two views, coloured by the labels of the points, by their height, or, where normals are asked for, by those."""
    points = shape.array(family.points)
    normals = shape.array(family.normals) if family.normals is not None else None
    labels = _labels_of(shape, family.points.name)
    if asked is not None and asked == family.normals and normals is not None:
        return _views(shape, asked.name, points, 0.5 + 0.5 * normals)
    if labels is not None:
        codes = shape.array(labels)
        return _views(shape, labels.name, points, draw.by_code(codes), normals, _names(labels, codes))
    return _views(shape, family.points.name, points, draw.by_value(points[:, shape.up]), normals)


def sample_panels(shape: Shape, family: SdfSamples, asked: ArraySpec | None) -> Panels:
    """By label where those are asked for or are all there is, by sign else; the signed ones cut through as well."""
    points = shape.array(family.points, family.count)
    labels = shape.array(family.labels, family.count) if family.labels is not None else None
    if family.sdf is None:
        if family.labels is None or labels is None:
            return _views(shape, family.points.name, points, draw.by_value(points[:, shape.up]))
        return _views(shape, family.labels.name, points, draw.by_code(labels), None, _names(family.labels, labels))
    inside = shape.array(family.sdf, family.count) < 0
    names: Mapping[int, str] | None
    name, colours, names = family.sdf.name, draw.by_sign(inside), None
    if family.labels is not None and labels is not None and asked in (family.points, family.labels):
        name, colours, names = family.labels.name, draw.by_code(labels), _names(family.labels, labels[inside])
    view = _views(shape, f"{name}, inside", points[inside], colours[inside], None, names)[0]
    return view, _cut(shape, name, points, colours)


def query_panels(shape: Shape, family: QueryPool, asked: ArraySpec | None) -> Panels:
    """A view and a cut, coloured by the distance asked for, else by the first; by height where there is none."""
    points = shape.array(family.points)
    spec = asked if asked in family.distances else next(iter(family.distances), None)
    values = shape.array(spec) if spec is not None else points[:, shape.up]
    name = (spec or family.points).name
    view = _views(shape, name, points, draw.by_value(values))[0]
    return view, _cut(shape, name, points, draw.by_value(values))


def ray_panels(shape: Shape, family: RayPool, asked: ArraySpec | None) -> Panels:
    """Two views of where the rays hit, coloured by depth; of the cameras or the directions where asked for those."""
    origins, directions = shape.array(family.origins), shape.array(family.directions)
    part = next((part for part in family.returns if asked in part.arrays()), next(iter(family.returns), None))
    if part is None or asked in (family.origins, family.directions):
        name, points = (asked or family.origins).name, directions if asked == family.directions else origins
        places = np.unique(points, axis=0)
        return _views(shape, f"{name}, {len(places):,} different", places, draw.by_value(places[:, shape.up]))
    hit = shape.array(part.hit) > 0
    depth = shape.array(part.depth)[hit]
    normals = shape.array(part.normals)[hit] if part.normals is not None else None
    points = origins[hit] + depth[:, np.newaxis] * directions[hit]
    name = f"{part.hit.name}: {len(points):,} of {len(hit):,} hit"
    return _views(shape, name, points, draw.by_value(-depth), normals)


def order_panels(shape: Shape, family: FpsOrder) -> Panels:
    """The pool in grey, and on it the first of the order, from yellow to dark."""
    pool = shape.array(shape.store.root.content.by_name[family.pool])
    first = shape.array(family.order)[:FIRST_OF_ORDER]
    colours = draw.by_value(-np.arange(len(first), dtype=np.float32))

    def both(view: draw.View, axes: Axes) -> None:
        draw.cloud(axes, pool, np.broadcast_to(draw.NEUTRAL, pool.shape), view)
        draw.dots(axes, pool[first], colours, view)

    return tuple(Panel(f"{family.order.name}, first {len(first)}", partial(both, view)) for view in shape.views())


def label_panels(shape: Shape, family: Labels) -> Panels:
    """Two views of the points that the labels belong to."""
    labels = family.labels
    points = shape.array(shape.store.root.content.by_name[labels.pool or ""])
    codes = shape.array(labels)
    return _views(shape, labels.name, points, draw.by_code(codes), None, _names(labels, codes))


def count_panels(shape: Shape, family: LabelCounts) -> Panels:
    """One bar a class."""
    counts = shape.array(family.counts)
    part = shape.store.root.recipe.labels
    names: Sequence[str] = part.names if part is not None else [str(code) for code in range(1, len(counts) + 1)]
    return (Panel(family.counts.name, lambda axes: draw.bars(axes, names, counts)),)


def grid_panels(shape: Shape, family: UdfGrid | SdfGrid | OccupancyGrid) -> Panels:
    """Slices through the middle across x, y and z; a line goes one cell off the surface, or along its sign."""
    values = shape.array(family.grid)
    cell = 2 / values.shape[0]
    if isinstance(family, OccupancyGrid):
        style, limits, line = "Greys", (0.0, 1.25), np.inf
    elif isinstance(family, UdfGrid):
        style, limits, line = "viridis", (0.0, max(float(values.max()), 1e-12)), cell
    else:
        most = max(float(np.abs(values).max()), 1e-12)
        style, limits, line = "PuOr", (-most, most), 0.0
    panels = []
    for normal, size in enumerate(values.shape):
        plane = np.take(values, size // 2, axis=normal)
        title = f"{family.grid.name}, {draw.AXES[normal]} = {-1 + (size // 2 + 0.5) * 2 / size:.2f}"
        paint = partial(
            draw.grid_slice, values=plane, normal=normal, up=shape.up, colours=style, limits=limits, line=line
        )
        panels.append(Panel(title, paint))
    return tuple(panels)


def _views(
    shape: Shape,
    title: str,
    points: NDArray[Any],
    colours: NDArray[Any],
    normals: NDArray[Any] | None = None,
    names: Mapping[int, str] | None = None,
) -> Panels:
    """A cloud from both sides, with what its codes mean below the first."""

    def paint(view: draw.View, axes: Axes) -> None:
        draw.cloud(axes, points, colours, view, normals)
        if names and view == shape.views()[0]:
            draw.legend(axes, names)

    return tuple(Panel(title, partial(paint, view)) for view in shape.views())


def _cut(shape: Shape, title: str, points: NDArray[Any], colours: NDArray[Any]) -> Panel:
    """The samples nearest to the upright plane that faces the viewer."""
    normal = 3 - shape.up
    off = np.abs(points[:, normal])
    nearest = np.sort(np.argsort(off, kind="stable")[: int(np.ceil(CUT_SHARE * len(points)))])
    width = float(off[nearest].max(initial=0))
    return Panel(
        f"{title}, |{draw.AXES[normal]}| ≤ {width:.2f}",
        lambda axes: draw.flat_cut(axes, points[nearest], colours[nearest], normal, shape.up),
    )


def _labels_of(shape: Shape, pool: str) -> ArraySpec | None:
    """The labels of a pool of points, if it has any."""
    return next((f.labels for f in shape.families if isinstance(f, Labels) and f.labels.pool == pool), None)


def _names(labels: ArraySpec, values: NDArray[Any]) -> Mapping[int, str]:
    """What the codes that occur mean."""
    return {code.value: code.name for code in labels.codes if (values == code.value).any()}
