"""One small store for all tests of the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.toy import make_store


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of twenty shapes."""
    return make_store(tmp_path_factory.mktemp("toy") / "toy.zarr")
