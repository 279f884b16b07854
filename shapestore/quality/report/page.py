"""The page: what the template is given, and the file that is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shapestore.errors import StoreDamaged, UsageError
from shapestore.quality.registry import installed_checks
from shapestore.quality.report import wording
from shapestore.quality.report.charts import histogram, is_drawn
from shapestore.quality.report.findings import Card, cards, counted
from shapestore.quality.report.matrix import Matrix, matrix
from shapestore.quality.report.pictures import Picture, draw_shapes
from shapestore.quality.report.worst import broken_shapes, nearest_shapes
from shapestore.quality.result import CheckResult, MeasureResult, Validation
from shapestore.schemas.printable import printable
from shapestore.store.describe import describe
from shapestore.store.durable import write_synced
from shapestore.store.reader import Store

MOST_GROUPS: Final = 20
"""Measures of one check that findings are shown of; the rest is counted."""

MOST_ROWS: Final = 8
"""Findings of one kind that are shown; the rest is counted."""

MOST_EXAMPLES: Final = 5
"""Quarantined inputs that are shown for each reason."""


@dataclass(frozen=True)
class Chart:
    """A measure with its histogram."""

    measure: MeasureResult
    svg: str
    """An `svg` element; matplotlib wrote it, and it holds no text but numbers."""


@dataclass(frozen=True)
class Refused:
    """Quarantined inputs of one reason."""

    reason: str
    items: tuple[Mapping[str, str | int], ...]


@dataclass(frozen=True)
class Page:
    """Everything that the template shows."""

    validation: Validation
    store: Mapping[str, Any] | None
    """As `describe` gives it; None where the store is too damaged to say, which findings tell."""
    recipe: str
    """The recipe as YAML."""
    errors: int
    warnings: int
    cards: tuple[Card, ...]
    """Findings that count."""
    waived: tuple[Card, ...]
    matrix: Matrix
    charts: Mapping[str, tuple[Chart, ...]]
    """By check."""
    broken: tuple[Picture, ...]
    """The shapes that checks found worst."""
    nearest: tuple[Picture, ...]
    """The shapes that come nearest to a bound of checks that found nothing wrong."""
    refused: tuple[Refused, ...]
    reasons: Mapping[str, Mapping[str, str]]
    """Check to its thresholds, each with the reason of its default."""
    with_raw: bool
    """Whether the raw files were there to draw from."""


def write_report(validation: Validation, store: Store, out: Path, raw: Path | None = None) -> None:
    """Write the report of a validation. The same validation, store and raw files give the same bytes.

    Parameters
    ----------
    validation
        What was found.
    store
        The store that was validated.
    out
        HTML file to write; one that is there is replaced, whole or not at all.
    raw
        Root of the raw files, to show label maps as they were before anything was computed of them.

    Raises
    ------
    UsageError
        The folder of `out` does not exist.
    """
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is not a folder. Make it first, or choose another place for {out.name}.")
    html = render(page_of(validation, store, raw))
    beside = out.with_name(f".{out.name}.part")
    write_synced(beside, html.encode())
    beside.replace(out)


def page_of(validation: Validation, store: Store, raw: Path | None) -> Page:
    """Gather what the report shows."""
    findings = counted(validation)
    errors = sum(finding.severity == "error" for finding in findings)
    about, refused = _described(store)
    broken = broken_shapes(validation)
    rows = {shape.row for shape in broken}
    nearest = tuple(shape for shape in nearest_shapes(validation) if shape.row not in rows)
    pictures = draw_shapes(store, (*broken, *nearest), raw)
    return Page(
        validation=validation,
        store=about,
        recipe=_recipe_text(store),
        errors=errors,
        warnings=len(findings) - errors,
        cards=cards(validation, findings),
        waived=cards(validation, (finding for finding in validation.findings if finding.waived)),
        matrix=matrix(validation, store),
        charts={check.name: charts for check in validation.checks if (charts := _charts(check))},
        broken=pictures[: len(broken)],
        nearest=pictures[len(broken) :],
        refused=refused,
        reasons=_reasons(),
        with_raw=raw is not None,
    )


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.number,
        "quantity": wording.quantity,
        "count": wording.count,
        "bytes": wording.data_size,
        "anchor": _anchor,
    }
    environment.globals |= {
        "bounds": wording.bounds,
        "MOST_GROUPS": MOST_GROUPS,
        "MOST_ROWS": MOST_ROWS,
        "MOST_EXAMPLES": MOST_EXAMPLES,
    }
    return environment.get_template("template.html.j2").render(page=page)


def _shown(value: object) -> object:
    """What the template puts in: texts without control characters; what is HTML already stays, and all else."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value, keep="\n")


def _described(store: Store) -> tuple[dict[str, Any] | None, tuple[Refused, ...]]:
    """What is in the store, and what is quarantined."""
    try:
        return describe(store), _refused(store.quarantine())
    except StoreDamaged:  # a finding of `structure` says where
        return None, ()


def _charts(check: CheckResult) -> tuple[Chart, ...]:
    """Histograms of a check's measures, those with broken rows first."""
    drawn = sorted((each for each in check.measures if is_drawn(each)), key=lambda each: -each.broken)
    return tuple(Chart(measure, histogram(measure, f"{check.name}-{number}")) for number, measure in enumerate(drawn))


def _refused(items: Iterable[Mapping[str, str | int]]) -> tuple[Refused, ...]:
    """Quarantined inputs by reason, the most frequent first."""
    by_reason: dict[str, list[Mapping[str, str | int]]] = {}
    for item in items:
        by_reason.setdefault(str(item["reason"]), []).append(item)
    ordered = sorted(by_reason.items(), key=lambda each: (-len(each[1]), each[0]))
    return tuple(Refused(reason, tuple(each)) for reason, each in ordered)


def _reasons() -> dict[str, dict[str, str]]:
    """Why every threshold of the installed checks is what it is, as their settings say."""
    return {
        check.name: {name: field.description or "" for name, field in check.settings.model_fields.items()}
        for check in installed_checks()
    }


def _recipe_text(store: Store) -> str:
    """The recipe as YAML, without the parts that it leaves out."""
    parts = store.root.recipe.model_dump(mode="json")
    given = {name: value for name, value in parts.items() if value not in (None, {}, [], "")}
    return str(yaml.safe_dump(given, sort_keys=False, allow_unicode=True))


def _anchor(name: str) -> str:
    """A check's name as the end of an id."""
    return re.sub(r"[^a-z0-9-]", "-", name.lower())
