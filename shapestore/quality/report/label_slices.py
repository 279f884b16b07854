"""Slices of a label map with the samples that lie in them: the picture that shows labels which belong nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from shapestore.preprocess import picture_draw as draw
from shapestore.preprocess.picture_panels import Panel, Panels, Shape
from shapestore.quality.raw_labels import frame_of, over_cube, raw_label_map
from shapestore.schemas.families import LabelGrid, SdfSamples

CELLS: Final = 160
"""Cells along each axis of the cube that a raw label map is drawn on."""

SLAB: Final = 0.03
"""Half the thickness of the slab whose samples are drawn on its slice."""

GROUND: Final = np.array([0.13, 0.14, 0.17])
"""Colour outside all classes: dark, so that white surface samples are seen on it."""

SOFT: Final = 0.55
"""Share of the ground that colours of classes are mixed with, so that samples stand out."""

SOLID: Final = 0.1
"""Least part of the largest slice's labelled cells that a slice must have: less shows nothing to compare with."""

DEEP: Final = 0.1
"""Depth from which on a sample on the wrong side counts no more, normalised units."""

SURFACE: Final = np.array([1.0, 1.0, 1.0])

Codes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class LabelMap:
    """The classes of a shape over the normalised cube."""

    codes: Codes
    """(G, G, G) class of each cell, indexed (x, y, z); 0 outside all classes."""
    origin: str
    """Where it comes from, in words."""


def label_map(shape: Shape, raw: Path | None) -> LabelMap | None:
    """The label map of a row: from its raw file, else from the store's `label_grid`; None where there is neither.

    Raises
    ------
    InputRefused
        The raw file is not there, cannot be read, or is not the one that the row was made from.
    """
    root = shape.store.root
    if raw is not None and root.recipe.labels is not None:
        labels = raw_label_map(shape.store, shape.row, raw)
        return LabelMap(over_cube(labels, frame_of(shape.store, shape.row), CELLS), "the raw label map")
    for family in shape.families:
        if isinstance(family, LabelGrid):
            return LabelMap(shape.array(family.grid), f"{family.grid.name} of the store")
    return None


def slice_panels(shape: Shape, found: LabelMap, arrays: Sequence[str]) -> Panels:
    """Slices across x, y and z, each where samples contradict the label map most.

    Parameters
    ----------
    shape
        The row.
    found
        Its label map.
    arrays
        The arrays in question: the signed samples that they belong to are drawn, or those of the volume where none is
        of signed samples; those of the surface always are.
    """
    samples = [each for each in shape.families if isinstance(each, SdfSamples)]
    asked = [each for each in samples if each.sdf and {spec.name for spec in each.arrays()} & set(arrays)]
    none: draw.Floats = np.zeros((0, 3), np.float32)
    points, colours, wrong, depth = [none], [none], [none], [none[:, 0]]
    for family in samples:
        places = shape.array(family.points, family.count)
        if family.sdf is None:
            points.append(places)
            colours.append(np.broadcast_to(SURFACE, places.shape))
        elif family in (asked or [each for each in samples if each.where == "volume"]):
            distances = shape.array(family.sdf, family.count)
            off = (distances < 0) != (_looked_up(found.codes, places) > 0)
            points.append(places)
            colours.append(draw.by_sign(distances < 0))
            wrong.append(places[off])
            depth.append(np.abs(distances[off]))
    shown = np.concatenate(points), np.concatenate(colours)
    # Samples next to a border are on either side of it: what lies deep on the wrong side counts more.
    contradictions = np.concatenate(wrong), np.minimum(np.concatenate(depth), DEEP)
    places_of = (_place(found.codes, *contradictions, axis) for axis in range(3))
    return tuple(_panel(found, axis, place, *shown, shape.up) for axis, place in enumerate(places_of))


def _looked_up(codes: Codes, points: NDArray[Any]) -> Codes:
    """(n,) the code of the cell that holds each point."""
    i, j, k = _cells(points, codes.shape[0]).T
    return np.asarray(codes[i, j, k])


def _cells(points: NDArray[Any], size: int) -> NDArray[np.int64]:
    """(n, 3) cells that hold the points."""
    return np.clip(((points + 1) * (size / 2)).astype(np.int64), 0, size - 1)


def _place(codes: Codes, wrong: NDArray[Any], depth: NDArray[Any], axis: int) -> int:
    """The slice with most of the wrong samples' depth in its slab; where there is none, the most labelled one."""
    size = codes.shape[axis]
    labelled = np.count_nonzero(codes, axis=tuple(each for each in range(3) if each != axis))
    found = np.bincount(_cells(wrong, size)[:, axis], depth, size)
    near = np.convolve(found, np.ones(max(1, round(SLAB * size))), mode="same")
    solid = labelled >= SOLID * labelled.max()
    return int(np.lexsort((labelled, near * solid))[-1])


def _panel(found: LabelMap, axis: int, place: int, points: NDArray[Any], colours: draw.Floats, up: int) -> Panel:
    size = found.codes.shape[axis]
    centre = -1 + (place + 0.5) * 2 / size
    held = np.abs(points[:, axis] - centre) <= SLAB
    image = np.take(found.codes, place, axis=axis)
    paint = partial(_paint, image=image, points=points[held], colours=colours[held], normal=axis, up=up)
    return Panel(f"{found.origin}, {draw.AXES[axis]} = {centre:.2f}", paint)


def _paint(axes: Axes, image: Codes, points: NDArray[Any], colours: draw.Floats, normal: int, up: int) -> None:
    across, upward = draw.plane(normal, up)
    seen = image.T if across < upward else image
    soft = np.where(seen.ravel()[:, np.newaxis] > 0, draw.by_code(seen.ravel()), GROUND)
    blended = SOFT * GROUND + (1 - SOFT) * soft
    axes.imshow(blended.reshape(*seen.shape, 3), origin="lower", extent=(-1, 1, -1, 1), interpolation="nearest")
    draw.flat_cut(axes, points[:0], colours[:0], normal, up)  # the frame; its dots would hide the classes
    axes.scatter(points[:, across], points[:, upward], s=8, c=colours, linewidths=0)
