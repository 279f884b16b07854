"""ModelNet40 in three of its published layouts: OFF meshes, resampled clouds in text, clouds in HDF5."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar, Final, Literal

from shapestore.errors import UsageError
from shapestore.preprocess.formats.mesh_file import read_mesh
from shapestore.preprocess.raw import RawCloud, RawMesh
from shapestore.preprocess.source import (
    Discovery,
    Source,
    SourceItem,
    kind_of,
    list_folder,
    raw_path,
    refuse_repeats,
    safe_id,
    walk_files,
)
from shapestore.preprocess.sources.modelnet40_h5 import discover_h5, is_h5_layout, read_h5_row
from shapestore.preprocess.sources.modelnet40_text import discover_text, is_text_layout, read_text_cloud
from shapestore.schemas.recipe import Input, Recipe

_SPLITS: Final = ("train", "test")

Layout = Literal["off", "text", "h5"]


class ModelNet40(Source):
    """Class folders of OFF meshes, `modelnet40_normal_resampled`, or `modelnet40_ply_hdf5_2048`.

    What the folder holds decides. Ids are `<class>/<name>` wherever the names of the models are known, so that one
    model has one id in all layouts. Every model is a group of its own. The default recipe is for the meshes; clouds
    need a recipe that takes them.
    """

    recipe: ClassVar[str] = "nepa-modelnet40"

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """Find all models, by folders or by the lists of the layout."""
        del recipe
        layout = _layout(root)
        discovery = {"off": _discover_off, "text": discover_text, "h5": discover_h5}[layout](root)
        refuse_repeats(discovery.items)
        return discovery

    def inputs(self, root: Path) -> frozenset[Input]:
        """Meshes of the OFF tree, clouds of the other layouts."""
        return frozenset({"mesh"}) if _layout(root) == "off" else frozenset({"cloud"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawMesh | RawCloud:
        """Read one model; refuses as `raw_path` and the reader of its format."""
        del recipe
        path = raw_path(root, item)
        suffix = kind_of(item.path)
        if suffix == ".off":
            return RawMesh(*read_mesh(path))
        return read_text_cloud(path) if suffix == ".txt" else read_h5_row(path, item)


def _layout(root: Path) -> Layout:
    """Which layout the folder has.

    Raises
    ------
    UsageError
        None or several.
    """
    top = list_folder(root, root)
    found: list[Layout] = []
    if any((root / name / split).is_dir() for name in top.folders for split in _SPLITS):
        found.append("off")
    if is_text_layout(top.files):
        found.append("text")
    if is_h5_layout(top.files):
        found.append("h5")
    if len(found) == 1:
        return found[0]
    expected = "<class>/<train|test>/<name>.off, or modelnet40_{train,test}.txt, or ply_data_{train,test}*.h5"
    names = [f"{name}/" for name in top.folders] + list(top.files)
    got = f"several layouts ({', '.join(found)})" if found else ", ".join(names[:5]) or "nothing"
    raise UsageError(f"{root}: expected one layout of ModelNet40 ({expected}), found {got}. Give the folder of one.")


def _discover_off(root: Path) -> Discovery:
    """`<class>/<train|test>/<name>.off`."""
    walk = walk_files(root)
    items: list[SourceItem] = []
    ignored = Counter(walk.ignored)
    for path in walk.files:
        parts = path.split("/")
        if kind_of(path) != ".off":
            ignored[kind_of(path)] += 1
        elif len(parts) != 3 or parts[1] not in _SPLITS:
            ignored[".off outside of <class>/train and <class>/test"] += 1
        else:
            category, split, file = parts
            shape_id = safe_id(f"{category}/{Path(file).stem}")
            items.append(SourceItem(shape_id, path, group=shape_id, category=category, split=split))
    if not items:
        raise UsageError(f"{root}: expected <class>/<train|test>/<name>.off, found such folders but no OFF file.")
    return Discovery(tuple(items), dict(sorted(ignored.items())), ("split: the folders train and test",))
