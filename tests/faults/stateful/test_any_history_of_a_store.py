"""Whatever is done to a store in whatever order, killed anywhere or damaged, it is what a plain model says it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from shapestore.preprocess import job
from shapestore.schemas import store_schema
from tests.faults.damage.stores import small_index_chunks
from tests.faults.stateful import clouds, model
from tests.faults.stateful.clouds import BROKEN, NAMES, SOUND, Truth
from tests.faults.stateful.machine import AnyHistory

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("stateful")
    clouds.install(folder / "site")
    with pytest.MonkeyPatch.context() as patch, small_index_chunks():
        patch.setattr(store_schema, "MAX_ROWS_PER_SHARD", model.ROWS_PER_SHARD)
        patch.setattr(job, "COMMIT_SECONDS", 0.0)  # each row group is a commit of its own
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.syspath_prepend(str(folder / "site"))
        AnyHistory.folder, AnyHistory.truth = folder, Truth(folder)
        for name, content in product(NAMES, (*SOUND, *BROKEN, None)):
            AnyHistory.truth.computed(name, content)  # no child is to compile kernels
        yield


EXAMPLES = int(os.environ.get("SHAPESTORE_EXAMPLES", "12"))
"""Histories of the slow test: some for every run, as many as one likes for a night."""


@pytest.mark.parametrize("examples", [4, pytest.param(EXAMPLES, marks=pytest.mark.slow)], ids=["some", "many"])
def test_a_store_is_what_its_history_says_whatever_it_is(examples: int) -> None:
    run_state_machine_as_test(
        AnyHistory,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
