"""A cluster whose worker is gone when the first task comes."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from shapestore.preprocess import cluster
from shapestore.preprocess.cluster import DaskWorkers
from shapestore.preprocess.workers import run_all


def test_a_worker_that_was_killed_at_the_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no worker at that moment, no task was sent, and all of them seemed to be done."""
    whole = cluster._local_cluster

    def without_worker(workers: int, scratch: str) -> Any:
        made = whole(workers, scratch)
        for child in psutil.Process().children():
            if any("spawn_main" in part for part in child.cmdline()):
                child.kill()
        while made.scheduler_info["workers"]:
            time.sleep(0.01)
        return made

    monkeypatch.setattr(cluster, "_local_cluster", without_worker)
    with DaskWorkers(1) as workers:
        tasks = [((number,), abs, (-number,)) for number in range(5)]
        assert dict(run_all(workers, tasks, lambda: False)) == {(number,): number for number in range(5)}
