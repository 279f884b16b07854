"""Fixtures that every test room shares."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

collect_ignore = [] if find_spec("torch") else ["train", "evaluate"]
"""All of these tests need torch; the run on a newer Python does without it."""

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


settings.register_profile("shapestore", deadline=None)  # no time decides a test
settings.load_profile("shapestore")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip what needs torch where it is not installed, as in the run on a newer Python."""
    del item
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if error.name == "torch":
            pytest.skip("needs torch, which is not installed here")
        raise


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real raw files that lies beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA
