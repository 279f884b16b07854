"""ShapeNetCore, versions 1 and 2."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from shapestore.errors import UsageError
from shapestore.preprocess.formats.mesh_file import read_mesh
from shapestore.preprocess.raw import RawMesh
from shapestore.preprocess.source import (
    LINK_OUT,
    Discovery,
    Source,
    SourceItem,
    is_below,
    kind_of,
    list_folder,
    raw_path,
    safe_id,
    storable,
)
from shapestore.preprocess.sources.hash_split import hash_split
from shapestore.preprocess.sources.name_list import refuse_no_list
from shapestore.schemas.recipe import Input, Recipe

_SYNSET: Final = re.compile(r"[0-9]{8}")
_RELEASES: Final = ("ShapeNetCore.v1", "ShapeNetCore.v2")
_V1: Final = "model.obj"
_V2: Final = "models/model_normalized.obj"
_CSV: Final = "all.csv"
_COLUMNS: Final = ("synsetId", "modelId", "split")

Key = tuple[str, str]
"""Synset and model."""


class ShapeNet(Source):
    """`<synset>/<model>/models/model_normalized.obj` of version 2, `<synset>/<model>/model.obj` of version 1.

    The root is the folder that holds the synsets, or one that holds it under its published name. Ids are
    `<synset>/<model>`, categories are the synsets. ShapeNet lists some models under several synsets, so the model id
    alone is the group. The split is that of `all.csv` where it lies in the folder of synsets or beside it, else
    `hash_split` over the models that have an OBJ.
    """

    recipe: ClassVar[str] = "nepa-shapenet"

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """Find all model folders; those without an OBJ are items too, to be quarantined."""
        home = _home(root)
        found = _find_models(home, root)
        if not found.models:
            raise UsageError(f"{home}: the synset folders are empty; expected <synset>/<model>/{_V2} or .../{_V1}.")
        listed = _split_file(home)
        if listed is None:
            splits, notes = _hash_splits(found.models, recipe)
        else:
            splits, notes = _listed_splits(found.models, listed)
        prefix = home.relative_to(root).as_posix()
        # A model without OBJ should have it where the others have theirs.
        usual = _V1 if _V1 in found.models.values() and _V2 not in found.models.values() else _V2
        items = tuple(_item(key, prefix, mesh or usual, splits) for key, mesh in found.models.items())
        return Discovery(items, found.ignored, (*notes, *_remarks(found, items)))

    def inputs(self, root: Path) -> frozenset[Input]:
        """Meshes."""
        del root
        return frozenset({"mesh"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawMesh:
        """Read the OBJ of one model; refuses as `read_mesh` and `raw_path`."""
        del recipe
        return RawMesh(*read_mesh(raw_path(root, item)))


def _home(root: Path) -> Path:
    """The folder that holds the synsets: the root itself, or a release in it."""
    top = list_folder(root, root)
    folders = top.folders
    if any(_SYNSET.fullmatch(name) for name in folders):
        return root
    releases = [name for name in folders if name in _RELEASES]
    if len(releases) > 1:
        raise UsageError(f"{root} holds {' and '.join(releases)}: give one of them, they hold the same models.")
    if not releases:
        shown = ", ".join([*folders[:5], *(["..."] if folders[5:] else [])]) or "no folder"
        shown += " (links out of the folder are not followed)" if LINK_OUT in top.ignored else ""
        raise UsageError(
            f"{root}: expected synset folders named by 8 digits such as 03001627, or ShapeNetCore.v2 with such, "
            f"found {shown}. Unpack the zip files of the synsets if they are still packed."
        )
    return root / releases[0]


@dataclass(frozen=True)
class _Found:
    models: Mapping[Key, str | None]
    """Model to the OBJ in its folder, None where it has none; sorted."""
    ignored: Mapping[str, int]


def _find_models(home: Path, root: Path) -> _Found:
    """Look into every synset folder; the files of a model beside its OBJ are not even listed, they are many."""
    top = list_folder(home, root)
    ignored = _ignored_around(home, root)
    models: dict[Key, str | None] = {}
    for synset in filter(_SYNSET.fullmatch, top.folders):
        inside = list_folder(home / synset, root)
        ignored.update(inside.ignored)
        ignored.update(kind_of(name) for name in inside.files)
        for model in inside.folders:
            mesh = _mesh_of(home / synset / model, root)
            if mesh == LINK_OUT:
                ignored[LINK_OUT] += 1
            else:
                models[synset, model] = mesh
    return _Found(models, dict(sorted(ignored.items())))


def _ignored_around(home: Path, root: Path) -> Counter[str]:
    """What lies in the folder of synsets, and in the root where that is another, besides synsets."""
    ignored: Counter[str] = Counter()
    for folder in dict.fromkeys((home, root)):
        listing = list_folder(folder, root)
        ignored.update(listing.ignored)
        ignored.update(kind_of(name) for name in listing.files if name != _CSV)
        ignored["folder that is no synset"] += sum(
            not _SYNSET.fullmatch(name) and folder / name != home for name in listing.folders
        )
    return +ignored


def _mesh_of(folder: Path, root: Path) -> str | None:
    """The OBJ of a model folder, relative to it; None if it has none, LINK_OUT if it lies outside of the root."""
    for mesh in (_V2, _V1):
        path = folder / mesh
        if os.path.lexists(path):
            # To resolve each of fifty thousand paths would take longer than all the rest.
            linked = path.is_symlink() or path.parent.is_symlink()
            return LINK_OUT if linked and not is_below(path, root) else mesh
    return None


def _item(key: Key, prefix: str, mesh: str, splits: Mapping[Key, str]) -> SourceItem:
    synset, model = key
    path = f"{synset}/{model}/{mesh}"
    return SourceItem(
        shape_id=safe_id(f"{synset}/{model}"),
        path=storable(path if prefix == "." else f"{prefix}/{path}"),
        group=safe_id(model),
        category=synset,
        split=splits.get(key, ""),
    )


def _hash_splits(models: Mapping[Key, str | None], recipe: Recipe) -> tuple[dict[Key, str], list[str]]:
    """The hash split of every synset; a model without OBJ has no part in it, as it has none in the published one."""
    by_synset: defaultdict[str, list[str]] = defaultdict(list)
    for (synset, model), mesh in models.items():
        if mesh is not None:
            by_synset[synset].append(model)
    share, seed = recipe.source.test_share, recipe.source.split_seed
    splits: dict[Key, str] = {}
    for synset, names in by_synset.items():
        splits |= {(synset, model): split for model, split in hash_split(synset, names, share, seed).items()}
    return splits, [f"split: hash split with a test share of {share:g} and seed {seed}; no official {_CSV} was found"]


def _listed_splits(models: Mapping[Key, str | None], listed: Mapping[Key, str]) -> tuple[dict[Key, str], list[str]]:
    splits = {key: listed[key] for key in models if key in listed}
    note = f"split: official {_CSV}"
    unlisted, absent = len(models) - len(splits), len(listed) - len(splits)
    note += f"; {unlisted} of {len(models)} models are not in it and get no split" if unlisted else ""
    note += f"; {absent} of its {len(listed)} models are not in the folder" if absent else ""
    return splits, [note]


def _remarks(found: _Found, items: Iterable[SourceItem]) -> Iterator[str]:
    """What is worth knowing besides where the split comes from."""
    lost = sum(mesh is None for mesh in found.models.values())
    if lost:
        yield f"{lost} model folders hold no OBJ"
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.split:
            splits[item.group].add(item.split)
    torn = sum(len(several) > 1 for several in splits.values())
    if torn:
        yield f"{torn} models lie in several synsets whose splits differ: their group is in more than one split"


def _split_file(home: Path) -> Mapping[Key, str] | None:
    """What `all.csv` in the folder of synsets, or else beside it, says; None if there is none but a link elsewhere."""
    for path in (home / _CSV, home.absolute().parent / _CSV):
        if os.path.lexists(path) and is_below(path, path.parent):
            return _read_csv(path)
    return None


def _read_csv(path: Path) -> Mapping[Key, str]:
    splits: dict[Key, str] = {}
    refuse_no_list(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                got = ", ".join(rows.fieldnames or ()) or "an empty file"
                raise UsageError(f"{path}: expected the columns {', '.join(_COLUMNS)}, got {got}.")
            for row in rows:
                # Spreadsheets drop the leading zeros of synsets.
                synset, model, split = (str(row[column] or "").strip() for column in _COLUMNS)
                key = (synset.zfill(8), model)
                if not (synset and model and split):
                    raise UsageError(f"{path}, line {rows.line_num}: a synset, a model or its split is missing.")
                if splits.setdefault(key, split) != split:
                    raise UsageError(f"{path}, line {rows.line_num}: a second split for {key[0]}/{model}.")
    except (OSError, UnicodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}.") from error
    return splits
