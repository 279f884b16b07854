"""The loader benchmark compares values before it compares times; no time is asserted here."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")
pytest.importorskip("tensorstore")

import torch

from benchmarks import loader
from benchmarks.adapters import Source
from benchmarks.common import WrongValues
from benchmarks.loader_adapters import BATCH, FIELD, Batch, Loader, Shapestore
from benchmarks.loader_step import StepShare
from shapestore.train.data.dataset import ROW

ALWAYS = tuple(
    label for label in loader.ENTRANTS if label.startswith((loader.OURS, "zarr", "tensorstore", "h5py", "npz"))
)
"""Those whose libraries are always installed here."""


def source(folder: Path, rows: int = 2 * BATCH) -> Source:
    values = np.random.default_rng(3).random((rows, 4, 3), np.float32) * 2 - 1
    return Source(values, rows_per_shard=32, folder=folder)


class Memory(Loader):
    """Right in everything: what the liars below spoil."""

    def __init__(self, data: Source) -> None:
        self.values = torch.from_numpy(data.values)
        self.random = np.random.default_rng(0)

    def epoch(self) -> Iterator[Batch]:
        order = self.order()
        for start in range(0, len(order), BATCH):
            rows = torch.from_numpy(order[start : start + BATCH])
            yield self.made({FIELD: self.values[rows], ROW: rows})

    def order(self) -> np.ndarray:
        return self.random.permutation(len(self.values))

    def made(self, batch: Batch) -> Batch:
        return batch


class OneWrongValue(Memory):
    def made(self, batch: Batch) -> Batch:
        if (batch[ROW] == 77).any():
            batch[FIELD][-1, -1, -1] += 1e-6
        return batch


class OtherRows(Memory):
    def made(self, batch: Batch) -> Batch:
        return {**batch, ROW: batch[ROW].roll(1)}


class Doubles(Memory):
    def made(self, batch: Batch) -> Batch:
        return {**batch, FIELD: batch[FIELD].double()}


class ARowTwice(Memory):
    def order(self) -> np.ndarray:
        order = super().order()
        order[order == 5] = 6
        return order


class ARowLess(Memory):
    def order(self) -> np.ndarray:
        return super().order()[1:]


class InOrder(Memory):
    def order(self) -> np.ndarray:
        return np.arange(len(self.values))


class ShufflesLater(Memory):
    epochs = 0

    def order(self) -> np.ndarray:
        self.epochs += 1
        return np.arange(len(self.values)) if self.epochs == 1 else super().order()


class SameOrder(Memory):
    def order(self) -> np.ndarray:
        return np.random.default_rng(0).permutation(len(self.values))


LIARS = {
    OneWrongValue: "wrong values",
    OtherRows: "wrong values",
    Doubles: "wrong values",
    ARowTwice: "every row once",
    ARowLess: "every row once",
    InOrder: "not shuffled",
    ShufflesLater: "not shuffled",
    SameOrder: "not shuffled",
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_loader_that_is_wrong_ends_the_run(liar: Callable[[Source], Loader], tmp_path: Path) -> None:
    data = source(tmp_path)
    loader.check("honest", Memory(data), data)
    with pytest.raises(WrongValues, match=f"liar: .*{LIARS[liar]}"):
        loader.check("liar", liar(data), data)


@pytest.mark.parametrize("liar", [ARowLess, Doubles])
def test_a_loader_that_goes_wrong_while_timed_ends_the_run(liar: Callable[[Source], Loader], tmp_path: Path) -> None:
    data = source(tmp_path)
    with pytest.raises(WrongValues, match="fades"):
        loader.time_all({"fades": liar(data)}, data, 1, 0.0)


def test_those_that_are_installed_give_the_source_and_a_line_each(tmp_path: Path) -> None:
    data = source(tmp_path, BATCH)
    loaders, missing = loader.enter(data, 0, {label: loader.ENTRANTS[label] for label in ALWAYS})
    assert not missing
    for label, each in loaders.items():
        loader.check(label, each, data)
    results = loader.time_all(loaders, data, 1, 0.0)
    assert {result.loader for result in results} == set(ALWAYS)
    assert all(0 < result.fastest <= result.median <= result.slowest for result in results)
    Console(file=io.StringIO()).print(loader.table(results, data))
    verdicts = loader.verdicts(results, StepShare(2, 0.03, 0.03, 1.0, 1.0))
    assert len(verdicts) == 2 * (len(ALWAYS) - 1) + 1
    assert not verdicts[-1].met


@pytest.mark.parametrize("label", [label for label in loader.ENTRANTS if label not in ALWAYS])
def test_a_library_that_is_not_there_is_named_with_the_reason(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("datasets", "streaming", "litdata", "webdataset"):
        monkeypatch.setitem(sys.modules, name, None)
    loaders, missing = loader.enter(source(tmp_path), 0, {label: loader.ENTRANTS[label]})
    assert not loaders
    assert "import of" in missing[label]


@pytest.mark.slow  # a worker is spawned, and imports torch
def test_workers_give_the_same_rows(tmp_path: Path) -> None:
    data = source(tmp_path)
    loader.check("ours", Shapestore(data, 1), data)


def test_cpu_time_counts_children() -> None:
    before = loader.cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(30_000_000))"], check=True)
    assert loader.cpu_seconds() - before > 0.1


def test_the_share_of_a_step_is_one_of_cpu_times() -> None:
    assert StepShare(batch=2, reading=9.0, reading_cpu=0.5, step=10.0, step_cpu=10.0).percent == pytest.approx(5.0)
