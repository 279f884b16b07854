"""`shapestore show`: one shape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shapestore.cli.output import AS_JSON, STORE, print_json, print_pairs, print_table


def command(
    store: STORE,
    shape_id: Annotated[str, typer.Argument(help="Id of the shape, as listed by `shapestore ls`.")],
    picture: Annotated[Path | None, typer.Option(help="Draw it into this PNG file.", show_default=False)] = None,
    array: Annotated[str | None, typer.Option(help="Draw only this array.", show_default=False)] = None,
    as_json: AS_JSON = False,
) -> None:
    """Show a shape: where it came from, and every array with its range; or draw it.

    Example: shapestore show shapenet.zarr 03001627/1a6f615e --picture chair.png
    """
    from shapestore import api
    from shapestore.store.listing import listing

    opened = api.open(store)
    row = opened.row_of(shape_id)
    about = listing(opened, [row])[0]
    about["notes"] = opened.index("provenance/notes")[row].split("\n")
    arrays = [_range(spec.name, opened.row(spec.name, row)) for spec in opened.root.content.data_arrays]
    if picture is not None:
        from shapestore.preprocess.picture import render

        render(opened, row, picture, array)
    if as_json:
        print_json({**about, "arrays": arrays})
        return
    print_pairs([(name, str(value)) for name, value in about.items() if value not in ("", [""])])
    print_table(("array", "shape", "least", "greatest", "mean"), [list(each.values()) for each in arrays])
    if picture is not None:
        typer.echo(f"drawn: {picture}")


def _range(name: str, values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": " x ".join(map(str, values.shape)),
        "least": round(float(values.min()), 6),
        "greatest": round(float(values.max()), 6),
        "mean": round(float(values.mean(dtype="float64")), 6),
    }
