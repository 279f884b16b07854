"""What `bench` measures are rates of real reads; no figure is compared with a time that was hoped for."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from shapestore.errors import NotAStore, UsageError
from shapestore.store.reader import open_store
from shapestore.train import bench as measuring
from shapestore.train import bench_limits
from shapestore.train.bench import bench, fitting, stages
from shapestore.train.bench_limits import disk_read, memory_copy
from shapestore.train.bench_memory import physical_bytes, resident
from shapestore.train.bench_result import Limits
from tests.train.toy import SHAPES

LIMITS = Limits(memory_copy=10e9, disk=1e9, disk_is_direct=True, host_to_device=None)


@pytest.mark.parametrize("workers", [0, 2])
def test_all_rows_are_read_and_all_figures_fit_each_other(toy_store: Path, workers: int) -> None:
    found = bench(toy_store, batch=8, seconds=0.1, workers=workers)
    store = open_store(toy_store)
    row = sum(store[name][0].nbytes for name in found.fields) + 8
    assert found.rows == SHAPES
    assert found.batch_bytes == 8 * row
    assert set(found.fields) | set(found.left_out) == {spec.name for spec in store.root.content.data_arrays}
    for pace in (found.first_pass, found.later_passes):
        assert pace.batches >= 1
        assert pace.bytes_per_second == pytest.approx(pace.rows_per_second * row)
    assert found.first_pass.batches <= -(-SHAPES // 8) - 1
    assert found.later_passes.batches > found.first_pass.batches
    assert min(found.open_seconds, found.metadata_seconds, found.first_batch_seconds, found.gather) > 0
    batch_seconds = found.batch_bytes / found.later_passes.bytes_per_second
    assert sum(found.stages.values()) >= batch_seconds * (1 - 1e-9)


def test_one_batch_that_holds_all_rows(toy_store: Path) -> None:
    assert bench(toy_store, ["pc_xyz"], batch=64, seconds=0.05).rows == SHAPES


def test_index_arrays_are_read_but_no_file_of_them(toy_store: Path) -> None:
    found = bench(toy_store, ["pc_xyz", "scale"], batch=4, seconds=0.05)
    assert found.batch_bytes == 4 * (open_store(toy_store)["pc_xyz"][0].nbytes + 16)
    assert found.limits.disk > 0


def test_what_cannot_be_measured_is_refused(toy_store: Path, tmp_path: Path) -> None:
    for options in ({"batch": 0}, {"seconds": 0.0}, {"workers": -1}):
        with pytest.raises(UsageError, match="more"):
            bench(toy_store, **{"seconds": 0.05, **options})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no surprise\. The store has: .*pc_xyz"):
        bench(toy_store, ["surprise"], seconds=0.05)
    with pytest.raises(NotAStore):
        bench(tmp_path / "nowhere.zarr")


def test_fields_are_those_of_which_a_batch_fits(toy_store: Path) -> None:
    store = open_store(toy_store)
    mapped = [spec for spec in store.root.content.data_arrays if spec.kind == "mapped"]
    assert fitting(store, 1, 10**9) == tuple(spec.name for spec in mapped)
    least = min(mapped, key=lambda spec: spec.row_bytes)
    assert fitting(store, 5, 5 * least.row_bytes) == (least.name,)
    together = sum(spec.row_bytes for spec in mapped)
    assert len(mapped) > 1
    assert len(fitting(store, 5, 5 * together)) == len(mapped) == len(fitting(store, 5, 5 * together - 1)) + 1
    with pytest.raises(UsageError, match="--fields"):
        fitting(store, 5, 5 * least.row_bytes - 1)


def test_stages_share_the_time_of_a_batch() -> None:
    """1 GB in a batch: 0.1 s of copying, 0.4 s of gathering beside it, 0.5 s of the rest."""
    found = stages(10**9, 0, 1e9, 2e9, LIMITS, fits_memory=True)
    assert found == pytest.approx({"copying memory": 0.1, "finding the rows": 0.4, "batching and handing over": 0.5})
    assert stages(10**9, 5, 5e9, 2e9, LIMITS, fits_memory=True)["batching and handing over"] == pytest.approx(0.1)
    assert stages(10**9, 0, 1e9, 2e9, LIMITS, fits_memory=False)["reading from disk"] == pytest.approx(1.0)
    gpu = LIMITS.model_copy(update={"host_to_device": 4e9})
    assert stages(10**9, 0, 1e9, 2e9, gpu, fits_memory=True)["copying to the GPU"] == pytest.approx(0.25)


def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock of `bench_limits` that goes on only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(bench_limits.time, "perf_counter", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    return tick


def test_a_memory_copy_counts_what_it_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every copy takes half a second: 2 s hold four copies, two buffers each second."""
    tick = clock(monkeypatch)
    copy = np.copyto

    def slow(target: Any, source: Any) -> None:
        copy(target, source)
        tick(0.5)

    monkeypatch.setattr(bench_limits.np, "copyto", slow)
    assert memory_copy(1000, 10_000, 1, 2.0) == pytest.approx(2000)


@pytest.mark.parametrize("size", [1, 4096, 10_000, 2 * bench_limits.BLOCK_BYTES + 5000])
def test_a_disk_rate_is_that_of_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Two files, one second each: their bytes by two seconds, whatever their lengths."""
    tick = clock(monkeypatch)
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(bytes(size))
    close = os.close

    def slow(descriptor: int) -> None:
        tick(1.0)
        close(descriptor)

    monkeypatch.setattr(bench_limits.os, "close", slow)
    assert disk_read(files, 60.0)[0] == pytest.approx(size)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_it_is_said_where_a_file_system_cannot_pass_the_cache_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a").write_bytes(bytes(5000))
    direct, opened = getattr(os, "O_DIRECT", 0), os.open
    if not direct:
        pytest.skip("this system has no O_DIRECT")

    def refuse(path: Path, flags: int) -> int:
        if flags & direct:
            raise OSError(number, os.strerror(number))
        return opened(path, flags)

    monkeypatch.setattr(bench_limits.os, "open", refuse)
    if number != errno.EINVAL:  # the disk fails
        with pytest.raises(OSError, match=os.strerror(number)):
            disk_read([tmp_path / "a"], 1.0)
        return
    rate, passed_by = disk_read([tmp_path / "a"], 1.0)
    assert rate > 0
    assert not passed_by


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk_read([tmp_path / "gone"], 1.0)


def test_memory_that_is_taken_is_seen() -> None:
    before = resident()
    if before is None:
        pytest.skip("this system does not tell")
    held = np.ones(64 * 2**20, np.uint8)
    after = resident()
    assert after is not None
    assert 0.99 * held.nbytes < after.own_bytes - before.own_bytes < 1.2 * held.nbytes
    assert before.own_bytes < physical_bytes()


def test_gathering_checks_every_row_before_it_is_timed(toy_store: Path) -> None:
    store = open_store(toy_store)
    rows = store.rows()[:5]
    measuring._gather(store, ["pc_xyz"], rows, 2, 100, 0.0)
    shard = store.shard("pc_xyz", 0)
    slots = [row for row in rows.tolist() if row < store.root.rows_per_shard]
    assert slots
    assert all(shard._seen[slot] for slot in slots)
