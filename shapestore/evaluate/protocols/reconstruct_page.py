"""What the protocol `reconstruct` found, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shapestore.evaluate.protocols.reconstruct import Reconstruction

RESULT, PAGE = "result.json", "report.html"


def write_result(result: Reconstruction, classes: Sequence[str], out: Path) -> None:
    """Write `result.json` and `report.html` beside the pictures that the page shows."""
    (out / RESULT).write_text(result.model_dump_json(indent=1))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("reconstruct.html.j2")
    style = Markup(files("shapestore.quality.report").joinpath("style.css").read_text())  # noqa: S704 (ours)
    (out / PAGE).write_text(page.render(result=result, classes=classes, style=style))
