"""Pictures: one row of a store as a PNG, for a look at what was ingested."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shapestore.errors import UsageError
from shapestore.preprocess.picture_draw import INK, PALE, plain
from shapestore.preprocess.picture_panels import Panel, Shape, overview, panels_of
from shapestore.store.reader import Store

DOTS_PER_INCH: Final = 150
PANEL: Final = 2.75
"""Side of a panel, inches."""
GAP: Final = 0.32
"""Space between panels and around them, inches; a panel's title and legend lie in it."""
HEAD: Final = 0.62
"""Height of the picture's title, inches."""
LONGEST_TITLE: Final = 72


def render(store: Store, row: int, out: Path, array: str | None = None) -> None:
    """Draw one shape. The same row gives the same bytes, whatever style the user has set for matplotlib.

    Parameters
    ----------
    store
        The store to read.
    row
        The row to draw.
    out
        PNG file to write; one that is there is replaced.
    array
        The array to draw; None: those that tell most, in at most six panels.

    Raises
    ------
    UsageError
        There is no such array, it is one value a row, or the folder of `out` does not exist.
    RowEmpty
        The row is quarantined.
    """
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is not a folder. Make it first, or choose another place for {out.name}.")
    shape = Shape(store, row)
    panels = overview(shape) if array is None else panels_of(shape, array)
    with matplotlib.style.context("default"):
        figure = _figure(panels, _title(store, row), _subtitle(store, row))
        # Without a name and version of the program, which the next release would change.
        figure.savefig(out, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})


def _figure(panels: tuple[Panel, ...], title: str, subtitle: str) -> Figure:
    """All panels in lines of at most three, every one at its fixed place."""
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    lines = -(-len(panels) // columns)
    width = max(columns, 2) * (PANEL + GAP) + GAP
    height = HEAD + lines * (PANEL + 1.5 * GAP) + 0.5 * GAP
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(GAP / width, 1 - 0.24 / height, plain(title), fontsize=10.5, weight="bold", color=INK, va="center")
    figure.text(GAP / width, 1 - 0.46 / height, plain(subtitle), fontsize=8, color=PALE, va="center")
    for number, panel in enumerate(panels):
        line, column = divmod(number, columns)
        left = GAP + column * (PANEL + GAP)
        bottom = height - HEAD - (line + 1) * (PANEL + 1.5 * GAP) + GAP
        axes = figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height))
        panel.draw(axes)
        axes.set_title(plain(panel.title), fontsize=7.5, color=INK, pad=4)
    return figure


def _title(store: Store, row: int) -> str:
    """The shape's id; a long one without its middle."""
    shape_id = str(store.index("shape_id")[row])
    if len(shape_id) <= LONGEST_TITLE:
        return shape_id
    return f"{shape_id[: LONGEST_TITLE // 2]} … {shape_id[-LONGEST_TITLE // 2 :]}"


def _subtitle(store: Store, row: int) -> str:
    """Category and split, where it has any."""
    named = [[*store.names(name), ""][store.index(name)[row]] for name in ("category", "split")]
    return " · ".join(text for text in named if text)
