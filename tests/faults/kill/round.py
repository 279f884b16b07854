"""One round: an operation that is killed again and again, and left alone at last; what it then leaves is looked at."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.kill.blow import Blow, Kill, drawn_blows, strike
from tests.faults.kill.run import STOPPED, USAGE, Run
from tests.faults.kill.scenario import CASES, Case
from tests.faults.kill.stage import Stage, copy_store, stage
from tests.faults.kill.state import PATIENCE_SECONDS, alive, amiss, differences, leftovers, names

AMISS = ("unreadable", "stopped", "differences", "leftovers", "temporary", "orphans")
"""What may be wrong with a round: see `Outcome`."""


OFTEN = 3
"""How much more often what runs for hours is drawn than what takes minutes."""


@dataclass
class Outcome:
    """What one round found."""

    number: int
    case: Case
    workers: int
    blows: list[Blow] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """What a reader saw after a kill and may not see."""
    stopped: list[str] = field(default_factory=list)
    """Runs that ended as they should not."""
    differences: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    """Files beside the store or in it."""
    temporary: list[str] = field(default_factory=list)
    """Files in the folder of temporary files."""
    orphans: list[str] = field(default_factory=list)
    """Processes."""

    @property
    def amiss(self) -> tuple[str, ...]:
        """Kinds of what was found, of `AMISS`."""
        return tuple(kind for kind in AMISS if getattr(self, kind))


def drawn(number: int, seed: int, folder: Path) -> tuple[Case, int, list[Blow]]:
    """Case, workers and blows of round `number`: a function of number and seed, but for measured times.

    Workers cost more than they tell: some of the rounds do without.
    """
    rng = np.random.default_rng([seed, number])
    often = np.array([OFTEN if case.operation in ("ingest", "append", "retry", "repair") else 1 for case in CASES])
    case = CASES[rng.choice(len(CASES), p=often / often.sum())]
    workers = int(rng.choice([0, 1, 2, 4], p=[0.3, 0.25, 0.25, 0.2])) if case.parallel else 0
    return case, workers, drawn_blows(rng, stage(case, folder), workers)


def play(outcome: Outcome, stage: Stage, home: Path, blows: Sequence[Blow]) -> Outcome:
    """Run the operation under each blow in turn until it ends, then without; look at what is left.

    Parameters
    ----------
    outcome
        Of this round; what is found is added to it.
    home
        New folder of this round.
    """
    store, temporary = copy_store(stage.start, home / "out"), home / "tmp"
    command = outcome.case.arguments(stage.raw, store, outcome.workers)
    sessions = set()
    for number, blow in enumerate([*blows, None]):
        given: dict[str, Any] = outcome.case.orders | (blow.orders if blow else {})
        run = Run(command, home / f"run-{number}", temporary, given)
        sessions.add(run.process.pid)
        kill = strike(run, blow) if blow else None
        code = run.finish()
        if blow is not None:
            outcome.blows.append(blow)
        if kill is not None:
            outcome.kills.append(kill)
            outcome.unreadable += amiss(store, stage)
        if code in _ends(outcome, stage):
            break
        if blow is None or code not in (-blow.signal, STOPPED):
            outcome.stopped.append(f"exit {code}: {run.printed}")
    outcome.orphans += _orphans(sessions)
    outcome.differences += differences(store, stage)
    outcome.leftovers += leftovers(store, stage)
    outcome.temporary += sorted(names(temporary))
    return outcome


def _ends(outcome: Outcome, stage: Stage) -> set[int]:
    """Exit codes of a run that is done; an array that was added just before the kill is refused as already there."""
    return {stage.code, USAGE} if outcome.case.operation == "derive" and outcome.kills else {stage.code}


def _orphans(sessions: Collection[int]) -> list[str]:
    """Processes of killed runs that do not see that they are alone; they are ended."""
    latest = time.monotonic() + PATIENCE_SECONDS
    while left := list(alive(sessions)):
        if time.monotonic() > latest:
            for process in left:
                process.kill()
            return [f"process {process.pid} still ran" for process in left]
        time.sleep(0.1)
    return []
