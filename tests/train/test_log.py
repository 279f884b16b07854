"""The log: what is in the JSON lines is in TensorBoard, and nothing is there twice."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shapestore.train.log import Log


def lines(run: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def board(run: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def write(run: Path, start: int, steps: range, value: float) -> None:
    log = Log(run, start)
    for step in steps:
        log.write(step, train={"loss": value + step, "lr": 0.5}, pace={"seconds": 1.0})
    log.close()


def test_both_tell_the_same(tmp_path: Path) -> None:
    write(tmp_path, 0, range(1, 4), 0.25)
    assert lines(tmp_path)[1] == {"step": 2, "train/loss": 2.25, "train/lr": 0.5, "pace/seconds": 1.0}
    assert board(tmp_path, "train/loss") == [(1, 1.25), (2, 2.25), (3, 3.25)]


@pytest.mark.parametrize(
    "torn", [b"", b'{"step": 5, "train/l', b'{"step": 2', b"\0" * 40 + b"\n", b"7\n{}\n", b"\xff\n"]
)
def test_steps_that_are_done_again_are_told_once(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, 0, range(1, 5), 0.25)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(torn)
    time.sleep(1.1)  # TensorBoard tells its files' order by the second in their names, as of a run that goes on later
    write(tmp_path, 2, range(3, 5), 100.0)
    told = [(line["step"], line["train/loss"]) for line in lines(tmp_path)]
    assert told == [(1, 1.25), (2, 2.25), (3, 103.0), (4, 104.0)]
    assert board(tmp_path, "train/loss") == told


def test_a_run_that_begins_again_begins_its_log_again(tmp_path: Path) -> None:
    write(tmp_path, 0, range(3), 0.25)
    write(tmp_path, 0, range(2), 100.0)
    assert [line["train/loss"] for line in lines(tmp_path)] == [100.0, 101.0]


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    log.write(1, validation={"dice": float("nan"), "far": float("inf"), "iou": 0.5})
    log.close()
    assert lines(tmp_path) == [{"step": 1, "validation/dice": None, "validation/far": None, "validation/iou": 0.5}]


def test_a_line_is_in_the_file_when_it_is_written(tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    log.write(1, train={"loss": 1.0})
    assert lines(tmp_path) == [{"step": 1, "train/loss": 1.0}]
    log.close()
