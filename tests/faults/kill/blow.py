"""Blows: when a run is killed, what of it, and by which signal."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals
from subprocess import TimeoutExpired
from typing import NamedTuple

import numpy as np
import psutil
from numpy.random import Generator

from tests.faults.kill.armed.sitecustomize import COORDINATOR, STRUCK
from tests.faults.kill.run import STOPPED, Run
from tests.faults.kill.stage import Stage

MOST_KILLS = 6
"""Runs of one round that are to be killed; after each the round goes on to the next with probability `AGAIN`."""

AGAIN = 0.9

MOST_WORKERS = 4

SIGNALS, SIGNAL_SHARES = (SIGKILL, SIGTERM, SIGINT, SIGHUP), (0.85, 0.05, 0.05, 0.05)
"""What coordinators and process groups are killed by; workers are by SIGKILL alone."""

CLUSTER_SECONDS = 4.0
"""What a local cluster adds to the time of a run, at most about."""

GLANCE_SECONDS = 0.002
"""How often to look whether a run has begun."""


class Blow(NamedTuple):
    """When a run is killed, and what of it."""

    victim: str
    """`coordinator`; its process `group`; a `worker`; at a step also `itself`, whoever reaches it."""
    step: str | None = None
    occurrence: int = 0
    """Of the step, from 1; where there is none: which worker."""
    seconds: float = 0.0
    """Where there is no step: time after the lock was taken."""
    signal: Signals = SIGKILL

    @property
    def orders(self) -> dict[str, object]:
        """What the run itself is told."""
        return self._asdict() if self.step else {}


class Kill(NamedTuple):
    """A blow that hit a running operation."""

    victim: str
    """`coordinator`, `group` or `worker`."""
    step: str
    """The step, or `random moment`."""
    signal: str


def drawn_blows(rng: Generator, stage: Stage, workers: int, most: int = MOST_KILLS) -> list[Blow]:
    """One to `most` blows, at steps or at any moment.

    They fall on the operation's way at uniform places, in order: a run goes on where the last one was killed.
    """
    count = 1 + int(np.argmin([*(rng.random(most - 1) < AGAIN), False]))
    ways = np.diff(np.sort(rng.random(count)), prepend=0.0)
    return [_drawn_blow(rng, stage, workers, way) for way in ways]


def _drawn_blow(rng: Generator, stage: Stage, workers: int, way: float) -> Blow:
    """A blow after this share of the operation."""
    victims = ["coordinator", "group"]
    if rng.random() < 0.5:
        # Each step is as likely as any other: there are few commits beside many rows and files.
        step = str(rng.choice(sorted(stage.steps)))
        blow = Blow(str(rng.choice([*victims, "itself"])), step, 1 + int(way * stage.steps[step]))
    else:
        victim = str(rng.choice([*victims, "worker"] if workers else victims))
        seconds = way * stage.seconds + rng.uniform(0, CLUSTER_SECONDS * bool(workers))
        blow = Blow(victim, None, int(rng.integers(MOST_WORKERS)), seconds)
    number = Signals(rng.choice(SIGNALS, p=SIGNAL_SHARES))
    return blow._replace(signal=number) if blow.victim in victims else blow


def strike(run: Run, blow: Blow) -> Kill | None:
    """Deal a blow and wait for the end of the run; returns what was killed, or None where it had ended before."""
    if blow.step is None:
        return _strike_later(run, blow)
    code = run.finish()
    if not (run.home / STRUCK).exists():
        return None
    struck, coordinator = (int((run.home / name).read_text()) for name in (STRUCK, COORDINATOR))
    victim = blow.victim
    if victim == "itself":
        victim = "coordinator" if struck == coordinator else "worker"
    hit = victim == "worker" or code in (-blow.signal, STOPPED)
    return Kill(victim, blow.step, blow.signal.name) if hit else None


def _strike_later(run: Run, blow: Blow) -> Kill | None:
    """Wait until the run holds the lock, then for the moment."""
    while not run.begun and run.process.poll() is None:
        time.sleep(GLANCE_SECONDS)
    with suppress(TimeoutExpired):
        run.process.wait(blow.seconds)
        return None
    if blow.victim == "worker":
        hit = _kill_worker(run.process.pid, blow.occurrence)
        run.finish()
    else:
        with suppress(ProcessLookupError):
            (os.killpg if blow.victim == "group" else os.kill)(run.process.pid, blow.signal)
        hit = run.finish() in (-blow.signal, STOPPED)
    return Kill(blow.victim, "random moment", blow.signal.name) if hit else None


def _kill_worker(coordinator: int, number: int) -> bool:
    """Kill one of the workers; returns whether there was one."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(coordinator).children()
        workers = [child for child in children if any("spawn_main" in part for part in child.cmdline())]
        if workers:
            workers[number % len(workers)].kill()
            return True
    return False
