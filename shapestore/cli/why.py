"""`shapestore why`: where a shape came from, and what the checks say of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapestore.cli.output import AS_JSON, STORE, VIOLATED, people, print_json, print_pairs, print_table
from shapestore.quality.report.wording import bounds, data_size, plain

if TYPE_CHECKING:
    from shapestore.quality.why import Why


def command(
    store: STORE,
    shape_id: Annotated[str, typer.Argument(help="Id of the shape, as listed by `shapestore ls`.")],
    raw: Annotated[
        Path | None, typer.Option(help="Folder of the raw files now.", show_default="the recorded one")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Show the chain of one shape: source file, reader, recipe, run, and every check with value and bounds.

    Exit code 3 if the row that is stored is damaged, or its shard is lost.

    Example: shapestore why shapenet.zarr 03001627/1a6f615e
    """
    from shapestore import api

    found = api.why(store, shape_id, raw=raw)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)
    if found.damage:
        raise typer.Exit(VIOLATED)


def _print(found: Why) -> None:
    print_pairs([(name, value) for name, value in _pairs(found) if value not in ("", None)])
    if found.quarantined and found.quarantined.traceback:
        people().print(f"\n{found.quarantined.traceback.rstrip()}")
    if found.checks:
        print_table(
            ("check", "result", "value", "bounds", "what is measured"),
            [
                (
                    check.check,
                    "sound" if check.sound else check.severity,
                    "none" if check.value is None else f"{plain(check.value)} {check.unit}".rstrip(),
                    bounds(check.low, check.high, write=plain),
                    check.measure,
                )
                for check in sorted(found.checks, key=lambda check: check.sound)
            ],
            title="\nChecks, what is out of bounds first",
        )


def _pairs(found: Why) -> Iterator[tuple[str, Any]]:
    source = found.source
    yield "shape", found.shape_id
    yield "row", str(found.row) + ("" if found.valid else ", empty")
    if found.quarantined is not None:
        yield "quarantined", f"{found.quarantined.reason}: {found.quarantined.message}"
    yield from (("damaged", text) for text in found.damage)
    yield "remedy", found.remedy
    yield "source", source.path
    yield "raw folder", source.root
    if source.sha256:
        yield "as it was read", f"sha256 {source.sha256}, {data_size(source.size)}, last changed {source.modified}"
    yield "now", _state(found)
    yield "read by", f"source {source.kind}" + (f" of {source.package}" if source.package else "")
    yield "recipe", f"{found.recipe}, digest {found.recipe_digest[:12]}"
    yield from ((name, str(value)) for name, value in found.index.items() if name not in ("source", "source_sha256"))
    if found.run is None:
        yield "run", "not in the store's history"
    else:
        run = found.run
        yield "run", f"{run['started']} on {run['host']}: {run['mode']}, Python {run['python']}, {run['machine']}"
        yield "with", ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    yield "took", "" if found.seconds is None else f"{found.seconds} s"
    yield from (("note", note) for note in found.notes)
    yield from (("unmeasured", text) for text in found.unmeasured)


def _state(found: Why) -> str:
    read = found.source.sha256 != ""
    return {
        "same": "the same to the byte",
        "changed": "changed since it was read" if read else "there, and not yet read",
        "missing": "not there",
        "not looked at": "not looked at: the raw folder is not there; name it with --raw",
    }[found.source.state]
