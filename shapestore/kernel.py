"""`kernel`: compiled functions whose cache is never older than any source that went into them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

_IMPORTS = re.compile(rb"^from (shapestore[\w.]*) import ", re.MULTILINE)


def kernel(function: F) -> F:
    """Compile a function when it is first called, once for all processes of a machine; it runs without the GIL.

    The library discards what it cached of a function when the function's own file changes. But constants and kernels
    of other modules are compiled into it as well: here the cache depends on every file that the module imports from,
    directly or not. Without it an update of the program would go on with parts of its predecessor.
    """
    compiled: Any = njit(nogil=True, cache=True)(function)
    compiled._cache._cache_file._source_stamp = _stamp(function.__module__)
    found: F = compiled
    return found


@cache
def _stamp(module: str) -> str:
    """Digest of a module's source and of those that it imports from within the package."""
    source = Path(getattr(find_spec(module), "origin", "")).read_bytes()
    imported = sorted({name.decode() for name in _IMPORTS.findall(source)})
    return hashlib.sha256(source + "".join(map(_stamp, imported)).encode()).hexdigest()
