"""Small raw folders, and ways to run and compare real ingests."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from demo.raw import write_shapenet

SMALL = ("points.count=256", "points.fps_order=64")
"""Settings that make the `points` recipe fast."""

Program = Callable[..., subprocess.CompletedProcess[str]]


def tree_digest(store: Path) -> dict[str, str]:
    """Sha256 of every file of a store but those of `provenance`, by path."""
    return {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.relative_to(store).parts[0] != "provenance"
    }


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a program under test: plain output, warnings are errors."""
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **(extra or {})}


@pytest.fixture
def program() -> Program:
    """Runs the command line in a process of its own."""

    def run(
        *arguments: object, env: Mapping[str, str] | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shapestore", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(env), check=False, timeout=300)
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def raw_meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ShapeNet tree of 12 small meshes."""
    return write_shapenet(tmp_path_factory.mktemp("raw"), models_per_class=3)
