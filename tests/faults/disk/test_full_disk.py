"""A real file system that fills up: an ingest stops, and goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.store.layout import work_folder
from tests.integration.conftest import environment, tree_digest
from tests.warm import Warm

LEAST_KIB = 96
"""Room on the disk at first; whenever it is full it is given four times as much."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory, with room for next to nothing."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or resize(folder, LEAST_KIB, "").returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield folder
    command = ["umount", str(folder)]
    subprocess.run(command, check=True)


def resize(folder: Path, kib: int, option: str = "remount,") -> subprocess.CompletedProcess[bytes]:
    """Mount a file system of `kib` KiB, or give it another size."""
    command = ["mount", "-t", "tmpfs", "-o", f"{option}size={kib}k", "shapestore-test", str(folder)]
    return subprocess.run(command, capture_output=True, check=False)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


def ingest(warm: Warm, raw: Path, store: Path, workers: int) -> subprocess.CompletedProcess[str]:
    """Run the ingest of a user."""
    options = ["--recipe", "points", "--set", "points.count=2048", "--set", "points.fps_order=0"]
    return warm.run("ingest", "shapenet", raw, store, *options, "--workers", workers, environment=environment())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2])
def test_an_ingest_on_a_full_disk_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path, warm: Warm, workers: int
) -> None:
    raw, store, whole = write_shapenet(tmp_path, models_per_class=2), disk / "s.zarr", tmp_path / "whole.zarr"
    assert ingest(warm, raw, whole, workers=0).returncode == 0
    refusals = 0
    while (run := ingest(warm, raw, store, workers)).returncode == 5:
        assert "No space left on device" in run.stderr
        assert "run the same command again" in run.stderr
        if (store / "zarr.json").exists():
            opened = api.open(store, checksums="always")
            opened.read(opened.rows(), ["pc_xyz"])
        refusals += 1
        resize(disk, LEAST_KIB << 2 * refusals)
    assert run.returncode == 0, run.stderr
    assert refusals > 2, "it was hardly ever full"
    assert tree_digest(store) == tree_digest(whole)
    assert not work_folder(store).exists()
