"""`shapestore bench`: how fast a store is read for training on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from shapestore.cli.output import AS_JSON, STORE, people, print_json, print_pairs, print_table
from shapestore.quality.report.wording import data_size

if TYPE_CHECKING:
    from shapestore.train.bench_result import BenchResult, Pace


def command(
    store: STORE,
    fields: Annotated[
        str | None, typer.Option(help="Arrays of a batch, such as pc_xyz,category.", show_default="all mapped ones")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each of the measurements takes at most.")] = 2.0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead; 0 reads in this one.")] = 0,
    as_json: AS_JSON = False,
) -> None:
    """Measure how fast shuffled batches come from a store, beside the limits of this machine. Nothing is changed.

    Example: shapestore bench shapenet.zarr --fields pc_xyz,category --workers 2
    """
    from shapestore import api

    names = [name.strip() for name in fields.split(",")] if fields else []
    found = api.bench(store, fields=names, batch=batch, seconds=seconds, workers=workers)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_pairs(_facts(found))
    print_table(("\nwhat", "\nmeasured", "\nlimit", "\nshare of the limit"), _lines(found))
    people().print(f"\nlimiting stage: {_limiting(found)}")


def _facts(found: BenchResult) -> Iterator[tuple[str, str]]:
    yield "store", found.store
    left_out = f"; without {', '.join(found.left_out)}" if found.left_out else ""
    yield "fields", ", ".join(found.fields) + left_out
    where = f"{found.workers} workers" if found.workers else "read in this process"
    yield "batches", f"{found.batch} shuffled rows, {data_size(found.batch_bytes)}, to {found.device}, {where}"
    yield "measured on", f"{found.rows:,} rows; load average {' '.join(f'{value:.2f}' for value in found.load)}"


def _lines(found: BenchResult) -> Iterator[tuple[str, str, str, str]]:
    limits, size = found.limits, found.batch_bytes
    disk = "disk" if limits.disk_is_direct else "files, perhaps from memory"
    yield (
        "open",
        _time(found.open_seconds),
        f"{_time(found.metadata_seconds)}: reading the root's metadata",
        _share(found.metadata_seconds, found.open_seconds),
    )
    copy = size / limits.memory_copy
    yield (
        "first batch",
        _time(found.first_batch_seconds),
        f"{_time(copy)}: copying its bytes",
        _share(copy, found.first_batch_seconds),
    )
    yield (
        "first pass, checksums compared",
        _pace(found.first_pass),
        f"{_rate(limits.disk)}: {disk}, in sequence",
        _share(found.first_pass.bytes_per_second, limits.disk),
    )
    yield (
        "later passes",
        _pace(found.later_passes),
        f"{_rate(limits.memory_copy)}: copying memory",
        _share(found.later_passes.bytes_per_second, limits.memory_copy),
    )
    if limits.host_to_device is not None:
        yield (
            "... to the GPU",
            _rate(found.later_passes.bytes_per_second),
            f"{_rate(limits.host_to_device)}: copying to the GPU",
            _share(found.later_passes.bytes_per_second, limits.host_to_device),
        )
    yield (
        "Store.read alone, one process",
        _rate(found.gather),
        f"{_rate(limits.memory_copy)}: copying memory",
        _share(found.gather, limits.memory_copy),
    )
    if found.before is not None and found.after is not None:
        grown = max(found.after.own_bytes - found.before.own_bytes, 0)
        mapped = max(found.after.mapped_bytes - found.before.mapped_bytes, 0)
        yield "memory taken", data_size(grown), f"{data_size(size)}: one batch", _share(size, grown)
        everything = found.rows * (size // found.batch)
        yield (
            "pages of files, with libraries",
            data_size(mapped),
            f"{data_size(everything)}: all that was read",
            _share(everything, mapped),
        )


def _limiting(found: BenchResult) -> str:
    """The stage that takes longest, and what is so before the files are in memory."""
    name = max(found.stages, key=lambda stage: found.stages[stage])
    text = f"{name}, {_share(found.stages[name], sum(found.stages.values()))} of a batch's time in the later passes"
    if found.fits_memory and found.limits.disk < found.later_passes.bytes_per_second:
        text += f"; the disk, {_rate(found.limits.disk)}, until the files are in memory"
    if not found.workers and found.later_passes.cpu_share < 0.8:
        text += f". This process got {found.later_passes.cpu_share:.0%} of a core: other work slowed it down"
    return text


def _pace(pace: Pace) -> str:
    return f"{pace.rows_per_second:,.0f} rows/s, {_rate(pace.bytes_per_second)}"


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e9:.3g} GB/s"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _share(part: float, whole: float) -> str:
    if not whole:
        return "-"
    percent = 100 * part / whole
    return f"{percent:,.0f} %" if percent >= 100 else f"{percent:.3g} %"
