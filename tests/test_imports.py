"""What importing costs: nothing heavy is loaded before it is used, and the public names are those that are meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("zarr", "torch", "dask", "xarray", "distributed", "numba", "trimesh", "h5py", "matplotlib")


def loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh process has loaded after running `code`."""
    report = f"import sys; print('LOADED', *(n for n in {HEAVY!r} if n in sys.modules))"
    command = [sys.executable, "-W", "error", "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "module",
    ["shapestore", "shapestore.errors", "shapestore.schemas.recipe_schema", "shapestore.store.reader"],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


def test_every_schema_module_loads_nothing_heavy() -> None:
    code = (
        "import importlib, pkgutil, shapestore.schemas as s\n"
        "for m in pkgutil.walk_packages(s.__path__, 'shapestore.schemas.'): importlib.import_module(m.name)"
    )
    assert loaded_after(code) == set()


def test_first_use_loads_the_reader_and_not_before() -> None:
    code = "import sys, shapestore; assert 'shapestore.store.reader' not in sys.modules; shapestore.open"
    assert loaded_after(f"{code}; assert 'shapestore.store.reader' in sys.modules") == set()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from shapestore.cli import main\n"
        "sys.argv = ['shapestore', '--help']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )
    assert loaded_after(code) == set()


def test_public_names() -> None:
    import shapestore

    assert sorted(shapestore.__all__) == ["Store", "__version__", "open"]
    for name in shapestore.__all__:
        assert getattr(shapestore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        shapestore.opne  # noqa: B018
