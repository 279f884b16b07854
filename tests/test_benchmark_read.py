"""The read benchmark compares values before it compares times; no time is asserted here."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")
pytest.importorskip("tensorstore")

from benchmarks import read
from benchmarks.adapters import Adapter, Floats, RamLoop, Rows, Source

ROOT = Path(__file__).resolve().parents[1]


def source(folder: Path, rows: int = 8, points: int = 4) -> Source:
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(points).random((rows, points, 3), np.float32)
    return Source(values, rows_per_shard=rows // 2 + 1, folder=folder)


def test_everybody_gives_the_source_in_every_pattern_and_all_tables_come_out(tmp_path: Path) -> None:
    sources = {
        "4 KB": source(tmp_path / "4", 7),
        "24 KB": source(tmp_path / "24", 64, 1025),
        "320 KB": source(tmp_path / "320", 6),
    }
    console = Console(file=io.StringIO(), width=120)
    results = read.run(sources, 1, 0.0, console)

    found = {(result.pattern, result.check, result.buffers) for result in results}
    assert found == {
        (pattern.name, check, kind)
        for pattern in read.PATTERNS
        for check in read.TABLES
        for kind in ("reused", "fresh")
    }
    assert all(0 < result.fastest <= result.median <= result.slowest for result in results)
    labels = {result.contender for result in results if result.check == "nothing"}
    for family in ("shapestore", "zarr-python", "tensorstore", "h5py", "npz", "npy", "memory"):
        assert any(label.startswith(family) for label in labels), family

    printed = list(read.tables(results, sources))
    assert len(printed) == len(read.TABLES) * len(read.PATTERNS)
    for table in printed:
        console.print(table)
    assert len(read.verdicts(results)) == 8
    assert read.too_small(sources)


class OtherRow(RamLoop):
    """Right for all rows but the last."""

    def load(self, row: int, first: int) -> Floats:
        return super().load(row - (row == len(self._values) - 1), first)

    into = Adapter.into


class KeepsBuffer(RamLoop):
    """Fast because it does nothing: the buffer has the right values already, or so it hopes."""

    def into(self, row: int, first: int, out: Floats) -> None:
        pass

    def gather_fresh(self, rows: Rows, first: int) -> Floats:
        return np.empty((len(rows), first, 3), np.float32)


class LongPrefix(RamLoop):
    """Ignores how many points are wanted, from the other end."""

    def load(self, row: int, first: int) -> Floats:
        return self._values[row, -first:].copy()

    into = Adapter.into


@pytest.mark.parametrize(
    ("liar", "pattern", "buffers"),
    [
        (OtherRow, read.Pattern("row", ""), "fresh"),
        (OtherRow, read.Pattern("row", ""), "reused"),
        (OtherRow, read.Pattern("batch", "", batch=4), "reused"),
        (OtherRow, read.Pattern("batch", "", batch=4), "fresh"),
        (KeepsBuffer, read.Pattern("row", ""), "reused"),
        (KeepsBuffer, read.Pattern("batch", "", batch=4), "reused"),
        (LongPrefix, read.Pattern("prefix", "", batch=4, first=2), "reused"),
        (LongPrefix, read.Pattern("prefix", "", batch=4, first=2), "fresh"),
    ],
)
def test_wrong_values_end_the_run(
    liar: Callable[[Source], RamLoop], pattern: read.Pattern, buffers: read.Buffers, tmp_path: Path
) -> None:
    data = source(tmp_path)
    honest = read.Trial(data, read.Contender("honest", ("nothing",), RamLoop(data)), pattern, buffers)
    honest.check_all()
    wrong = read.Trial(data, read.Contender("liar", ("nothing",), liar(data)), pattern, buffers)
    with pytest.raises(read.WrongValues, match=f"liar, {pattern.name}, {buffers}"):
        wrong.check_all()


def test_a_reader_that_goes_wrong_later_ends_the_run(tmp_path: Path) -> None:
    data = source(tmp_path)
    adapter = RamLoop(data)
    trial = read.Trial(data, read.Contender("fades", ("nothing",), adapter), read.Pattern("row", ""), "reused")
    trial.check_all()
    adapter._values = data.values + 1
    with pytest.raises(read.WrongValues, match="fades"):
        trial.repeat(np.arange(3), 1.0)


def test_a_global_shuffle_holds_every_row_once_an_epoch() -> None:
    pattern = read.Pattern("shuffle", "", batch=4, shuffled=True)
    calls = pattern.calls(32, np.random.default_rng(0))
    assert calls.shape == (read.EPOCHS * 8, 4)
    for epoch in calls.reshape(read.EPOCHS, -1):
        assert sorted(epoch) == list(range(32))
    assert (calls == pattern.calls(32, np.random.default_rng(0))).all()


@pytest.mark.skipif(
    "SHAPESTORE_BENCHMARKS" not in os.environ, reason="benchmarks are run by hand: SHAPESTORE_BENCHMARKS=1"
)
@pytest.mark.slow
def test_the_command_writes_tables_and_json(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.read",
        "--quick",
        "--rows",
        "64",
        "--repeats",
        "2",
        "--json",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "every value of every reader equals the source" in done.stdout
    assert all(title in done.stdout for title in read.TABLES.values())
    report = json.loads(file.read_text())
    assert report["results"]
    assert [target["met"] for target in report["targets"]] == [None] * 8
