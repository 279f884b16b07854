"""A few hundred damaged inputs of every source; `python -m tests.faults.hostile.fuzz` runs more of them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.faults.hostile.child import CRASH, FAULTS, HANG, OVER_MEMORY, VALID, Child, Outcome
from tests.faults.hostile.corpus import cases
from tests.faults.hostile.fuzz import Tally, compute_input, fuzz, input_of
from tests.faults.hostile.mutate import FORMS, mutated

INPUTS = 250


def test_damaged_inputs_are_quarantined_or_right(child: Child) -> None:
    tally = Tally(None, seed=0)
    with ThreadPoolExecutor(1) as pool:
        fuzz(tally, INPUTS, lambda number: child.run(compute_input, 0, number, child.scratch), pool)
    assert not tally.faults, "\n".join(str(fault["detail"]) for fault in tally.faults)
    results = {result for row in tally.sources.values() for result in row["results"]}
    assert VALID in results  # the damage is not so large that all is refused at once
    assert len(tally.sources) == 6
    assert len(results) >= 8


def test_undamaged_files_are_no_faults(child: Child) -> None:
    results = [outcome.results for outcome in child.undamaged]
    assert not [each for each in results if set(each) & set(FAULTS)]
    assert sum(set(each) == {VALID} for each in results) > len(results) / 2


def test_a_number_is_the_same_input_in_every_run() -> None:
    for number in range(30):
        (case, files), (again, once_more) = input_of(5, number), input_of(5, number)
        assert case is again
        assert files == once_more


@pytest.mark.parametrize("form", FORMS)
def test_most_damage_changes_the_file(form: str) -> None:
    alike = [case for case in cases() if case.form == form]
    rng = np.random.default_rng(0)
    contents = [case.files[case.target] for case in alike]
    changed = [mutated(rng, form, content, contents[0]) != content for content in contents * (60 // len(contents) + 1)]
    assert np.mean(changed) > 0.7


def die() -> Outcome:
    os.abort()


def sleep() -> Outcome:
    time.sleep(60)
    return Outcome((VALID,), "")


def devour() -> Outcome:
    try:
        np.ones(4 << 30, np.uint8)
    except MemoryError:
        return Outcome((OVER_MEMORY,), "")
    return Outcome((VALID,), "")


@pytest.mark.slow
def test_a_death_a_hang_and_hunger_are_seen() -> None:
    child = Child(seconds=2, sources=frozenset())  # what it runs here needs nothing of the package
    try:
        assert child.run(die).results == (CRASH,)
        assert child.run(sleep).results == (HANG,)
        assert child.run(devour).results == (OVER_MEMORY,)
    finally:
        child.close()


def test_a_tally_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "tally.json"
    ran = []

    def run(number: int) -> Outcome:
        ran.append(number)
        return Outcome((HANG,) if number == 3 else (VALID,), "", peak=float(number), seconds=0.1)

    with ThreadPoolExecutor(1) as pool:
        for inputs in (60, 100):
            tally = Tally(state, seed=0)
            fuzz(tally, inputs, run, pool)
    assert ran == list(range(100))
    assert sum(row["inputs"] for row in tally.sources.values()) == 100
    assert max(row["peak MiB"] for row in tally.sources.values()) == 99
    assert [fault["number"] for fault in tally.faults] == [3]
    assert "all: 100 inputs, 0 error, 0 crash, 1 hang, 0 over memory" in tally.table()
    case, files = input_of(0, 3)
    kept = tmp_path / "tally.json.faults" / "3" / Path(case.target).name
    assert kept.read_bytes() == files[case.target]
