"""`shapestore quarantine`: what was refused, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from shapestore.cli import ingest
from shapestore.cli.output import AS_JSON, STORE, people, print_json, print_table


def command(
    store: STORE,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Also show where in the program errors arose.")
    ] = False,
    retry: Annotated[
        str | None, typer.Option(metavar="RAW", help="Compute them once more from this raw folder.", show_default=False)
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """List quarantined inputs with their reasons; or, when the raw files are mended, compute them once more.

    Example: shapestore quarantine shapenet.zarr
    """
    from shapestore import api

    if retry is not None:
        ingest.command(api.open(store).root.source_kind, retry, store, retry=True, as_json=as_json)
        return
    items = list(api.open(store).quarantine())
    if as_json:
        print_json(items)
        return
    if not items:
        typer.echo("nothing is quarantined")
        return
    columns = ("row", "shape_id", "reason", "message", "source")
    print_table(columns, [[item[name] for name in columns] for item in items])
    for item in items:
        if traceback and item["traceback"]:
            people().print(f"\n{item['shape_id']}:\n{item['traceback']}")
