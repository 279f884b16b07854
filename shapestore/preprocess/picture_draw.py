"""Drawing for pictures of shapes: shaded clouds seen from a side, slices of grids, flat cuts through samples.

Clouds are projected here, orthographically, and drawn in the order of their depth. That is sharper and much faster than
a 3-D axes, and nothing but the points is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""Coordinates and values; colours are (n, 3) in [0, 1]."""

AXES: Final = "xyz"
INSIDE, OUTSIDE, NEUTRAL = to_rgb("#c2187f"), to_rgb("#3b75c4"), to_rgb("#b9bec6")
INK, PALE = "#30343b", "#a5abb5"
EIGHTH: Final = to_rgb("#3a3350")
"""The eighth class: the colour map's grey would look like what is outside all classes."""

LIGHT: Final = np.array([-0.35, 0.45, 0.82])
"""Direction to the light in view coordinates: over the viewer's left shoulder."""

AMBIENT: Final = 0.42
"""Share of its colour that a point has where no light falls on it."""

HAZE: Final = 0.55
"""Share of white that the farthest point is mixed with."""


@dataclass(frozen=True)
class View:
    """Where a shape is seen from."""

    azimuth: float
    """Turn about the up axis, degrees."""
    elevation: float
    """Rise above the horizon, degrees."""
    up: int
    """Axis that points up in the picture: 1 for y, 2 for z."""

    def matrix(self) -> Floats:
        """(3, 3): rows are the directions to the right, up and towards the viewer, right-handed."""
        turn, rise = np.deg2rad([self.azimuth, self.elevation])
        right = np.array([-np.sin(turn), np.cos(turn), 0])
        towards = np.array([np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)])
        # A cyclic shift of the axes brings the up axis to the place of z, and keeps their handedness.
        return np.roll(np.stack([right, np.cross(towards, right), towards]), self.up - 2, axis=1)


def by_value(values: Floats, low: float | None = None, high: float | None = None) -> Floats:
    """(n,) values as colours from dark blue to yellow."""
    low = float(values.min(initial=np.inf)) if low is None else low
    high = float(values.max(initial=-np.inf)) if high is None else high
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    colours: Floats = np.asarray(mpl.colormaps["viridis"](share))[:, :3]
    return colours


def by_sign(inside: NDArray[np.bool_]) -> Floats:
    """(n,) truths as colours: magenta inside, blue outside."""
    return np.where(inside[:, np.newaxis], INSIDE, OUTSIDE)


def by_code(codes: NDArray[np.integer[Any]]) -> Floats:
    """(n,) codes as colours; 0 and below, which is outside or background, in grey."""
    table = np.array([code_colour(code) for code in range(128)])
    colours: Floats = table[np.maximum(codes, 0)]
    return colours


def code_colour(code: int) -> tuple[float, float, float]:
    """The colour of one code."""
    if code <= 0:
        return NEUTRAL
    if code == 8:
        return EIGHTH
    red, green, blue, _ = mpl.colormaps["tab10"](code - 1) if code <= 10 else mpl.colormaps["tab20b"]((code - 11) % 20)
    return red, green, blue


def cloud(axes: Axes, points: Floats, colours: Floats, view: View, normals: Floats | None = None) -> None:
    """Draw points as seen from a side, lit where they have normals, fading into white with their depth.

    Parameters
    ----------
    axes
        Where to draw.
    points
        (n, 3) positions.
    colours
        (n, 3) colour of each.
    view
        Where they are seen from.
    normals
        (n, 3) unit normals, of either side: a polygon soup has no outside.
    """
    seen = points @ view.matrix().T
    if normals is not None:
        lit = np.abs((normals @ view.matrix().T) @ (LIGHT / np.linalg.norm(LIGHT)))
        colours = colours * (AMBIENT + (1 - AMBIENT) * lit[:, np.newaxis])
    depth = seen[:, 2]
    far = (depth.max(initial=-1) - depth) / max(float(np.ptp(depth)) if len(depth) else 0.0, 1e-12)
    colours = colours + (1 - colours) * HAZE * far[:, np.newaxis]
    order = np.argsort(depth, kind="stable")
    _scatter(axes, seen[order, :2], colours[order])
    reach = 1.06 * float(np.linalg.norm(points, axis=1).max(initial=1e-3))
    _frame(axes, reach)
    axes.set_axis_off()
    _triad(axes, view, reach)


def dots(axes: Axes, points: Floats, colours: Floats, view: View) -> None:
    """Draw (n, 3) points large, over a cloud that is seen from the same side."""
    seen = points @ view.matrix().T
    order = np.argsort(seen[:, 2], kind="stable")
    axes.scatter(seen[order, 0], seen[order, 1], s=16, c=colours[order], linewidths=0.4, edgecolors="white")


def flat_cut(axes: Axes, points: Floats, colours: Floats, normal: int, up: int) -> None:
    """Draw points that lie near a coordinate plane in that plane; `normal` is the axis across it."""
    across, upward = plane(normal, up)
    _scatter(axes, points[:, [across, upward]], colours)
    _frame(axes, 1.0)
    _rule(axes, across, upward)


def grid_slice(
    axes: Axes, values: Floats, normal: int, up: int, colours: str, limits: tuple[float, float], line: float
) -> None:
    """Draw one slice of a grid over the cube.

    Parameters
    ----------
    axes
        Where to draw.
    values
        (G, G) values with the lower of the two axes first.
    normal, up
        The axis across the slice, and the one that points up where it can.
    colours
        Name of a colour map.
    limits
        Values of its first and last colour.
    line
        Value at which a contour is drawn, if the slice crosses it.
    """
    across, upward = plane(normal, up)
    image = values.T if across < upward else values
    axes.imshow(
        image,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",
        extent=(-1, 1, -1, 1),
        interpolation="nearest",
    )
    if min(values.shape) > 1 and values.min() < line < values.max():
        ticks = [-1 + (np.arange(size) + 0.5) * 2 / size for size in image.shape]
        axes.contour(ticks[1], ticks[0], image, levels=[line], colors="white", linewidths=0.9)
    _rule(axes, across, upward)


def plane(normal: int, up: int) -> tuple[int, int]:
    """The axes to the right and up in a plane."""
    low, high = [axis for axis in range(3) if axis != normal]
    return (high, low) if low == up else (low, high)


def bars(axes: Axes, names: Sequence[str], values: NDArray[np.integer[Any]]) -> None:
    """Draw one labelled bar a class, the first on top."""
    places = np.arange(len(values))[::-1]
    axes.barh(places, values, height=0.7, color=[code_colour(code) for code in range(1, len(values) + 1)])
    for place, name, value in zip(places.tolist(), names, values.tolist(), strict=True):
        axes.text(0, place, f"{plain(name)}  ", ha="right", va="center", fontsize=6.5, color=INK)
        axes.text(value, place, f" {value:,}", va="center", fontsize=6.5, color=INK)
    most = max(int(values.max(initial=0)), 1)
    axes.set_xlim(-0.5 * most, 1.3 * most)
    axes.set_axis_off()


def legend(axes: Axes, names: Mapping[int, str]) -> None:
    """Say below a panel what its codes mean."""
    handles = legend_handles(names)
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.03), ncols=min(5, len(handles)), fontsize=6,
        frameon=False, handletextpad=0.1, columnspacing=0.9, borderpad=0, labelcolor=INK,
    )  # fmt: skip


def legend_handles(names: Mapping[int, str]) -> list[Line2D]:
    """A dot in the colour of each code, with its name."""
    return [
        Line2D([], [], linestyle="", marker="o", markersize=3.2, color=code_colour(code), label=plain(name))
        for code, name in names.items()
    ]


def plain(text: str) -> str:
    """`text` as the font can show it, and without the meaning that matplotlib gives to dollar signs."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(char if ord(char) in known else "\N{REPLACEMENT CHARACTER}" for char in text).replace("$", r"\$")


def _scatter(axes: Axes, places: Floats, colours: Floats) -> None:
    size = float(np.clip(11_000 / max(len(places), 1), 0.9, 12))
    axes.scatter(places[:, 0], places[:, 1], s=size, c=colours, linewidths=0)


def _frame(axes: Axes, reach: float) -> None:
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")


def _rule(axes: Axes, across: int, upward: int) -> None:
    axes.set_xticks([-1, 0, 1], ["-1", AXES[across], "1"], fontsize=6.5, color=INK)
    axes.set_yticks([-1, 0, 1], ["-1", AXES[upward], "1"], fontsize=6.5, color=INK)
    axes.tick_params(length=2, width=0.6, color=PALE, pad=1.5)
    for spine in axes.spines.values():
        spine.set(color=PALE, linewidth=0.6)


def _triad(axes: Axes, view: View, reach: float) -> None:
    """Small arrows that say which axis is which."""
    home = np.array([-0.88, -0.86]) * reach
    for name, tip in zip(AXES, view.matrix()[:2].T * 0.11 * reach, strict=True):
        axes.plot(*np.stack([home, home + tip]).T, color=PALE, linewidth=0.9, solid_capstyle="round")
        place = home + 1.5 * tip
        axes.text(place[0], place[1], name, fontsize=6, color=INK, ha="center", va="center")
