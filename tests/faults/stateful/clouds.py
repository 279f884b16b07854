"""A source whose shapes are made from one line of text, and what every row of it must be."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.compute import Job, compute_row
from shapestore.preprocess.derivations import declare
from shapestore.preprocess.plan import PlannedItem
from shapestore.preprocess.raw import RawCloud
from shapestore.preprocess.source import Discovery, Source, SourceItem
from shapestore.quality.gates import Gates
from shapestore.schemas.recipe import Input, Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.store.entries import RowEntry

KIND = "clouds"
"""Name under which the source is installed."""

RECIPE = """
name: clouds
input: [cloud]
seed: 1
points: {count: 32, normals: false, fps_order: 0}
queries: {count: 16, distance: cloud, cloud_distance: false, grid_distance: false, fps_order: 0}
"""

DERIVABLE = ("pc_fps_order", "pt_fps_order", "pt_dist_pc_pool")
"""Arrays that can be added to a store of this recipe."""

NAMES = tuple(f"{letter}{number}" for letter in "abcdefg" for number in "01")
"""Every shape that there may be. Those of one letter are variants of one object."""

SOUND, BROKEN = ("cloud 0", "cloud 1", "cloud 2"), ("broken 0", "broken 1")
"""What a raw file may say. Few, so that files come back to what they were."""


def text_of(name: str, content: str) -> str:
    """The file of a shape: no two shapes have the same."""
    return f"{name} is {content}"


def item_of(name: str) -> SourceItem:
    """What is known of a shape by its name."""
    letter = name[0]
    return SourceItem(name, name, letter, "chair" if letter < "d" else "table", "test" if letter in "cf" else "train")


class Clouds(Source):
    """One file a shape."""

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        return Discovery(tuple(item_of(file.name) for file in root.iterdir()))

    def inputs(self, root: Path) -> frozenset[Input]:
        return frozenset({"cloud"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawCloud:
        text = (root / item.path).read_text()
        if not text.endswith(SOUND):
            raise InputRefused(Reason.TOO_FEW_POINTS, text)
        return RawCloud(np.random.default_rng([*text.encode()]).normal(size=(40, 3)))


def install(site: Path) -> None:
    """Write what makes a folder on the path say that the source is installed."""
    info = site / "clouds-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clouds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[shapestore.sources]\n{KIND} = {__name__}:Clouds\n")


class Computed(NamedTuple):
    """A row as it must be."""

    entry: RowEntry
    arrays: dict[str, bytes]
    """Every array that a store may have, derived ones too; none where the row is refused."""


class Truth:
    """Rows, each computed once by itself: they depend on recipe, id and file alone.

    Parameters
    ----------
    folder
        Where to put raw files.
    """

    def __init__(self, folder: Path) -> None:
        self._raw = folder / "alone"
        self._raw.mkdir()
        (folder / "recipe.yaml").write_text(RECIPE)
        recipe = load_recipe(str(folder / "recipe.yaml"))
        schema = schema_of(recipe)
        for name in DERIVABLE:
            schema = declare(schema, name)
        self._job = Job(folder, folder, self._raw, KIND, recipe, schema, 1, Gates(recipe, KIND))
        self.computed: Any = lru_cache(maxsize=None)(self._computed)

    def _computed(self, name: str, content: str | None) -> Computed:
        """The row of a shape whose file says `content`; None: is not there."""
        path = self._raw / name
        if content is not None:
            path.write_text(text_of(name, content))
        entry, record = compute_row(self._job, PlannedItem(0, item_of(name)))
        path.unlink(missing_ok=True)
        return Computed(entry, {key: value.tobytes() for key, value in record.arrays.items()} if record else {})
