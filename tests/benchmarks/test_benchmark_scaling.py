"""The scaling benchmark compares shares and stores; no time is asserted here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.common import WrongValues

ROOT = Path(__file__).resolve().parents[2]


def rounds(ingest_2: float, seconds: float = 100.0, count: int = 5) -> list[scaling.Round]:
    return [scaling.Round(seconds, 0.6 * seconds, seconds, ingest_2 * seconds)] * count


def test_the_share_of_ingest_is_measured_in_shares_of_the_loop() -> None:
    assert scaling.verdict(rounds(0.6)).measured == pytest.approx(1.0)
    assert scaling.verdict(rounds(0.67)).met
    assert not scaling.verdict(rounds(0.68)).met


def test_the_median_round_counts() -> None:
    assert scaling.verdict([*rounds(0.6, count=3), *rounds(2.0, count=2)]).met
    assert not scaling.verdict([*rounds(0.6, count=2), *rounds(2.0, count=3)]).met


def test_too_little_work_is_not_judged() -> None:
    assert scaling.not_judged(rounds(0.6, seconds=59.0))
    assert scaling.not_judged(rounds(0.6, count=4))


def test_the_four_measurements_take_turns() -> None:
    order: list[int] = []

    def measure(number: int) -> float:
        order.append(number)
        return float(number + 1)

    found = scaling.alternate([lambda number=number: measure(number) for number in range(4)], 3)
    assert found == [scaling.Round(1, 2, 3, 4)] * 3
    assert sorted(order) == sorted([0, 1, 2, 3] * 3)
    assert order != [0, 1, 2, 3] * 3


def test_a_store_that_differs_ends_the_run() -> None:
    kept: dict[str, str] = {}
    scaling.compare(kept, {"a": "1"})
    scaling.compare(kept, {"a": "1"})
    with pytest.raises(WrongValues):
        scaling.compare(kept, {"a": "2"})


@pytest.mark.skipif(
    "SHAPESTORE_BENCHMARKS" not in os.environ, reason="benchmarks are run by hand: SHAPESTORE_BENCHMARKS=1"
)
@pytest.mark.slow
def test_the_command_writes_a_table_and_json(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.scaling", "--quick", "--seconds", "0.2", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same to the byte" in done.stdout
    report = json.loads(file.read_text())
    assert len(report["rounds"]) == 1
    assert [target["met"] for target in report["targets"]] == [None]
