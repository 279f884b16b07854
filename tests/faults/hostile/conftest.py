from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.hostile.child import Child


@pytest.fixture(scope="session")
def child() -> Iterator[Child]:
    """A process with little memory, in which every source has run once."""
    started = Child()
    yield started
    started.close()
