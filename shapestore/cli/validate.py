"""`shapestore validate`: whether a store is whole, keeps its rules, and passes every quality check."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shapestore.cli.diff import show
from shapestore.cli.output import (
    AS_JSON,
    SCHEDULER,
    STORE,
    VIOLATED,
    WORKERS,
    print_json,
    print_pairs,
    print_table,
    status,
)

if TYPE_CHECKING:
    from shapestore.quality.finding import Finding
    from shapestore.quality.result import CheckResult, Compared, Validation

SHOWN = 40
"""Findings that the table shows; --json has all."""


class Level(StrEnum):
    """How deep to look."""

    METADATA = "metadata"
    SAMPLE = "sample"
    FULL = "full"


def command(
    store: STORE,
    level: Annotated[
        Level, typer.Option(help="metadata: no shards; sample: all shards, some rows; full: all rows.")
    ] = Level.SAMPLE,
    raw: Annotated[
        Path | None,
        typer.Option(help="Folder that the store was made from: also compare with the raw files.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time that a sample may take, such as 60s, 5m or 1h; seconds without a unit.", show_default="460 rows"
        ),
    ] = None,
    waive: Annotated[
        list[str] | None,
        typer.Option(help="Accept a finding: CHECK:SHAPE_ID, or a YAML file with reasons.", show_default=False),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Another store: say what changed against it.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a report with charts and pictures: one HTML file.", show_default=False),
    ] = None,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    as_json: AS_JSON = False,
) -> None:
    """Check structure, integrity, the schema's rules and the quality of the data. Exit code 3 if there is an error.

    Example: shapestore validate shapenet.zarr --level full --raw ShapeNetCore.v2
    """
    from shapestore import api

    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        wanted = "it is a folder: name a file in it" if report.is_dir() else f"{report.parent} is not a folder"
        raise typer.BadParameter(wanted, param_hint="--report")
    with status().status("validating ...") as line:
        result = api.validate(
            store,
            level.value,
            raw=raw,
            budget=_seconds(budget),
            waive=waive or (),
            compare=compare,
            workers=workers,
            scheduler=scheduler,
            on_progress=lambda done, total: line.update(f"validating ... {done:,} of {total:,}"),
        )
        if report is not None:
            from shapestore.quality.report.page import write_report
            from shapestore.store.reader import open_as_is

            line.update("drawing the report ...")
            write_report(result, open_as_is(Path(store)), report, raw)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _print(result)
        if result.unrecorded:
            status().print(f"the outcome is not kept in the store: {result.unrecorded}")
    if report is not None:
        status().print(f"the report is in {report}")
    if not result.passed:
        raise typer.Exit(VIOLATED)


def _print(result: Validation) -> None:
    print_pairs(
        [
            ("store", result.store),
            ("rows", f"{result.checked:,} of {result.rows:,} checked, level {result.level}, {result.seconds:.1f} s"),
            *([("quarantined", f"{result.quarantined:,} rows are empty")] if result.quarantined else []),
            ("result", result.outcome),
            ("means", result.guarantee),
        ]
    )
    print_table(
        ("check", "result", "rows", "worst"),
        [(check.name, _outcome(check, result), _rows(check), _worst(check)) for check in result.checks],
    )
    if result.findings:
        _print_findings(result.findings)
    if result.compared is not None:
        _print_comparison(result.compared)
    for waiver in result.unused_waivers:
        status().print(f"no finding needs the waiver {waiver.check}:{waiver.shape} ({waiver.reason})")


def _print_comparison(compared: Compared) -> None:
    """What changed: the stores, then the distributions."""
    show(compared.stores)
    print_pairs([("found in A", compared.outcome), ("moved", f"{len(compared.moved):,} measures")])
    if compared.moved:
        print_table(
            ("check", "measure", "median in A", "median in B", "gap"),
            [
                (m.check, m.measure, f"{m.other_median:.6g}", f"{m.median:.6g}", f"{m.gap:.2f}")
                for m in compared.moved[:SHOWN]
            ],
        )


def _print_findings(findings: Sequence[Finding]) -> None:
    rows = [
        (
            "waived" if finding.waived else finding.severity,
            finding.check,
            "" if finding.row is None else str(finding.row),
            finding.shape_id or finding.place,
            finding.message + (f" ({finding.waived})" if finding.waived else ""),
        )
        for finding in findings[:SHOWN]
    ]
    print_table(("severity", "check", "row", "shape", "problem"), rows, title="\nProblems, worst first")
    if len(findings) > SHOWN:
        status().print(f"... and {len(findings) - SHOWN:,} more: see all with --json")
    commands = dict.fromkeys(finding.look for finding in findings[:SHOWN] if finding.look and not finding.waived)
    for command_line in list(commands)[:3]:
        status().print(f"look at it: {command_line}")
    for remedy in dict.fromkeys(finding.remedy for finding in findings[:SHOWN] if finding.remedy):
        status().print(f"remedy: {remedy}")


def _outcome(check: CheckResult, result: Validation) -> str:
    if check.skipped:
        return f"not run: {check.skipped}"
    parts = [(check.errors, "error"), (check.warnings, "warning")]
    found = ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in parts if count)
    of_rows = check.name not in ("structure", "integrity")
    unmeasured = bool(check.measures) and _rows(check) == "0"
    return found or ("nothing to measure" if of_rows and (unmeasured or not result.checked) else "sound")


def _rows(check: CheckResult) -> str:
    return f"{max(measure.rows for measure in check.measures):,}" if check.measures else ""


def _worst(check: CheckResult) -> str:
    """The measure with most rows out of bounds."""
    broken = [measure for measure in check.measures if measure.broken]
    if not broken:
        return ""
    measure = max(broken, key=lambda measure: measure.broken)
    return f"{measure.name}: {measure.broken:,} of {measure.rows:,} rows"


def _seconds(text: str | None) -> float | None:
    """A time such as `60s`, `5m` or `1h`, in seconds."""
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise typer.BadParameter(f"a time such as 60s or 5m is needed, not {text!r}", param_hint="--budget")
    return seconds
