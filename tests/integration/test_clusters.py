"""A Dask cluster that is already running takes the same work and gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import LocalCluster

from shapestore import api
from tests.integration.conftest import SMALL, Program, tree_digest


@pytest.mark.slow
def test_a_running_scheduler_is_used_and_left_running(raw_meshes: Path, tmp_path: Path) -> None:
    options = {"recipe": "points", "settings": SMALL}
    api.ingest("shapenet", raw_meshes, tmp_path / "here.zarr", workers=0, **options)  # type: ignore[arg-type]
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        api.ingest("shapenet", raw_meshes, tmp_path / "there.zarr", scheduler=address, **options)  # type: ignore[arg-type]
        assert api.validate(tmp_path / "there.zarr", "full", scheduler=address).passed
        assert len(cluster.workers) == 1
    assert tree_digest(tmp_path / "there.zarr") == tree_digest(tmp_path / "here.zarr")


@pytest.mark.slow
def test_kernels_are_compiled_once_for_all_workers_of_a_machine(
    program: Program, raw_meshes: Path, tmp_path: Path
) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "NUMBA_DEBUG_CACHE": "1"}
    store = tmp_path / "s.zarr"
    done = program("ingest", "shapenet", raw_meshes, store, "--recipe", "points", "--workers", "2", env=cache)
    saved = [line.split("'")[1] for line in done.stdout.splitlines() if "data saved to" in line]
    assert saved, "nothing was compiled"
    assert sorted(saved) == sorted(set(saved))
