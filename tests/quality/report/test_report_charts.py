from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.quality.report.charts import SVG, histogram, is_drawn
from shapestore.quality.report.wording import number
from shapestore.quality.result import Distribution, MeasureResult, RowValue
from shapestore.quality.summary import BINS


def result(values: list[float], low: float | None, high: float | None) -> MeasureResult:
    array = np.array(values)
    width = max(float(np.ptp(array)), 1e-6)
    counts, _ = np.histogram(array, BINS, (array.min(), array.min() + width))
    broken = (array < (-np.inf if low is None else low)) | (array > (np.inf if high is None else high))
    return MeasureResult(
        name="share",
        unit="",
        arrays=("pc_xyz",),
        severity="error",
        low=low,
        high=high,
        rows=len(array),
        broken=int(broken.sum()),
        distribution=Distribution(
            mean=array.mean(), deviation=array.std(), least=array.min(), p01=array.min(), median=array.mean(),
            p99=array.max(), greatest=array.max(), histogram=tuple(counts.tolist()),
        ),
        worst=tuple(RowValue(row=i, shape_id=str(i), value=array[i]) for i in np.flatnonzero(broken).tolist()[:12]),
        categories={},
    )  # fmt: skip


def elements(svg: str, tag: str) -> Iterator[ET.Element]:
    return ET.fromstring(svg).iter(f"{{{SVG}}}{tag}")  # noqa: S314, matplotlib wrote it


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in elements(svg, "text")]


def dashed(svg: str) -> list[float]:
    """Where dashed lines stand, from left to right in the picture."""
    paths = [each for each in elements(svg, "path") if "dasharray" in each.get("style", "")]
    return [float(each.attrib["d"].split()[1]) for each in paths]


def triangles(svg: str) -> list[float]:
    """Where the marks of the worst rows stand."""
    return [float(use.attrib["x"]) for use in elements(svg, "use") if use.get("style") == "fill: var(--bad)"]


finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))


@settings(max_examples=25, deadline=None)
@given(st.lists(finite, min_size=2, max_size=50), st.one_of(st.none(), finite), st.one_of(st.none(), finite))
def test_every_bound_is_drawn_and_labelled(values: list[float], low: float | None, high: float | None) -> None:
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    svg = histogram(result(values, low, high), "chart")
    expected = [f"{sign} {number(bound)}" for sign, bound in (("≥", low), ("≤", high)) if bound is not None]
    assert [text for text in texts(svg) if text[0] in "≥≤"] == expected
    assert len(dashed(svg)) == len(expected)


def test_places_in_the_picture_are_proportional_to_numbers() -> None:
    svg = histogram(result([0.5, 0.6, 0.9, 1.1], 0.3, 0.7), "chart")
    (low, high), marks = dashed(svg), triangles(svg)
    scale = (high - low) / 0.4
    assert marks == pytest.approx([low + 0.6 * scale, low + 0.8 * scale], abs=0.01)


def test_bars_out_of_bounds_have_the_colour_of_errors() -> None:
    assert "fill: var(--bad); stroke" in histogram(result([0.5, 0.9], 0.3, 0.7), "chart")
    assert "fill: var(--bad); stroke" not in histogram(result([0.5, 0.6], 0.3, 0.7), "chart")


def test_numbers_that_are_at_the_bound_are_drawn_as_sound() -> None:
    svg = histogram(result([0.0] * 9 + [1.0], None, 0.0), "chart")
    heights = re.findall(r'd="([^"]*)"[^>]*style="fill: var\(--(bar|bad)\); stroke', svg)
    lowest = {kind: min(float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)) for path, kind in heights}
    assert lowest["bar"] < lowest["bad"]  # nine rows stand higher than one, and y points down


def test_a_chart_takes_all_its_colours_from_the_page_and_no_font() -> None:
    svg = histogram(result([0.5, 0.9], 0.3, 0.7), "chart")
    assert not re.search(r"#[0-9a-f]{6}\b", svg.replace('href="#', ""))
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_charts_of_one_page_share_no_id() -> None:
    measure = result([0.5, 0.9], 0.3, 0.7)
    ids = [re.findall(r'\bid="([^"]*)"', histogram(measure, name)) for name in ("a", "b")]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])


def test_the_same_measure_gives_the_same_bytes() -> None:
    measure = result([0.5, 0.9], 0.3, 0.7)
    assert histogram(measure, "a") == histogram(measure, "a")


def test_what_has_no_bound_or_no_spread_is_not_drawn_unless_it_is_broken() -> None:
    assert is_drawn(result([0.5, 0.6], 0.3, None))
    assert not is_drawn(result([0.5, 0.6], None, None))
    assert not is_drawn(result([0.5, 0.5], 0.3, None))
    assert is_drawn(result([1.0, 1.0], None, 0.7))
