"""`shapestore split`: divide the shapes of a store into named parts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from shapestore.cli.output import AS_JSON, STORE, people, print_json, print_table


class Preset(StrEnum):
    """Split sets that published systems use."""

    UNPAIRED = "unpaired"


def command(
    store: STORE,
    name: Annotated[str, typer.Argument(help="Name of the split set, or `split` for the dataset's own.")],
    parts: Annotated[
        str | None, typer.Option(help="Parts and shares: train=0.8,val=0.1,test=0.1.", show_default=False)
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option(help="unpaired: train in train_mesh, train_pc, train_udf; test as eval.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="Divide only rows of this split, such as train.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a split set of this name.")] = False,
    as_json: AS_JSON = False,
) -> None:
    """Divide shapes by group and category, and store the result as an index array: no copy, no link.

    All variants of one object get the same part. Read it back with store.rows(NAME="part").

    Example: shapestore split hearts.zarr fold0 --parts train=0.8,val=0.2
    """
    from shapestore import api
    from shapestore.errors import UsageError

    if (parts is None) == (preset is None):
        raise UsageError("give either --parts, such as train=0.8,test=0.2, or --preset.")
    if parts is not None:
        counts = api.split(store, name, _shares(parts), seed=seed, within=within, replace=replace)
    else:
        counts = api.split_unpaired(store, name, seed=seed, replace=replace)
    if as_json:
        print_json({"store": store, "split": name, "rows": counts})
    else:
        print_table((name, "rows"), list(counts.items()))
        people().print(f"Look whether near-duplicates are in two parts: shapestore validate {store}")


def _shares(text: str) -> dict[str, float]:
    from shapestore.errors import UsageError

    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name in shares:
            raise UsageError(f"--parts names {name} twice.")
        try:
            shares[name] = float(share)
        except ValueError:
            raise UsageError(f"--parts takes name=share pairs such as train=0.8,test=0.2, not {text!r}.") from None
    return shares
