"""`shapestore ingest`: raw files into a store."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapestore.cli.output import (
    AS_JSON,
    QUARANTINED,
    SCHEDULER,
    WORKERS,
    human_seconds,
    print_json,
    print_pairs,
    print_table,
    status,
)
from shapestore.quality.report.wording import data_size

if TYPE_CHECKING:
    from shapestore.preprocess.ingest import Estimate, Work
    from shapestore.preprocess.job import Progress

START_SECONDS = 6.0
"""Time that a job takes beside its rows: a local cluster starts, its workers load all libraries and compiled kernels,
and it ends. Measured, least of several, on 2 cores that others used as well: 3.3 s with 1 worker, 5.8 s with 2, of
which one goes ahead. What is compiled once a machine is left out: the dry run has compiled it."""


def command(
    source: Annotated[
        str,
        typer.Argument(help="Dataset layout: shapenet, modelnet40, scanobjectnn, cardiac, meshes, npz or a plug-in's."),
    ],
    raw: Annotated[str, typer.Argument(help="Folder of the raw files.")],
    store: Annotated[str, typer.Argument(help="Store to make, or to add to, such as shapes.zarr.")],
    recipe: Annotated[
        str | None, typer.Option(help="Built-in recipe or YAML file.", show_default="the store's or the source's")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value of the recipe: points.count=1024. Repeatable.")
    ] = None,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost, and do nothing.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Compute quarantined rows once more.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Compute rows of changed raw files once more.")] = False,
    verify_sources: Annotated[
        bool, typer.Option("--verify-sources", help="Hash every raw file, also those of unchanged size and time.")
    ] = False,
    max_failures: Annotated[
        str | None, typer.Option(help="Stop when more items fail: a count, or a share such as 5%.", show_default=False)
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Turn a folder of raw files into a store, or add what is new to it. Interrupted, the same command goes on.

    Example: shapestore ingest shapenet ShapeNetCore.v2 shapenet.zarr --workers 8
    """
    from pathlib import Path

    from shapestore import api

    chosen = {
        "recipe": recipe,
        "settings": tuple(settings or ()),
        "retry": retry,
        "rebuild": rebuild,
        "verify_sources": verify_sources,
    }
    if dry_run:
        from shapestore.preprocess.ingest import Request

        request = Request(source, Path(raw), Path(store), most_failures=max_failures, **chosen)  # type: ignore[arg-type]
        _show_plan(*api.plan_ingest(request), workers, as_json)
        return
    with ExitStack() as stack:
        display = _Display(stack)
        result = api.ingest(
            source,
            raw,
            store,
            workers=workers,
            scheduler=scheduler,
            max_failures=max_failures,
            on_work=lambda work: display.start(work, retry=retry, rebuild=rebuild),
            on_progress=display.update,
            **chosen,  # type: ignore[arg-type]
        )
    if as_json:
        print_json(asdict(result))
    else:
        _show_result(result)
    if result.quarantined:
        raise typer.Exit(QUARANTINED)


def _show_plan(work: Work, estimate: Estimate, workers: int | None, as_json: bool) -> None:
    from shapestore.preprocess.cluster import available_cores

    start = 0.0 if workers == 0 else START_SECONDS
    used = available_cores() if workers is None else max(workers, 1)
    splits = Counter(item.split or "(none)" for item in work.discovery.items)
    seconds = None if estimate.seconds_per_row is None else start + estimate.seconds_per_row * work.rows / used
    plan: dict[str, Any] = {
        "recipe": work.recipe.name,
        "found": len(work.discovery.items),
        "already in the store": work.known,
        "unfinished": len(work.unfinished.items) if work.unfinished else 0,
        "to do again": len(work.retried),
        "new": len(work.added),
        "splits": dict(sorted(splits.items())),
        "ignored": dict(sorted(work.discovery.ignored.items())),
        "notes": [*work.discovery.notes, *estimate.remarks],
        "disk_bytes": estimate.disk_bytes,
        "free_bytes": estimate.free_bytes,
        "memory_bytes": estimate.worker_bytes * used,
        "seconds": seconds,
        "start_seconds": start,
        "workers": used,
    }
    if as_json:
        print_json(plan)
        return
    where = f"with {used} workers" if workers != 0 else "in this process"
    began = f", {human_seconds(start)} of it to start and end them" if start else ""
    print_pairs(
        [
            *((name, plan[name]) for name in ("recipe", "found", "already in the store", "unfinished")),
            *((name, plan[name]) for name in ("to do again", "new")),
            ("splits", ", ".join(f"{name} {count:,}" for name, count in plan["splits"].items())),
            ("ignored files", ", ".join(f"{name} {count:,}" for name, count in plan["ignored"].items()) or "none"),
            ("disk", f"{data_size(estimate.disk_bytes)} at most, {data_size(estimate.free_bytes)} free"),
            ("memory", f"{data_size(plan['memory_bytes'])} {where}"),
            ("time", f"about {human_seconds(seconds)} {where}{began}" if seconds is not None else "unknown"),
            *(("note", note) for note in plan["notes"]),
        ]
    )


def _show_result(result: Any) -> None:
    if result.computed == result.resumed == 0:
        headline = f"nothing to do: all {result.unchanged:,} shapes are in {result.store} already"
    else:
        resumed = f" and {result.resumed:,} of an interrupted run" if result.resumed else ""
        headline = f"{result.computed:,} shapes computed{resumed}; {result.store} holds {result.valid:,} shapes"
    print_pairs([("done", headline)])
    if not result.quarantined:
        return
    from shapestore import api

    reasons = Counter(str(item["reason"]) for item in api.open(result.store).quarantine())
    print_table(("quarantined", "reason"), [(count, reason) for reason, count in reasons.most_common()])
    status().print(f"See each with: shapestore quarantine {result.store}")


class _Display:
    """Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._console = status()
        self._bar: Any = None
        self._task: Any = None
        self._began: float | None = None
        self._printed = float("-inf")

    def start(self, work: Work, *, retry: bool, rebuild: bool) -> None:
        """Say what there is to do."""
        for note in work.discovery.notes:
            self._console.print(f"note: {note}")
        if work.discovery.ignored:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(work.discovery.ignored.items()))
            self._console.print(f"ignored files: {kinds}")
        if work.unfinished is not None:
            self._console.print("going on with an interrupted run")
            if retry or rebuild:  # which rows these are is known only when the store is whole
                option = "--retry" if retry else "--rebuild"
                self._console.print(f"note: {option} comes after it: run the same command once more")

    def update(self, progress: Progress) -> None:
        """Show how far the job is."""
        self._began = self._began or time.monotonic()
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = (progress.done - progress.resumed) / elapsed
        left = (progress.total - progress.done) / rate if rate > 0 else None
        remaining = human_seconds(left) if left is not None else "?"
        text = f"{rate:.1f} shapes/s, {remaining} left, {progress.quarantined} quarantined"
        if self._console.is_terminal:
            self._draw(progress, text)
        elif elapsed - self._printed > 10 or progress.done == progress.total:
            self._printed = elapsed
            self._console.print(f"{progress.done:,} of {progress.total:,} shapes, {text}")

    def _draw(self, progress: Progress, text: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = self._stack.enter_context(Bar(*columns, console=self._console))
            self._task = self._bar.add_task("", total=progress.total)
        self._bar.update(self._task, completed=progress.done, total=progress.total, description=text)
