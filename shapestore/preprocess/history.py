"""What is kept in a store of every run of this program that wrote to it, and how it is read back."""

from __future__ import annotations

import json
import os
import platform
import socket
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from shapestore.preprocess.source import GROUP
from shapestore.store.catalogue import NO_RUN
from shapestore.store.reader import Store


def describe_run(mode: str, workers: int) -> dict[str, Any]:
    """What is to be known of a run of this program, for the store's history."""
    libraries = ("shapestore", "numpy", "scipy", "zarr", "numcodecs", "trimesh", "libigl", "scikit-image", "nibabel")
    return {
        "started": datetime.now(UTC).isoformat(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "mode": mode,
        "workers": workers,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in libraries},
    }


def describe_source(kind: str, raw: Path) -> dict[str, Any]:
    """What a run read: the root of the raw files, and the installed package that read them."""
    package = next((entry.dist for entry in entry_points(group=GROUP, name=kind)), None)
    return {
        "raw": str(raw),
        "source": {
            "kind": kind,
            "package": package.name if package else "",
            "version": package.version if package else "",
        },
    }


def run_of(store: Store, row: int) -> dict[str, Any] | None:
    """The run that computed a row, as it was described; None where the history does not hold it."""
    number = int(store.index("provenance/run")[row])
    runs = _runs(store)
    return runs[number] if NO_RUN < number < len(runs) else None


def recorded_root(store: Store) -> Path | None:
    """The root of the raw files that the store was last written from; None where no run says."""
    roots = [run["raw"] for run in _runs(store) if "raw" in run]
    return Path(roots[-1]) if roots else None


def _runs(store: Store) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(store.index("provenance/runs")[0])
    return runs
