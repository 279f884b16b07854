"""shapestore: raw 3D shapes in, a typed Zarr v3 store out, read back by torch without copying.

Nothing heavy is imported here: names are loaded when they are first used.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__all__ = ["Store", "__version__", "open"]

__version__ = version("shapestore")

_LAZY = {"Store": ("shapestore.store.reader", "Store"), "open": ("shapestore.store.reader", "open_store")}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'shapestore' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
