"""The warm process that runs under orders are forked from."""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.faults.kill.armed.sitecustomize import ORDERS, Hook
from tests.faults.kill.scenario import RECIPES, raw_files, write_raw
from tests.warm import LIBRARIES, Warm


@cache
def server() -> Warm:
    """The warm process of this one."""
    warm = Warm(LIBRARIES, prepare=f"{__name__}:load_kernels", begin=f"{__name__}:take_orders")
    atexit.register(warm.close)
    return warm


def load_kernels() -> None:
    """Ingest once."""
    from shapestore import api

    recipe = RECIPES["points"]
    settings = tuple(f"{name}={value}" for name, value in recipe.settings.items())
    with tempfile.TemporaryDirectory() as folder:
        raw = write_raw(Path(folder) / "raw", raw_files("points"))
        api.ingest(recipe.source, raw, Path(folder) / "s.zarr", recipe="points", settings=settings, workers=0)


def take_orders() -> None:
    """As `sitecustomize` does where an interpreter starts."""
    if ORDERS in os.environ:
        sys.addaudithook(Hook(json.loads(os.environ[ORDERS])))
