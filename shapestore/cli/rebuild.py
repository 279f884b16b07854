"""`shapestore rebuild`: compute shapes once more, and compare them with what the store holds."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shapestore.cli.diff import DIFFERENT
from shapestore.cli.output import AS_JSON, QUARANTINED, SCHEDULER, STORE, WORKERS, print_json, print_table, status

if TYPE_CHECKING:
    from shapestore.preprocess.rebuilt import ArrayChange, RebuiltRow

SHOWN = 40
"""Rows that the table shows; --json has all."""

NAMED = 5
"""Shapes that a command names one by one."""


def command(
    store: STORE,
    shape_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of shapes, quarantined ones too.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every shape that holds data.")] = False,
    raw: Annotated[
        Path | None, typer.Option(help="Folder of the raw files now.", show_default="the recorded one")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Replace shapes that differ, and fill quarantined ones.")
    ] = False,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    as_json: AS_JSON = False,
) -> None:
    """Compute shapes from their raw files with the store's recipe, and say whether they are identical to the byte.

    Exit code 3 if one differs or cannot be computed any more, and was not replaced; else 4 if one is still quarantined.
    Shapes that are named are computed in this process if neither --workers nor --scheduler is given.

    Example: shapestore rebuild shapenet.zarr 03001627/1a6f615e
    """
    from shapestore import api
    from shapestore.errors import UsageError

    if every == bool(shape_ids):
        raise UsageError("give either ids of shapes, as listed by `shapestore ls`, or --all.")
    with status().status("computing ...") as line:
        rows = api.rebuild(
            store,
            shape_ids or None,
            raw=raw,
            write=write,
            workers=workers,
            scheduler=scheduler,
            on_progress=lambda done, total: line.update(f"computing ... {done:,} of {total:,} shapes"),
        )
    if as_json:
        print_json({"store": store, "rows": [row.model_dump(mode="json") for row in rows]})
    else:
        _print(rows)
        _print_written(store, rows, raw, write)
    if any(row.outcome in ("different", "failed", "mended") and not row.written for row in rows):
        raise typer.Exit(DIFFERENT)
    if any(row.quarantined and row.failure for row in rows):
        raise typer.Exit(QUARANTINED)


def _print(rows: Sequence[RebuiltRow]) -> None:
    if not rows:
        typer.echo("no shapes to compute")
        return
    counts = Counter(row.outcome for row in rows)
    typer.echo(f"{len(rows):,} shapes computed: " + ", ".join(f"{n:,} {outcome}" for outcome, n in counts.items()))
    told = [row for row in rows if row.outcome != "identical"]
    if told:
        print_table(
            ("row", "shape", "outcome", "what differs"),
            [(row.row, row.shape_id, row.outcome, _told(row)) for row in told[:SHOWN]],
        )
    if len(told) > SHOWN:
        status().print(f"... and {len(told) - SHOWN:,} more: see all with --json")


def _print_written(store: str, rows: Sequence[RebuiltRow], raw: Path | None, write: bool) -> None:
    """How many rows were replaced, or the command that replaces them."""
    written = sum(row.written for row in rows)
    wanted = [row for row in rows if row.outcome in ("different", "mended")]
    if written:
        typer.echo(f"{written:,} shapes replaced in {store}")
    elif wanted and not write:
        there = () if raw is None else ("--raw", str(raw))
        command_line = shlex.join(["shapestore", "rebuild", store, *_chosen(wanted), *there, "--write"])
        status().print(f"Replace them with: {command_line}")


def _chosen(rows: Sequence[RebuiltRow]) -> list[str]:
    """Arguments that choose these rows: their ids if those are few and plain, else --all, which has no empty rows."""
    shape_ids = [row.shape_id for row in rows]
    plain = len(shape_ids) <= NAMED and all(shlex.quote(each) == each for each in shape_ids)
    return shape_ids if plain or any(row.quarantined for row in rows) else ["--all"]


def _told(row: RebuiltRow) -> str:
    if row.failure is not None:
        return f"{row.failure.reason}: {row.failure.message}"
    if row.quarantined is not None:
        return f"was quarantined ({row.quarantined.reason}), and can be computed now"
    parts = ["the raw file has changed"] if row.source_changed else []
    if row.arrays:
        more = f" and {len(row.arrays) - 1} more arrays" if len(row.arrays) > 1 else ""
        parts.append(f"{_array(row.arrays[0])}{more}")
    index = [each for each in row.index if each.name != "source_sha256"]
    parts += [each.name if row.arrays else f"{each.name} {each.stored}, now {each.now}" for each in index]
    return "; ".join(parts)


def _array(change: ArrayChange) -> str:
    if change.damaged:
        return f"{change.array}: the stored row is damaged"
    if not change.differing:
        return f"{change.array}: the same values, compressed to other bytes"
    largest = "" if change.largest is None else f", by at most {change.largest:.3g}"
    return f"{change.array}: {change.differing:,} of {change.values:,} values{largest}"
