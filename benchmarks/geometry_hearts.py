"""The recipe `cardiac-sdf` on a ten-class heart, beside scipy's distance transforms of the same label map."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import nibabel
import numpy as np

from benchmarks import geometry_libraries as lib
from benchmarks.common import Timing, WrongValues, take_turns
from benchmarks.geometry_records import job_of, own_stages, record_of
from benchmarks.geometry_trials import OURS
from demo.heart import write_hearts
from shapestore.preprocess.compute import Job
from shapestore.preprocess.plan import PlannedItem
from shapestore.preprocess.source import load_source

CLASSES: Final = range(1, 11)
PROJECT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Heart:
    """A ten-class label map, ours and scipy's distance transforms."""

    size: int
    ours: Timing
    scipy: Timing
    peak_bytes: int
    """Resident memory of a process that computes the record and nothing else."""
    own: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Times our time that the distance transforms alone take."""
        return self.scipy.median / self.ours.median


def heart(folder: Path, size: int, repeats: int) -> Heart:
    """Check and time one ten-class heart of `size`^3 voxels."""
    root = write_hearts(folder / "hearts", cases=1, size=size)
    job, planned = _only_heart(root)
    record = record_of(job, planned)
    for part in ("vol", "near"):
        if not np.array_equal(record.arrays[f"{part}_sdf"] < 0, record.arrays[f"{part}_labels"] > 0):
            raise WrongValues(f"{part}: labels and signs disagree")
    codes = np.ascontiguousarray(nibabel.load(root / planned.item.path).dataobj, np.uint8)
    masks = [codes == code for code in CLASSES]

    def pairs() -> None:
        for mask in masks:
            lib.scipy_edt_pair(mask)

    ours = partial(record_of, job, planned)
    times = take_turns({OURS: ours, "scipy": pairs}, repeats, 0.0)
    return Heart(size, times[OURS], times["scipy"], _peak_of_a_process(root), own_stages(ours))


def _only_heart(root: Path) -> tuple[Job, PlannedItem]:
    job = job_of(root, "cardiac", "cardiac-sdf")
    (item,) = load_source(job.source_kind).discover(root, job.recipe).items
    return job, PlannedItem(0, item)


def _peak_of_a_process(root: Path) -> int:
    """Memory at most in use by a process that computes one record and nothing else."""
    command = [sys.executable, "-m", "benchmarks.geometry_hearts", str(root)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def _peak_bytes(root: Path) -> int:
    """Most resident memory that this process ever had, after one record."""
    record_of(*_only_heart(root))
    # Not getrusage: its maximum starts with the size of the process that this one came from.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(_peak_bytes(Path(sys.argv[1])))
