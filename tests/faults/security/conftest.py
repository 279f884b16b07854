"""One sound store that tests copy and do harm in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.conftest import build


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 21 rows in 3 row groups, rows 3 and 9 quarantined."""
    return build(tmp_path_factory.mktemp("sound") / "s.zarr").path
