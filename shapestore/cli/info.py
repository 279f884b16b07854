"""`shapestore info`: what is in a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapestore.cli.output import AS_JSON, STORE, print_json, print_pairs, print_table
from shapestore.quality.report.wording import data_size


def command(store: STORE, as_json: AS_JSON = False) -> None:
    """Say what is in a store: arrays, counts, sizes, recipe, history and commit.

    Example: shapestore info shapenet.zarr
    """
    from shapestore import api
    from shapestore.preprocess.plan import PLAN
    from shapestore.store.describe import describe
    from shapestore.store.layout import work_folder

    about = describe(api.open(store))
    if as_json:
        print_json(about)
        return
    unfinished = (work_folder(Path(store)) / PLAN).exists()
    print_pairs(
        [
            ("store", about["path"]),
            *([("unfinished", "an ingest was interrupted; run the same command again to go on")] if unfinished else []),
            ("shapes", f"{about['valid']:,} valid, {about['quarantined']:,} quarantined"),
            *((name, _counts(counts)) for name, counts in about["codes"].items()),
            ("size", f"{data_size(about['bytes'])} in row groups of {about['rows_per_shard']:,} rows"),
            (
                "recipe",
                f"{about['recipe']['name']}, digest {about['recipe_digest'][:12]}, source {about['source_kind']}",
            ),
            ("commit", f"{about['commit'][:12]}, number {about['commits']}, format {about['format']}"),
            ("validated", _validated(about["validation"], about["commit"])),
            *(("run", _run(run)) for run in about["runs"][-5:]),
        ]
    )
    rows = [
        (
            a["name"],
            a["dtype"],
            " x ".join(map(str, a["shape"])) or "scalar",
            a["kind"],
            data_size(a["bytes"]),
            a["text"],
        )
        for a in about["arrays"]
    ]
    print_table(("array", "dtype", "row", "kind", "size", "what it is"), rows)


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in counts.items()][:12]
    more = [f"and {len(counts) - 12} more"] if len(counts) > 12 else []
    return ", ".join([*shown, *more]) or "none"


def _validated(validation: dict[str, Any] | None, commit: str) -> str:
    """When, at which level and with what outcome the store was last validated."""
    if validation is None:
        return "never: run shapestore validate"
    since = "" if validation["commit"] == commit else ", before the store changed"
    rows = f"{validation['checked']:,} of {validation['rows']:,} rows"
    return f"{validation['finished']}, level {validation['level']}, {rows}: {validation['outcome']}{since}"


def _run(run: dict[str, Any]) -> str:
    return f"{run['started']} on {run['host']}: {run['mode']}, {run['rows']} rows in {run['seconds']} s"
