"""Killed at any instant, a run is resumed by the same command, ends at the same bytes, and leaves nothing behind.

The long form is `python -m tests.faults.kill.loop`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.kill.armed.sitecustomize import ORDERS
from tests.faults.kill.blow import Blow
from tests.faults.kill.round import Outcome, play
from tests.faults.kill.run import ARMED, Run, from_cold
from tests.faults.kill.scenario import Case
from tests.faults.kill.stage import stage
from tests.faults.kill.state import differences

INGEST, RETRY, REBUILD = (Case(operation, "points") for operation in ("ingest", "retry", "rebuild-write"))

NEW_STORE = ("creation begun", "store folder made", "store created")
LOCK = ("locked", "lock removed")
ROWS = (
    "lines written",
    "lines durable",
    "row written",
    "part written",
    "part named",
    "ledger written",
    "ledger durable",
)
SEAL = ("shards written", "shard named", "shards durable")
COMMIT = (
    "file staged", "all staged", "file moved", "files durable", "root moved", "root durable", "redo log removed",
    "committed",
)  # fmt: skip
REDO = ("redo log written",)
END = ("plan removed", "ledger removed")

EVERY = (*LOCK, *ROWS, *SEAL, *COMMIT, *END)
STEPS = {INGEST: (*NEW_STORE, *EVERY), RETRY: (*REDO, *EVERY)}
AS_IN_INGEST = {*LOCK, *ROWS}
"""Steps that a retry reaches just as an ingest does."""

FAST = {
    INGEST: ("part named", "files durable", "root moved"),
    RETRY: ("shard named", "redo log written", "file moved"),
}


def killed_at() -> list[object]:
    """Every step of both operations; all but a few are slow."""
    return [
        pytest.param(case, step, id=f"{case.operation}-{step}", marks=() if step in FAST[case] else pytest.mark.slow)
        for case, steps in STEPS.items()
        for step in steps
        if case == INGEST or step not in AS_IN_INGEST
    ]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stores lie that rounds start from and end at."""
    return tmp_path_factory.mktemp("stages")


@pytest.mark.parametrize("case", STEPS, ids=lambda case: case.operation)
def test_no_step_is_left_out(case: Case, stages: Path) -> None:
    assert stage(case, stages).steps.keys() == set(STEPS[case])


@pytest.mark.parametrize(("case", "step"), killed_at())
def test_a_run_killed_at_a_step_is_finished_by_the_next(case: Case, step: str, stages: Path, tmp_path: Path) -> None:
    ready = stage(case, stages)
    blow = Blow("coordinator", step, ready.steps[step] // 2 + 1)
    outcome = play(Outcome(0, case, workers=0), ready, tmp_path / "round", [blow])
    assert [kill.step for kill in outcome.kills] == [step]
    assert not outcome.amiss, outcome


@pytest.mark.parametrize("step", [pytest.param("redo log written", marks=pytest.mark.slow), "file moved"])
def test_a_rebuild_killed_while_files_are_replaced_is_finished_by_the_next(
    step: str, stages: Path, tmp_path: Path
) -> None:
    """It compares before it writes, and half of a commit cannot be compared with anything."""
    ready = stage(REBUILD, stages)
    blow = Blow("coordinator", step, ready.steps[step] // 2 + 1)
    outcome = play(Outcome(0, REBUILD, workers=0), ready, tmp_path / "round", [blow])
    assert outcome.kills
    assert not outcome.amiss, outcome


def test_a_run_killed_right_after_it_made_the_store_leaves_no_mark_that_it_is_unfinished(
    stages: Path, tmp_path: Path
) -> None:
    """With such a mark, an ingest into a store whose root is lost would begin it anew."""
    outcome = play(
        Outcome(0, INGEST, workers=0), stage(INGEST, stages), tmp_path / "round", [Blow("coordinator", "committed", 1)]
    )
    assert outcome.kills
    assert not outcome.amiss, outcome


def test_a_run_forked_from_a_warm_process_is_one_of_the_program(stages: Path, tmp_path: Path) -> None:
    ready, store = stage(INGEST, stages), tmp_path / "s.zarr"
    run = Run(INGEST.arguments(ready.raw, store, workers=0), tmp_path / "run", tmp_path, INGEST.orders, from_cold)
    assert run.finish() == ready.code
    assert run.steps == ready.steps
    assert not differences(store, ready)


def test_the_hook_runs_the_sitecustomize_that_it_hides(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.was_there = True\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(ARMED), str(tmp_path))), ORDERS: '{"folder": "."}'}
    ask = "import sitecustomize; print(was_there, sitecustomize.__file__)"
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(ARMED / "sitecustomize.py")]
