"""ScanObjectNN: h5 files of real scans, one variant of the data set a store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.raw import RawCloud
from shapestore.preprocess.source import Discovery, Source, SourceItem, raw_path, walk_files
from shapestore.preprocess.sources.scan_file import ScanFile, open_scans
from shapestore.preprocess.sources.scan_variants import CLASSES, SPLITS, groups_are_rows, is_fold, split_and_variants
from shapestore.schemas.recipe import Input, Recipe, Variant

FOLD = "h5 of another cross-validation split"
NAMELESS = "augmented h5 without background"
UNKNOWN = "h5 of another name"

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class _ScanSet:
    """One h5 file of one variant and one split."""

    path: str
    split: str
    variants: tuple[Variant, ...]
    """The variant; two where the names do not tell."""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem


class ScanObjectNN(Source):
    """The folder `h5_files` (or one above, or one of its folders) with `main_split` and `main_split_nobg`.

    A shape's id is `<h5 name>_<row>`, such as `training_objectdataset_000012`, after `<variant>/` where a store holds
    several variants. Its group is the row in the split for OBJ-BG and OBJ-ONLY, and `<split>/<class>` as soon as a PB
    variant is among those chosen: see `groups_are_rows`.
    """

    recipe: ClassVar[str] = "nepa-scanobjectnn"

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """List the rows of the chosen variant from names and the label datasets alone.

        A file that cannot be read becomes one item, which `read` refuses with the reason.

        Raises
        ------
        UsageError
            No file of the data set; several variants without a choice, or a chosen one that is not there; a variant
            that the names do not tell; two files of one variant and split.
        """
        found, ignored = _scan_sets(root)
        chosen = _choose(found, recipe.source.variants, root, ignored)
        files = [(scans, variant, _labels(root / scans.path)) for scans, variant in chosen]
        variants = sorted({variant for _, variant in chosen})
        by_row = groups_are_rows(variants) and _same_labels(files)
        items = [
            item
            for scans, variant, labels in files
            for item in _items(scans, f"{variant}/" if len(variants) > 1 else "", labels, by_row)
        ]
        return Discovery(tuple(items), ignored, _notes(variants, chosen, by_row))

    def inputs(self, root: Path) -> frozenset[Input]:
        """Clouds."""
        del root
        return frozenset({"cloud"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawCloud:
        """Read one row: points in the file's coordinates, and which of them are background.

        Raises
        ------
        InputRefused
            The file or the row is damaged, or its label is none of the 15 classes; as `raw_path`.
        """
        del recipe
        file = open_scans(raw_path(root, item))
        if item.position is None:
            raise InputRefused(*_unlistable(file))
        points, mask = file.read(item.position)
        label = int(file.labels[item.position])
        if not 0 <= label < len(CLASSES):
            raise InputRefused(Reason.MALFORMED, f"label {label} is none of 0 to {len(CLASSES) - 1}")
        return RawCloud(points=points, mask=mask)


def _scan_sets(root: Path) -> tuple[list[_ScanSet], dict[str, int]]:
    """All files of the data set below `root`, and counts of everything else."""
    walk = walk_files(root)
    ignored = Counter(walk.ignored)
    found = []
    for path in walk.files:
        name = PurePosixPath(path)
        in_root = len(name.parts) == 1
        folder = root.resolve().name if in_root else name.parts[-2]
        known = split_and_variants(folder, name.stem) if name.suffix == ".h5" else None
        if known is None:
            ignored[UNKNOWN if name.suffix == ".h5" else name.suffix.lower() or "file without suffix"] += 1
        elif not known[1]:
            ignored[NAMELESS] += 1
        elif is_fold(folder) and not in_root:
            ignored[FOLD] += 1
        else:
            found.append(_ScanSet(path, *known))
    return found, dict(sorted(ignored.items()))


def _choose(
    found: Sequence[_ScanSet], asked: Sequence[Variant], root: Path, ignored: Mapping[str, int]
) -> list[tuple[_ScanSet, Variant]]:
    """The files of the variants that are asked for, or of the only one there; never two of one variant and split."""
    if not found:
        beside = ", ".join(f"{count} x {what}" for what, count in ignored.items()) or "nothing"
        raise UsageError(
            f"{root}: expected ScanObjectNN files such as main_split/training_objectdataset.h5, found {beside}. "
            "Point at the folder h5_files, or at exactly one split folder in it."
        )
    decided = [(scans, variant) for scans in found for variant in _decide(scans, asked)]
    there = sorted({variant for _, variant in decided})
    lacking = [variant for variant in asked if variant not in there]
    if lacking:
        names = ", ".join(there) or "none whose name tells"
        raise UsageError(f"{root}: expected files of the variants {', '.join(lacking)}, found {names}.")
    if not asked and len(there) > 1:
        raise UsageError(
            f"{root} holds several variants of the same objects: {', '.join(there)}. "
            f"Choose one with --set source.variants=[{there[0]}]."
        )
    chosen = [pair for pair in decided if not asked or pair[1] in asked]
    _refuse_twins(chosen)
    return sorted(chosen, key=lambda pair: (pair[1], pair[0].path))


def _decide(scans: _ScanSet, asked: Sequence[Variant]) -> tuple[Variant, ...]:
    """The one variant of a file; none where the names leave two and neither is asked for."""
    if len(scans.variants) == 1:
        return scans.variants
    wanted = tuple(name for name in scans.variants if name in asked)
    if len(wanted) == 1 or (asked and not wanted):
        return wanted
    raise UsageError(
        f"{scans.path} is {' or '.join(scans.variants)}: expected it in a folder main_split or main_split_nobg, which "
        f"tells. Say which it is with --set source.variants=[{scans.variants[0]}]."
    )


def _refuse_twins(chosen: Iterable[tuple[_ScanSet, Variant]]) -> None:
    paths: dict[tuple[Variant, str], list[str]] = defaultdict(list)
    for scans, variant in chosen:
        paths[variant, scans.split].append(scans.path)
    for (variant, split), twins in sorted(paths.items()):
        if len(twins) > 1:
            raise UsageError(
                f"{len(twins)} files hold the {split} split of {variant}, so their shapes would have the same ids: "
                f"{', '.join(twins)}. Point at one of the folders, or take the others away."
            )


def _labels(path: Path) -> Labels | None:
    """Labels of all rows; None where `read` is to say what is wrong with the file."""
    try:
        labels = open_scans(path).labels
    except InputRefused:
        return None
    return labels if len(labels) else None


def _items(scans: _ScanSet, prefix: str, labels: Labels | None, by_row: bool) -> Iterable[SourceItem]:
    if labels is None:
        shape_id = f"{prefix}{scans.stem}"
        yield SourceItem(shape_id, scans.path, group=shape_id, split=scans.split)
        return
    for row, label in enumerate(labels.tolist()):
        category = CLASSES[label] if 0 <= label < len(CLASSES) else ""
        group = str(row) if by_row else category or f"label {label}"
        shape_id = f"{prefix}{scans.stem}_{row:06d}"
        yield SourceItem(shape_id, scans.path, f"{scans.split}/{group}", category, scans.split, row)


def _same_labels(files: Iterable[tuple[_ScanSet, Variant, Labels | None]]) -> bool:
    """Whether all files of a split that can be read have the same labels, as they have where rows are aligned."""
    by_split: dict[str, list[Labels]] = defaultdict(list)
    for scans, _, labels in files:
        if labels is not None:
            by_split[scans.split].append(labels)
    return all(np.array_equal(first, other) for first, *others in by_split.values() for other in others)


def _unlistable(file: ScanFile) -> tuple[Reason, str]:
    """Why a file that can be opened was listed as one item."""
    if not len(file.labels):
        return Reason.EMPTY, "the file holds no scan"
    return Reason.MALFORMED, "the file could not be read when it was listed, and now can: ingest again"


def _notes(variants: Sequence[Variant], chosen: Iterable[tuple[_ScanSet, Variant]], by_row: bool) -> tuple[str, ...]:
    there = {(variant, scans.split) for scans, variant in chosen}
    wanted = [(variant, split) for variant in variants for split in SPLITS.values()]
    missing = [f"{variant} has no {split} file" for variant, split in wanted if (variant, split) not in there]
    row, coarse = "row in the split", "split and class, as the files do not say which rows show one object"
    return (
        f"variant: {', '.join(variants)}",
        "split: by the names of the files",
        f"group: {row if by_row else coarse}",
        *missing,
    )
