"""What is run and killed: operations on small stores of three recipes, from raw files of three kinds."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.raw import write_hearts, write_shapenet

Files = Mapping[str, bytes]
"""Raw files by their path; each is one item."""


@dataclass(frozen=True)
class Recipe:
    """A recipe made small, and raw files for it."""

    source: str
    settings: Mapping[str, object]
    write: Callable[[], Files]
    touch: Callable[[bytes], bytes]
    """Another file of the same shape."""
    rows_per_shard: int
    derived: str | None = None
    """An array that can be added."""


def _read(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob(pattern))}


def _meshes() -> Files:
    return {f"{number:02d}.obj": data for number, data in enumerate([*_shapenet(4).values()][:13])}


def _shapenet(models_per_class: int = 2) -> Files:
    with TemporaryDirectory() as folder:
        return _read(write_shapenet(Path(folder), models_per_class), "*.obj")


def _hearts() -> Files:
    with TemporaryDirectory() as folder:
        return _read(write_hearts(Path(folder), cases=6, size=24), "*.nii.gz")


def _with_comment(data: bytes) -> bytes:
    return data + b"# the same shape\n"


def _packed_anew(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data), compresslevel=1, mtime=1)


RECIPES: Mapping[str, Recipe] = {
    "points": Recipe(
        "meshes", {"points.count": 256, "points.fps_order": 0}, _meshes, _with_comment, 4, derived="pc_fps_order"
    ),
    "nepa-shapenet": Recipe(
        "shapenet",
        {
            "points.count": 256,
            "points.fps_order": 64,
            "queries.count": 512,
            "queries.fps_order": 0,
            "grid.size": 16,
            "rays.count": 200,
            "rays.views": 4,
            "rays.rays_per_view": 50,
        },
        _shapenet,
        _with_comment,
        2,
        derived="pt_fps_order",
    ),
    "cardiac-sdf": Recipe(
        "cardiac",
        {
            "surface.count": 400,
            "surface.per_class_minimum": 10,
            "volume.count": 400,
            "volume.per_class_minimum": 10,
            "near.count": 400,
        },
        _hearts,
        _packed_anew,
        2,
    ),
}


@dataclass(frozen=True)
class Case:
    """An operation on a store of a recipe: what it starts from, and the command."""

    operation: str
    recipe: str

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of the program but for the number of workers, with {raw} and {store} to be filled in."""
        recipe = RECIPES[self.recipe]
        new = ["--recipe", self.recipe]
        for name, value in recipe.settings.items():
            new += ["--set", f"{name}={value}"]
        ingest = ("ingest", recipe.source, "{raw}", "{store}")
        return {
            "ingest": (*ingest, *new),
            "append": ingest,
            "retry": (*ingest, "--retry"),
            "rebuild": (*ingest, "--rebuild"),
            "rebuild-write": ("rebuild", "{store}", "--all", "--raw", "{raw}", "--write"),
            "derive": ("derive", "{store}", recipe.derived or ""),
            "repair": ("repair", "{store}", "--raw", "{raw}"),
            "split": ("split", "{store}", "fold", "--parts", "train=0.5,test=0.5", "--replace"),
        }[self.operation]

    @property
    def raw_before(self) -> Files:
        """The raw files of the store at the start; for a new one, those that it is made of."""
        files, keys, group = raw_files(self.recipe), [*raw_files(self.recipe)], RECIPES[self.recipe].rows_per_shard
        broken = dict.fromkeys((keys[1], keys[group + 1]), b"# no shape\n")
        if self.operation == "append":  # leaves the last row group partly filled
            return {key: (files | broken)[key] for key in keys[: 2 * group - 1]}
        return files | broken

    @property
    def raw(self) -> Files:
        """The raw files that the operation meets."""
        files, keys, group = raw_files(self.recipe), [*raw_files(self.recipe)], RECIPES[self.recipe].rows_per_shard
        before = Case("ingest", self.recipe).raw_before
        if self.operation == "retry":  # one can be read now; the other fails for another reason, in a group of its own
            return {**before, keys[1]: files[keys[1]], keys[group + 1]: b"v 1 nonsense\n"}
        if self.operation.startswith("rebuild"):  # another shape; and the same shape in other bytes
            touch = RECIPES[self.recipe].touch
            return {**before, keys[0]: files[keys[1]], keys[2 * group]: touch(files[keys[2 * group]])}
        return before

    def arguments(self, raw: Path, store: Path, workers: int) -> list[str]:
        """Arguments of the program."""
        filled = [part.format(raw=raw, store=store) for part in self.command]
        return [*filled, "--workers", str(workers)] if self.parallel else filled

    @property
    def orders(self) -> dict[str, object]:
        """Orders for `armed.sitecustomize` that strike nobody."""
        return {"rows_per_shard": RECIPES[self.recipe].rows_per_shard}

    @property
    def parallel(self) -> bool:
        """Whether the operation runs on workers."""
        return self.operation != "split"


@cache
def raw_files(recipe: str) -> dict[str, bytes]:
    """Raw files of a recipe, all of them good, by path."""
    return dict(RECIPES[recipe].write())


OPERATIONS = ("ingest", "append", "retry", "rebuild", "rebuild-write", "repair", "derive", "split")

CASES = tuple(
    Case(operation, name)
    for operation in OPERATIONS
    for name, recipe in RECIPES.items()
    if operation != "derive" or recipe.derived
)


def write_raw(folder: Path, files: Files) -> Path:
    """Write raw files."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
