"""Histograms of measures with the bounds that they should keep, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final
from xml.etree import ElementTree as ET

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shapestore.quality.report.wording import number
from shapestore.quality.result import Distribution, MeasureResult

SIZE: Final = (3.6, 1.55)
"""Width and height, inches; the page scales it."""

TEXT: Final = MappingProxyType({"svg.fonttype": "none", "font.size": 7.5, "font.sans-serif": ["DejaVu Sans"]})
"""Text stays text, and the page chooses its font."""

INK, BAR, BAD, RULE = "#010101", "#020202", "#030303", "#040404"
"""Colours that stand for those of the page."""

VARIABLES: Final = {INK: "currentColor", BAR: "var(--bar)", BAD: "var(--bad)", RULE: "var(--rule)"}

SVG: Final = "http://www.w3.org/2000/svg"
XLINK: Final = "http://www.w3.org/1999/xlink"

CLOSE: Final = 0.4
"""Share of the width below which two labels would touch."""


def is_drawn(measure: MeasureResult) -> bool:
    """Whether a histogram tells something: there are a bound to compare with, and numbers that differ or break it."""
    bounded = measure.low is not None or measure.high is not None
    spread = measure.distribution
    return bounded and spread is not None and (spread.least < spread.greatest or measure.broken > 0)


def histogram(measure: MeasureResult, name: str) -> str:
    """The histogram of a measure as an `svg` element.

    Bars beyond a bound have the colour of errors, bounds are dashed lines with their values, and small triangles under
    the axis mark the rows that are farthest out, which a single row's bar would be too low to show.

    Parameters
    ----------
    measure
        With a distribution.
    name
        Word that is unique on the page, for the ids of what is drawn.
    """
    spread = measure.distribution
    if spread is None:
        raise ValueError(f"{measure.name} has no distribution")
    with matplotlib.style.context(["default", {**TEXT, "svg.hashsalt": name}]):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes((0.1, 0.2, 0.87, 0.57))
        _bars(axes, measure, spread)
        _bounds(axes, measure)
        _dress(axes, max(spread.histogram))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_the_page(buffer.getvalue())


def _bars(axes: Axes, measure: MeasureResult, spread: Distribution) -> None:
    low = -np.inf if measure.low is None else measure.low
    high = np.inf if measure.high is None else measure.high
    finite = [each for each in (spread.least, spread.greatest, measure.low, measure.high) if each is not None]
    margin = 0.04 * (max(finite) - min(finite)) or 0.04 * max(abs(finite[0]), 1e-9)
    axes.set_xlim(min(finite) - margin, max(finite) + margin)
    axes.set_ylim(0, 1.08 * max(spread.histogram))
    edges = np.linspace(spread.least, spread.greatest, len(spread.histogram) + 1)
    # A bin that holds a bound is drawn as sound: the triangles show the rows in it that are not.
    beyond = (edges[:-1] > high) | (edges[1:] < low)
    for bins, colour in ((~beyond, BAR), (beyond, BAD)):
        counts = np.where(bins, spread.histogram, 0)
        if counts.any():
            # An outline keeps bars visible that are narrower than a dot.
            axes.stairs(counts, edges, fill=True, facecolor=colour, edgecolor=colour, linewidth=1)
    outside = [each.value for each in measure.worst if not low <= each.value <= high]
    axes.plot(
        outside, [-0.05] * len(outside), linestyle="", marker="^", markersize=4, color=BAD, markeredgewidth=0,
        clip_on=False, transform=axes.get_xaxis_transform(),
    )  # fmt: skip


def _bounds(axes: Axes, measure: MeasureResult) -> None:
    """A dashed line at each bound, a shade beyond it, and its value over it."""
    left, right = axes.get_xlim()
    both = [each for each in (measure.low, measure.high) if each is not None]
    close = len(both) == 2 and (both[1] - both[0]) < CLOSE * (right - left)
    for bound, sign, end in ((measure.low, "≥", left), (measure.high, "≤", right)):
        if bound is None:
            continue
        axes.axvspan(end, bound, facecolor=BAD, alpha=0.09, linewidth=0)
        axes.axvline(bound, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
        share = (bound - left) / (right - left)
        raised = close and sign == "≤"
        axes.text(
            bound, 1.17 if raised else 1.03, f"{sign} {number(bound)}", transform=axes.get_xaxis_transform(),
            ha="left" if share < 0.15 else "right" if share > 0.85 else "center", va="bottom", color=INK,
        )  # fmt: skip


def _dress(axes: Axes, most: int) -> None:
    """Few ticks, no box."""
    left, right = axes.get_xlim()
    ticks = [tick for tick in MaxNLocator(4).tick_values(left, right) if left <= tick <= right]
    axes.set_xticks(ticks, _distinct(ticks))
    axes.set_yticks([0, most], ["0", number(most)])
    axes.tick_params(length=2.5, width=0.6, color=RULE, labelcolor=INK)
    axes.tick_params(axis="x", pad=5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=RULE, linewidth=0.7)


def _distinct(ticks: Sequence[float]) -> list[str]:
    """Labels with as many digits as tell them apart."""
    labels = ([number(tick, digits) for tick in ticks] for digits in range(3, 18))
    return next(each for each in labels if len(set(each)) == len(set(ticks)))


def _for_the_page(svg: bytes) -> str:
    """Without what only a file needs, and with the page's colours.

    Ids that nothing refers to go: several charts on one page would have the same ones.
    """
    root = ET.fromstring(svg)  # noqa: S314, matplotlib wrote it a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", " ".join(v for element in root.iter() for v in element.attrib.values())))
    for element in root.iter():
        if element.get("id", "") not in used:
            element.attrib.pop("id", None)
        element.text, element.tail = (element.text or "").strip(), ""
    for size in ("width", "height"):
        root.attrib.pop(size)
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    text = ET.tostring(root, encoding="unicode")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text
