"""`shapestore validate`: whether a store is whole and keeps its rules."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

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
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    as_json: AS_JSON = False,
) -> None:
    """Check structure, shard integrity, checksums and the rules of the schema. Exit code 3 if anything is wrong.

    Example: shapestore validate shapenet.zarr --level full
    """
    from shapestore import api

    with status().status("validating ...") as line:
        result = api.validate(
            store,
            level.value,
            workers=workers,
            scheduler=scheduler,
            on_progress=lambda done, total: line.update(f"validating ... {done:,} of {total:,} row groups"),
        )
    if as_json:
        print_json({"passed": result.passed, **result.model_dump(mode="json")})
    else:
        print_pairs(
            [
                ("store", result.store),
                ("rows", f"{result.checked:,} of {result.rows:,} checked, level {result.level}"),
                ("result", result.guarantee if result.passed else f"{len(result.findings):,} problems"),
            ]
        )
        if result.findings:
            print_table(("check", "place", "problem"), [(f.check, f.place, f.message) for f in result.findings])
    if not result.passed:
        raise typer.Exit(VIOLATED)
