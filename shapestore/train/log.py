"""The log of a run: one JSON line for each set of numbers, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from shapestore.store.durable import move, write_synced


class Log:
    """Appends to `log.jsonl` and `tensorboard/` of a run that stands at `step`.

    What they say of later steps is dropped (all at step 0): the run was killed after its last checkpoint, and does them
    again.
    """

    def __init__(self, run: Path, step: int) -> None:
        path = run / "log.jsonl"
        kept = [line for line, at in _whole_lines(path) if at <= step] if step else []
        building = run / ".log.jsonl"
        write_synced(building, b"".join(kept))
        move(building, path, run)
        self._file = path.open("a")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **groups: Mapping[str, float]) -> None:
        """Note numbers by name in groups such as `train`, after so many steps; null in JSON is no number."""
        named = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        line = {name: value if math.isfinite(value) else None for name, value in named.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        for name, value in named.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        self._board.close()


def _whole_lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Lines of a file that were written whole, and their steps; none where there is no file.

    The log is not synced, so that a machine that stops may leave anything at its end.
    """
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(values, dict) and isinstance(values.get("step"), int):
            yield line, values["step"]
