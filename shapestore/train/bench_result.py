"""`BenchResult`: what `bench` measured."""

from __future__ import annotations

from shapestore.schemas.base import Strict
from shapestore.train.bench_memory import Resident


class Pace(Strict):
    """How fast batches came."""

    batches: int
    rows_per_second: float
    bytes_per_second: float
    """Of what the batches hold, whatever was read for it."""
    cpu_share: float
    """CPU time of this process by wall time; 1 is one core. Less without workers: it had to wait."""


class Limits(Strict):
    """What the machine does at best, in bytes a second."""

    memory_copy: float
    """Copying a batch from memory into a warm buffer; all workers at the same time."""
    disk: float
    """Reading the shards one after another."""
    disk_is_direct: bool
    """Whether that passed the page cache by (`O_DIRECT`); if not, the files may have come from memory."""
    host_to_device: float | None
    """Copying from pinned memory to the GPU; None: there is none."""


class BenchResult(Strict):
    """What was measured."""

    store: str
    device: str
    """Where the batches went: `cuda` where there is one."""
    fields: tuple[str, ...]
    left_out: tuple[str, ...]
    """Arrays that were not asked for: packed ones, and those with which a batch would not fit."""
    batch: int
    batch_bytes: int
    workers: int
    rows: int
    """Different rows that were read; the later passes go over these."""
    load: tuple[float, float, float]
    """Load average of the last 1, 5 and 15 minutes, before the measurement."""
    open_seconds: float
    metadata_seconds: float
    """Reading the root's metadata alone: what opening cannot be faster than."""
    first_batch_seconds: float
    """From the open store to the first batch: index arrays, workers, maps."""
    first_pass: Pace
    """Every row is read for the first time and compared with its checksum; of a store of one batch, the second time."""
    later_passes: Pace
    """The same rows again, in other orders."""
    gather: float
    """Bytes a second of `Store.read` alone, of the same rows into warm buffers, in this process."""
    limits: Limits
    before: Resident | None
    """Memory before the store was opened."""
    after: Resident | None
    """Memory at the end of the later passes, while a batch and the workers are there."""
    fits_memory: bool
    """Whether these fields of the whole store fit into the machine's memory, so that later epochs need no disk."""
    stages: dict[str, float]
    """Seconds of a batch in the later passes that go to each stage, one after the other; the largest one limits."""
