"""Pictures of the worst shapes, as PNG data in the page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from shapestore.errors import ShapestoreError
from shapestore.preprocess.picture_panels import Panel, Panels, Shape, overview, panels_of, sample_panels
from shapestore.quality.report.label_slices import label_map, slice_panels
from shapestore.quality.report.worst import WorstShape
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import LabelGrid, QueryPool, SdfSamples
from shapestore.store.reader import Store

BUDGET: Final = 4 * 2**20
"""Characters that all pictures together may take."""

PER_ARRAY: Final = 2
"""Panels of one array."""

MOST_ARRAYS: Final = 3
"""Arrays that are drawn of one shape."""

SIDE: Final = 3.2
"""Side of a picture, inches."""

FRAME: Final = (0.2 / SIDE, 0.32 / SIDE, 2.8 / SIDE, 2.8 / SIDE)
"""Where the panel lies in it: left, bottom, width, height; its axes and its legend have the rest."""

DOTS_PER_INCH: Final = 130

COLOURS: Final = 96
"""Colours of a PNG: as good to the eye as all of them, in a third of the bytes."""

LARGEST: Final = 1e6
"""What is larger cannot be drawn."""


@dataclass(frozen=True)
class Drawn:
    """One panel as an image."""

    title: str
    data: str
    """A `data:` URI."""
    side: int
    """Width and height, pixels."""


@dataclass(frozen=True)
class Picture:
    """One of the worst shapes with its panels."""

    shape: WorstShape
    category: str
    panels: tuple[Drawn, ...]
    notes: tuple[str, ...]
    """Why there is no picture, or what is to be known of it."""


@dataclass(frozen=True)
class _Drawable(Shape):
    """A row whose values can all be drawn: what is not finite, or huge, is taken as 0 and counted."""

    lost: Counter[str] = field(default_factory=Counter)

    def array(self, spec: ArraySpec, count: ArraySpec | None = None) -> NDArray[Any]:
        values = super().array(spec, count)
        if values.dtype.kind != "f":
            return values
        sound = np.abs(values) < LARGEST  # False for NaN
        self.lost[spec.name] = int(np.count_nonzero(~sound))
        return np.where(sound, values, values.dtype.type(0))


def draw_shapes(store: Store, shapes: Iterable[WorstShape], raw: Path | None) -> tuple[Picture, ...]:
    """Draw shapes in turn, until the budget is spent."""
    category_of = [*store.names("category"), ""]  # -1 is the last: no category
    pictures: list[Picture] = []
    spent = 0
    for shape in shapes:
        panels: tuple[Drawn, ...] = ()
        notes: tuple[str, ...] = ("Not drawn: the pictures of this report have reached their size.",)
        if spent < BUDGET:
            panels, notes = _draw(_Drawable(store, shape.row), shape.arrays, raw)
        spent += sum(len(panel.data) for panel in panels)
        pictures.append(Picture(shape, category_of[store.index("category")[shape.row]], panels, notes))
    return tuple(pictures)


def _draw(shape: _Drawable, arrays: Sequence[str], raw: Path | None) -> tuple[tuple[Drawn, ...], tuple[str, ...]]:
    """The panels of one shape, and what is to be said of them."""
    drawn: list[Drawn] = []
    notes = []
    own = (partial(_own, shape, array) for array in arrays[:MOST_ARRAYS])
    for panels_of_part in (partial(_slices, shape, arrays, raw), *own):
        titles = {each.title for each in drawn}
        try:
            drawn += [_image(panel) for panel in panels_of_part() if panel.title not in titles]
        # A row can be more wrong than a picture can show, such as by an order that leads out of its pool.
        except (ShapestoreError, IndexError) as error:
            notes.append(f"Not drawn: {error}")
    lost = [f"{count:,} values of {name} cannot be drawn, and are taken as 0." for name, count in (+shape.lost).items()]
    return tuple(drawn), (*notes, *lost)


def _slices(shape: Shape, arrays: Sequence[str], raw: Path | None) -> Panels:
    """Slices of the label map, where there is one."""
    found = label_map(shape, raw)
    return () if found is None else slice_panels(shape, found, arrays)


def _own(shape: Shape, array: str) -> Panels:
    """Panels of one array, or of the shape where the array cannot be drawn by itself."""
    for family in shape.families:
        if isinstance(family, QueryPool) and family.signed is not None and family.signed.name == array:
            # As samples, whose panels show the sign.
            samples = SdfSamples(where="volume", points=family.points, sdf=family.signed)
            return sample_panels(shape, samples, family.signed)
    store = shape.store.root.content
    grids = {family.grid.name for family in store.families if isinstance(family, LabelGrid)}
    drawable = {spec.name for spec in store.data_arrays} - grids
    return (panels_of(shape, array) if array in drawable else overview(shape))[:PER_ARRAY]


def _image(panel: Panel) -> Drawn:
    whole, small = io.BytesIO(), io.BytesIO()
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(SIDE, SIDE), facecolor="white")
        panel.draw(figure.add_axes(FRAME))
        figure.savefig(whole, format="png", dpi=DOTS_PER_INCH)
    pixels = Image.open(whole).convert("RGB")
    pixels.quantize(COLOURS).save(small, "PNG", optimize=True)
    data = "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()
    return Drawn(panel.title, data, pixels.width)
