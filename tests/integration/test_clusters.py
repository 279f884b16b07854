"""A Dask cluster that is already running takes the same work and gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import LocalCluster

from shapestore import api
from tests.integration.conftest import SMALL, tree_digest


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
