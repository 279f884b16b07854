"""`shapestore derive`: add an array that follows from others."""

from __future__ import annotations

from typing import Annotated

import typer

from shapestore.cli.output import AS_JSON, SCHEDULER, STORE, WORKERS, print_json, status


def command(
    store: STORE,
    array: Annotated[str, typer.Argument(help="Array to add, such as pt_fps_order or pt_dist_pc_pool.")],
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    as_json: AS_JSON = False,
) -> None:
    """Compute an array from arrays already in the store, for every shape, and add it.

    Example: shapestore derive shapenet.zarr pt_fps_order
    """
    from shapestore import api

    with status().status(f"deriving {array} ...") as line:
        api.derive(
            store,
            array,
            workers=workers,
            scheduler=scheduler,
            on_progress=lambda done, total: line.update(f"deriving {array} ... {done:,} of {total:,} row groups"),
        )
    rows = len(api.open(store))
    if as_json:
        print_json({"store": store, "array": array, "rows": rows})
    else:
        typer.echo(f"{array} added to {store} for {rows:,} shapes")
