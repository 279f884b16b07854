"""Runs operations on a disk that fails: one process under `faulty.c`, which forks a child for every single fault.

It reads lines of JSON on standard input and answers each with one: what the operation
ended with.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.raw import write_shapenet
from shapestore import api
from shapestore.errors import ShapestoreError

SETTINGS = ("points.count=64", "points.fps_order=0")


def ingest(raw: Path, store: Path, **options: Any) -> None:
    """A new store, or more rows for one that is there."""
    api.ingest("shapenet", raw, store, recipe="points", settings=SETTINGS, workers=0, **options)


OPERATIONS: dict[str, Callable[[Path, Path], Any]] = {
    "ingest": ingest,
    "append": ingest,
    "retry": lambda raw, store: ingest(raw, store, retry=True),
    "split": lambda raw, store: api.split(store, "folds", {"a": 0.5, "b": 0.5}),
    "derive": lambda raw, store: api.derive(store, "pc_fps_order", workers=0),
    "repair": lambda raw, store: api.repair(store, workers=0),
}


def main() -> None:
    """Answer one request after another."""
    library = ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as folder:  # what is loaded and compiled here, no child need load again
        ingest(write_shapenet(Path(folder), models_per_class=1), Path(folder) / "s.zarr")
    gc.freeze()  # what is only looked through is not copied in every child
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            answer: dict[str, Any] = {"error": "", "message": "", "code": 0}
            library.faulty_arm(
                request["call"].encode(),
                request["below"].encode(),
                ctypes.c_long(request["at"]),
                request["errno"],
                int(request["stays"]),
            )
            try:
                OPERATIONS[request["operation"]](Path(request["raw"]), Path(request["store"]))
            except BaseException as error:
                answer = {"error": type(error).__name__, "message": str(error), "code": 1}
                if isinstance(error, ShapestoreError):
                    answer["code"] = error.exit_code
            library.faulty_seen.restype = ctypes.c_long
            answer["calls"] = library.faulty_seen()
            library.faulty_arm(b"", b"", ctypes.c_long(-1), 0, 0)
            with os.fdopen(writing, "w") as out:
                json.dump(answer, out)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answers:
            sys.stdout.write(answers.read() + "\n")
        sys.stdout.flush()
        os.wait()


if __name__ == "__main__":
    main()
