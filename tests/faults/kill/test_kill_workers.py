"""A few rounds of the kill loop on two workers; `python -m tests.faults.kill.loop` plays thousands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.faults.kill.blow import drawn_blows
from tests.faults.kill.round import Outcome, play
from tests.faults.kill.scenario import Case
from tests.faults.kill.stage import stage

CASES = (
    Case("ingest", "points"),
    Case("append", "nepa-shapenet"),
    Case("retry", "cardiac-sdf"),
    Case("repair", "points"),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}-{case.recipe}")
def test_runs_on_two_workers_are_finished_however_often_they_are_killed(case: Case, tmp_path: Path) -> None:
    ready = stage(case, tmp_path / "stages")
    blows = drawn_blows(np.random.default_rng(CASES.index(case)), ready, workers=2, most=2)
    outcome = play(Outcome(0, case, workers=2), ready, tmp_path / "round", blows)
    assert not outcome.amiss, outcome
