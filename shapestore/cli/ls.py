"""`shapestore ls`: the rows of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from shapestore.cli.output import AS_JSON, STORE, print_json, print_table


def command(
    store: STORE,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", "-w", help="Keep rows with this value: split=train, category=chair, source=... Repeatable."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most rows to show; 0 shows all.")] = 50,
    as_json: AS_JSON = False,
) -> None:
    """List rows: id, category, split, source.

    Example: shapestore ls shapenet.zarr --where split=test --where category=03001627
    """
    from shapestore import api
    from shapestore.store.listing import conditions, listing

    opened = api.open(store)
    rows = opened.rows(**conditions(where or ()))
    shown = listing(opened, rows if limit == 0 else rows[:limit])
    if as_json:
        print_json({"count": len(rows), "rows": shown})
        return
    columns = ("row", "shape_id", "category", "split", "source")
    print_table(columns, [[entry[name] for name in columns] for entry in shown])
    if len(shown) < len(rows):
        typer.echo(f"... {len(rows) - len(shown):,} more; show all with --limit 0")
