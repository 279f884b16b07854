"""What is kept in a store of every run of this program that wrote to it."""

from __future__ import annotations

import os
import platform
import socket
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


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
