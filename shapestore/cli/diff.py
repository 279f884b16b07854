"""`shapestore diff`: what differs between two stores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapestore.cli.output import AS_JSON, print_json, print_pairs, print_table, status

if TYPE_CHECKING:
    from shapestore.quality.compare import Comparison, Difference

DIFFERENT = 3
"""Exit code: what was compared is not the same."""

SHOWN = 40
"""Differences of a kind that are shown; --json has all."""

NAMED = 5
"""Shapes of a kind that are named; --json has all."""


def command(
    a: Annotated[str, typer.Argument(help="One store.", show_default=False)],
    b: Annotated[str, typer.Argument(help="The other store.", show_default=False)],
    as_json: AS_JSON = False,
) -> None:
    """Compare two stores: schema, recipe, and every shape by its id, whatever its row. Exit code 3 if they differ.

    Rows are compared by their checksums, without being read. Times, hosts and the rest of the history do not count.

    Example: shapestore diff before.zarr after.zarr
    """
    from shapestore import api

    found = api.diff(a, b)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(found)
    if not found.equal:
        raise typer.Exit(DIFFERENT)


def show(found: Comparison) -> None:
    """Print what differs, for people."""
    print_pairs([("A", found.a), ("B", found.b), *_counts(found)])
    _table("declared", (*found.layout, *found.declared))
    _table("recipe", found.recipe)
    for kind, changed in (("index array", found.index), ("array", found.arrays)):
        if changed:
            print_table((f"\n{kind}", "\nshapes that differ"), [(each.array, each.rows) for each in changed])
    _table("quarantine", found.quarantine)


def _counts(found: Comparison) -> Iterator[tuple[str, str]]:
    order = f", {found.moved:,} of them in another row" if found.moved else ""
    yield "in both", f"{found.common:,} shapes{order}"
    for name, shape_ids in (("only in A", found.removed), ("only in B", found.added), ("changed", found.changed)):
        if shape_ids:
            yield name, f"{len(shape_ids):,} shapes: {_named(shape_ids)}"
    yield "result", "equal" if found.equal else "different"


def _named(shape_ids: Sequence[str]) -> str:
    more = f", and {len(shape_ids) - NAMED:,} more" if len(shape_ids) > NAMED else ""
    return ", ".join(shape_ids[:NAMED]) + more


def _table(name: str, differences: Sequence[Difference]) -> None:
    if differences:
        rows = [(each.place, _text(each.a), _text(each.b)) for each in differences[:SHOWN]]
        print_table((f"\n{name}", "\nA", "\nB"), rows)
    if len(differences) > SHOWN:
        status().print(f"... and {len(differences) - SHOWN:,} more: see all with --json")


def _text(value: Any) -> str:
    """A value in one line; what one store lacks altogether is absent."""
    if value is None:
        return "absent"
    return "there" if isinstance(value, Mapping) else json.dumps(value, ensure_ascii=False)
