"""Npz: existing caches of finished arrays, one npz file a shape, adopted array for array."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from shapestore.errors import UsageError
from shapestore.preprocess.raw import RawArrays
from shapestore.preprocess.source import Discovery, Source, SourceItem, raw_path, safe_id, walk_files
from shapestore.preprocess.sources.npz_arrays import adopt
from shapestore.preprocess.sources.npz_file import open_npz
from shapestore.preprocess.sources.npz_keys import Layout
from shapestore.preprocess.sources.npz_survey import cache_part, survey, survey_notes
from shapestore.preprocess.sources.scan_variants import SPLITS
from shapestore.schemas.recipe import CachePart, Input, Recipe

_SPLIT_FOLDER: Final = re.compile(r"(?:train|val|valid|test|eval)(?:_(?:mesh|pc|udf))?")
_SYNSET: Final = re.compile(r"\d{8}")
_SCAN: Final = re.compile(r"((training|test)_(.+))_\d{6}")


class Npz(Source):
    """`[<split>/]<category>/<name>.npz` of NEPA-3D, or `<n>.nii.img.npz` of VecSetX.

    A shape's id is its path without the split folder and `.npz`. Its group is the model for ShapeNet (a model may occur
    in several synsets), and the id elsewhere; caches that hold scans of the PB variants of ScanObjectNN are grouped by
    the h5 files' split and the category, since several scans show one object and the files do not say which.
    """

    recipe: ClassVar[str] = "npz"

    def complete(self, root: Path, recipe: Recipe) -> Recipe:
        """Fill in `cache` from the headers of all files; given shapes are kept, for caches that are to grow.

        Raises
        ------
        UsageError
            No npz file, none of a known layout, arrays that do not fit together, or a recipe that computes arrays.
        """
        if recipe.input != ("cache",):
            raise UsageError("npz caches hold finished arrays, which no recipe but `npz` (input: [cache]) adopts.")
        if recipe.cache is not None and recipe.cache.shapes:
            return recipe
        paths, ignored = _npz_files(root)
        part = cache_part(survey(root, _present(root, paths, ignored)), recipe.cache)
        return recipe.model_copy(update={"cache": part})

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """List the files, and say what of their arrays is not adopted.

        Raises
        ------
        UsageError
            As `complete`; or two files would be one shape.
        """
        part = _cache(self.complete(root, recipe))
        paths, ignored = _npz_files(root)
        paths = _present(root, paths, ignored)
        _refuse_same_file(root, paths)
        items = _items(paths, part.layout)
        _refuse_same_id(items)
        return Discovery(tuple(items), ignored, (*survey_notes(survey(root, paths), part), *_split_notes(items)))

    def inputs(self, root: Path) -> frozenset[Input]:
        """Caches."""
        del root
        return frozenset({"cache"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawArrays:
        """Read one file.

        Raises
        ------
        InputRefused
            The file is damaged, or deviates from the cache's layout: names the key, what is expected and what it has;
            as `raw_path`.
        """
        with open_npz(raw_path(root, item)) as file:
            return RawArrays(adopt(file, _cache(recipe)))


def _cache(recipe: Recipe) -> CachePart:
    if recipe.cache is None:
        raise UsageError("the recipe does not say what the cache holds: complete it with `Npz().complete` first.")
    return recipe.cache


def _npz_files(root: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """Relative paths of all npz files, sorted, and counts of everything else."""
    walk = walk_files(root)
    ignored = Counter(walk.ignored)
    paths = []
    for path in walk.files:
        suffix = PurePosixPath(path).suffix.lower()
        if suffix == ".npz":
            paths.append(path)
        else:
            ignored[suffix or "file without suffix"] += 1
    return tuple(paths), dict(sorted(ignored.items()))


def _present(root: Path, paths: tuple[str, ...], ignored: dict[str, int]) -> tuple[str, ...]:
    if not paths:
        found = ", ".join(f"{count} x {what}" for what, count in ignored.items()) or "nothing"
        raise UsageError(f"{root}: expected npz files such as train/<category>/<name>.npz, found {found}.")
    return paths


def _refuse_same_file(root: Path, paths: Iterable[str]) -> None:
    """Two links to one file are one shape, and would be in two splits."""
    reached: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        reached[os.path.realpath(root / path)].append(path)
    _refuse_several((twins for twins in reached.values() if len(twins) > 1), "are links to one file")


def _refuse_same_id(items: Iterable[SourceItem]) -> None:
    named: dict[str, list[str]] = defaultdict(list)
    for item in items:
        named[item.shape_id].append(item.path)
    _refuse_several((twins for twins in named.values() if len(twins) > 1), "would have the same id")


def _refuse_several(twins: Iterable[Sequence[str]], what: str) -> None:
    found = list(twins)
    if found:
        more = f" (and {len(found) - 1} more such cases)" if len(found) > 1 else ""
        raise UsageError(
            f"{', '.join(found[0])} {what}{more}: a shape cannot be in a store twice. Point at the folder of one cache."
        )


def _items(paths: Iterable[str], layout: Layout) -> list[SourceItem]:
    named = [(path, *_split_of(path)) for path in paths]
    perturbed = layout == "nepa-scan" and any(_is_perturbed(PurePosixPath(path).stem) for path, _, _ in named)
    return [
        SourceItem(
            shape_id=safe_id(str(name)),
            path=path,
            group=_scan_group(name) if perturbed else _group(name, layout),
            category="" if layout == "vecsetx" or len(name.parts) == 1 else safe_id(name.parent.name),
            split=split,
        )
        for path, split, name in named
    ]


def _split_of(path: str) -> tuple[str, PurePosixPath]:
    """Split, and the path without the split folder and `.npz`."""
    name = PurePosixPath(path[: -len(".npz")])
    if len(name.parts) > 1 and _SPLIT_FOLDER.fullmatch(name.parts[0]):
        return name.parts[0], PurePosixPath(*name.parts[1:])
    return "", name


def _group(name: PurePosixPath, layout: Layout) -> str:
    is_shapenet = layout == "nepa-mesh" and _SYNSET.fullmatch(name.parent.name)
    return safe_id(name.name if is_shapenet else str(name))


def _is_perturbed(stem: str) -> bool:
    """Whether a scan comes from a file that may hold an object several times: any but the unperturbed one."""
    match = _SCAN.fullmatch(stem)
    return match is not None and match[3] != "objectdataset"


def _scan_group(name: PurePosixPath) -> str:
    """Split of the h5 file, which a folder `val` does not change, and the category."""
    match = _SCAN.fullmatch(name.name)
    return safe_id(f"{SPLITS[match[2]] if match is not None else 'scan'}/{name.parent.name}")


def _split_notes(items: Iterable[SourceItem]) -> tuple[str, ...]:
    """Where the split comes from, and split folders that are not at the top and so are no split."""
    items = tuple(items)
    deep = sorted(
        {part for item in items for part in PurePosixPath(item.path).parts[1:-1] if _SPLIT_FOLDER.fullmatch(part)}
    )
    splits = sorted({item.split for item in items if item.split})
    notes = [f"split: by the top folders {', '.join(splits)}" if splits else "split: none, as no top folder is one"]
    if deep:
        notes.append(
            f"split: folders {', '.join(deep)} below the top are not taken for splits; point at the cache itself"
        )
    return tuple(notes)
