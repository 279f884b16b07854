"""`shapestore repair`: mend what is damaged in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shapestore.cli.output import (
    AS_JSON,
    QUARANTINED,
    SCHEDULER,
    STORE,
    VIOLATED,
    WORKERS,
    print_json,
    print_table,
    status,
)

if TYPE_CHECKING:
    from shapestore.preprocess.repair_run import Mended

SHOWN = 40
"""Files that the table shows; --json has all."""


def command(
    store: STORE,
    raw: Annotated[
        Path | None, typer.Option(help="Folder of the raw files now.", show_default="the recorded one")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change and compute nothing; say what would be done.")
    ] = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Quarantine lost rows even if the folder named by --raw does not exist any more."
        ),
    ] = False,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    as_json: AS_JSON = False,
) -> None:
    """Mend what is damaged: to the byte where that can be proven, from the raw files where those are unchanged.

    Rows that are not to be had any more are quarantined. Exit code 0: nothing is damaged any more; 4: rows were
    quarantined; 3: something could not be mended.

    Example: shapestore repair shapenet.zarr --raw ShapeNetCore.v2
    """
    from shapestore import api

    with status().status("looking for damage ...") as line:
        found = api.repair(
            store,
            raw=raw,
            dry_run=dry_run,
            accept_loss=accept_loss,
            workers=workers,
            scheduler=scheduler,
            on_progress=lambda done, total: line.update(f"repairing ... {done:,} of {total:,}"),
        )
    if as_json:
        print_json({"store": store, "dry_run": dry_run, "files": [each.model_dump(mode="json") for each in found]})
    else:
        _print(store, found, dry_run)
    outcomes = {each.done for each in found}
    if "refused" in outcomes:
        raise typer.Exit(VIOLATED)
    if "quarantined" in outcomes:
        raise typer.Exit(QUARANTINED)


def _print(store: str, found: Sequence[Mended], dry_run: bool) -> None:
    if not found:
        typer.echo(f"{store}: nothing is damaged")
        return
    counts = Counter(each.done for each in found)
    would = "would be " if dry_run else ""
    typer.echo(f"{store}: " + ", ".join(f"{count:,} {would}{done}" for done, count in counts.items()))
    print_table(
        ("file", "rows", "problem", f"{would}done", "note"),
        [(each.file, _rows(each), each.problem, each.done, each.note) for each in found[:SHOWN]],
    )
    if len(found) > SHOWN:
        status().print(f"... and {len(found) - SHOWN:,} more: see all with --json")


def _rows(mended: Mended) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in mended.rows)
