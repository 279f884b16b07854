"""Stores that many tests read and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.data.stores import write_store


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 rows in four row groups, row 4 empty, row 7 without a point inside."""
    return write_store(tmp_path_factory.mktemp("stores") / "one.zarr")


@pytest.fixture(scope="session")
def other_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 other shapes with the same arrays, some with the same ids."""
    return write_store(tmp_path_factory.mktemp("stores") / "two.zarr", rows=11, failed=(), salt=1)
