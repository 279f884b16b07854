"""Two ingest commands on one new store: one works, and the store is that of a lone run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pytest

from shapestore.store.layout import work_folder
from tests.faults.kill.warm import server
from tests.integration.conftest import SMALL, environment, raw_meshes, tree_digest
from tests.warm import WarmProcess

__all__ = ["raw_meshes"]

PATIENCE = 120.0
"""Seconds after which a command counts as blocked."""


class Ingest(NamedTuple):
    """A command that runs."""

    process: WarmProcess
    printed: Path


def start(raw: Path, store: Path, name: str) -> Ingest:
    """Begin to ingest, in a process of its own."""
    settings = [argument for each in SMALL for argument in ("--set", each)]
    command = ["ingest", "meshes", str(raw), str(store), "--recipe", "points", *settings, "--workers", "0"]
    printed = store.with_name(f"{store.name} {name}.txt")
    return Ingest(server().start(command, environment(), printed, printed), printed)


def outcome(ingest: Ingest) -> str:
    """Which of the ends that are allowed the command came to."""
    code = ingest.process.wait(PATIENCE)
    text = " ".join(ingest.printed.read_text().split())
    if code == 0:
        return "nothing to do" if "nothing to do" in text else "done"
    if code == 2 and "is being written to by process" in text:
        return "locked"
    if "was changed by another writer just now" in text:
        return "changed"
    raise AssertionError(f"exit {code}: {text}")


@pytest.fixture(scope="module")
def alone(raw_meshes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """Digests of the store of a run that nobody disturbs, and the seconds that it takes."""
    store = tmp_path_factory.mktemp("alone") / "s.zarr"
    ingest = start(raw_meshes, store, "alone")
    started = time.monotonic()
    assert outcome(ingest) == "done"
    return tree_digest(store), time.monotonic() - started


@pytest.mark.parametrize("rounds", [6])
def test_two_ingests_make_the_store_of_one(
    raw_meshes: Path,
    alone: tuple[dict[str, str], float],
    tmp_path: Path,
    rounds: int,
) -> None:
    """The second begins with the first, or somewhat later, until it begins as the first one ends."""
    digests, seconds = alone
    for number in range(rounds):
        store = tmp_path / f"{number}.zarr"
        first = start(raw_meshes, store, "first")
        time.sleep(seconds * number / rounds)
        second = start(raw_meshes, store, "second")
        ends = [outcome(first), outcome(second)]
        assert "done" in ends, f"round {number}: {ends}"
        assert not work_folder(store).exists()
        assert tree_digest(store) == digests
