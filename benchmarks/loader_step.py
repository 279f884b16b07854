"""What reading adds to a step of training: vecset-tiny on cardiac batches, read or always the same one in memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import no_collection
from demo.raw import write_hearts
from shapestore import api
from shapestore.store.reader import open_store
from shapestore.train.data.loader import loader
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.models.vecset import VecSet
from shapestore.train.objectives.labelled_sdf import LabelledSdf
from shapestore.train.ranks import Ranks
from shapestore.train.reconstruction import read_config, samples
from shapestore.train.schedule import Schedule
from shapestore.train.trainer import Trainer

CASES, VOXELS = 8, 48
"""Hearts, and their size."""


@dataclass(frozen=True)
class StepShare:
    """Medians, in seconds: of waiting for a batch that this process reads, and of a step on a batch in memory."""

    batch: int
    reading: float
    reading_cpu: float
    step: float
    step_cpu: float

    @property
    def percent(self) -> float:
        """What reading adds to the step, by CPU time, which other work on the machine disturbs less."""
        return 100 * self.reading_cpu / self.step_cpu

    def __str__(self) -> str:
        return (
            f"a step of vecset-tiny on {self.batch} hearts: {self.step:.3f} s ({self.step_cpu:.3f} s CPU) from memory; "
            f"reading its batch in the same process takes {self.reading * 1e3:.1f} ms more "
            f"({self.reading_cpu * 1e3:.1f} ms CPU): {100 * self.reading / self.step:.2f} % ({self.percent:.2f} % CPU)"
        )


def step_share(folder: Path, steps: int) -> StepShare:
    """Steps on batches that are read, and on the same one again and again, in turn.

    Parameters
    ----------
    folder
        Where hearts and their store are written.
    steps
        Steps of each kind that are counted, > 0; one of each comes before. The model's work is the same in both.
    """
    raw, store = write_hearts(folder / "hearts", cases=CASES, size=VOXELS), folder / "hearts.zarr"
    api.ingest("cardiac", raw, store, recipe="cardiac-sdf", workers=0)
    config = read_config("vecset-tiny")
    hearts = open_store(store)
    dataset = samples(hearts, hearts.rows(), config.data)
    source = loader(dataset, ShapeSampler(dataset, config.train.batch))
    model, objective = VecSet(config.model), LabelledSdf(config.objective)
    trainer = Trainer(model, objective, config.train, Schedule.of(config.train, config.train.total_steps(1)), Ranks())

    batches = (batch for _ in range(steps + 1) for batch in source)
    same = {name: values.clone() for name, values in next(batches).items()}
    waits, alone = [], []
    for number in range(steps + 1):
        with no_collection():
            start = _now()
            batch = next(batches)
            waits.append(_since(start))
            trainer.step(number, batch)  # as training goes: the model's work comes between two batches
            start = _now()
            trainer.step(number, same)
            alone.append(_since(start))
    (reading, reading_cpu), (step, step_cpu) = (
        tuple(statistics.median(column) for column in zip(*times[1:], strict=True)) for times in (waits, alone)
    )
    return StepShare(config.train.batch, reading, reading_cpu, step, step_cpu)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = _now()
    return wall - start[0], cpu - start[1]
