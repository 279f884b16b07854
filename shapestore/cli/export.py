"""`shapestore export`: back to one npz a shape."""

from __future__ import annotations

from typing import Annotated

import typer

from shapestore.cli.output import AS_JSON, STORE, print_json


def command(
    store: STORE,
    out: Annotated[str, typer.Argument(help="New or empty folder.")],
    where: Annotated[
        list[str] | None, typer.Option("--where", "-w", help="Only rows with this value: split=test. Repeatable.")
    ] = None,
    arrays: Annotated[
        list[str] | None, typer.Option("--array", help="Only this array. Repeatable.", show_default=False)
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Write every shape as OUT/<split>/<id>.npz, for programs that read nothing else.

    Example: shapestore export shapenet.zarr caches/shapenet --where split=test
    """
    from shapestore import api
    from shapestore.store.listing import conditions

    count = api.export(store, out, where=conditions(where or ()), arrays=arrays)
    if as_json:
        print_json({"store": store, "out": out, "files": count})
    else:
        typer.echo(f"{count:,} files in {out}")
