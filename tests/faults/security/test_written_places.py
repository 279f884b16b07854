"""Nothing is written outside of the store, the folder beside it, and what the user named: caches are listed here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

import shapestore
from demo.raw import write_shapenet

AUDIT = Path(__file__).parent / "audit"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Places:
    """Where a run of commands may write, and where it must not."""

    folder: Path
    log: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def store(self) -> Path:
        return self.folder / "stores" / "s.zarr"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, *arguments: object, codes: Iterable[int] = (0,)) -> None:
        """Run a command, writing down every change of a file system."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "MPL", "NUMBA_", "DASK_", "PYTHON"))
        }
        environment |= {
            "PYTHONPATH": f"{AUDIT}{os.pathsep}{Path(shapestore.__file__).parents[1]}",
            "AUDIT_LOG": str(self.log),
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "shapestore", *map(str, arguments)],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode in codes, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"

    def changes(self) -> list[tuple[str, Path]]:
        """Every event with its path."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines())
        return [(event, Path(path)) for event, path, _ in lines]

    def allowed(self, path: Path) -> bool:
        """Whether docs/security.md names the place."""
        of_ours = (self.store, self.store.with_name("s.zarr.ingest"), self.out, self.folder / "tmp")
        caches = (
            self.home / ".cache" / "matplotlib",
            self.home / ".config" / "matplotlib",
            self.home / ".config" / "dask",
        )
        compiled = path.name == "__pycache__" or "__pycache__" in path.parts
        system = path == Path("/dev/null") or path.parent == Path("/dev/shm")  # noqa: S108
        above = {parent for place in caches for parent in place.parents}
        return (
            compiled
            or system
            or any(path == each or each in path.parents for each in (*of_ours, *caches))
            or path in above
        )


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """All commands that write, one after another."""
    folder = tmp_path_factory.mktemp("places")
    made = Places(folder, tmp_path_factory.mktemp("log") / "audit.log")
    for name in ("home", "stores", "out", "tmp"):
        (folder / name).mkdir()
    raw = write_shapenet(made.raw, models_per_class=2)
    broken = raw / "03001627" / "broken" / "models" / "model_normalized.obj"
    broken.parent.mkdir(parents=True)
    broken.write_text("v 0 0 0\n")
    small = ("--recipe", "points", "--set", "points.count=256", "--set", "points.fps_order=0")
    store, out = made.store, made.out
    made.run("ingest", "shapenet", raw, store, *small, "--workers", 2, codes=(4,))
    first = shapestore.open(store).index("shape_id")[shapestore.open(store).rows()[0]]
    made.run("validate", store, "--raw", raw, "--report", out / "r.html", "--workers", 0, codes=(0, 3))
    made.run("split", store, "fold", "--parts", "a=0.5,b=0.5")
    made.run("derive", store, "pc_fps_order", "--workers", 0)
    file = raw / shapestore.open(store).index("source")[shapestore.open(store).row_of(first)]
    file.write_text(file.read_text().replace("v ", "v 0", 1))
    made.run("rebuild", store, first, "--write")
    made.run("show", store, first, "--picture", out / "p.png")
    made.run("export", store, out / "npz")
    shutil.rmtree(broken.parents[1])
    made.run("quarantine", store, "--retry", raw, codes=(0, 4))
    return made


def test_every_change_of_a_file_lies_in_a_place_that_is_named(places: Places) -> None:
    outside = sorted({(event, str(path)) for event, path in places.changes() if not places.allowed(path)})
    assert outside == []


def test_the_log_holds_what_was_written(places: Places) -> None:
    """If it did not, the law above would hold of nothing."""
    written = {path for _, path in places.changes()}
    assert places.store / "zarr.json" in written
    assert places.store.with_name("s.zarr.ingest") / "lock" in written
    assert any("derive-" in path.name or path.name.startswith("part-") for path in written)
    assert any(places.out / "npz" in path.parents for path in written)
    assert places.out / "r.html" in written


def test_nothing_of_ours_is_left_in_the_temporary_folder(places: Places) -> None:
    """Dask keeps the locks of its scratch space."""
    left = {path.relative_to(places.folder / "tmp") for path in (places.folder / "tmp").rglob("*")}
    assert {path.name for path in left} <= {"dask-scratch-space", "global.lock", "purge.lock"}


def test_raw_files_are_only_read(places: Places) -> None:
    assert not [path for _, path in places.changes() if places.raw in path.parents or path == places.raw]
