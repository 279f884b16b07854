"""What the names of ScanObjectNN files say: variant, split, and which rows may show one object.

The variants and file names are those of Uy et al., Revisiting Point Cloud Classification (ICCV 2019).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from shapestore.schemas.recipe import Variant

CLASSES: Final = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)  # fmt: skip
"""Class names; a label is the position in this tuple."""

SPLITS: Final[Mapping[str, str]] = {"training": "train", "test": "test"}
"""Beginning of a file name to the split that it holds."""

ALIGNED: Final[frozenset[Variant]] = frozenset({"OBJ-BG", "OBJ-ONLY"})
"""Variants with one row an object, in the same order."""

_STEMS: Final[Mapping[str, tuple[Variant, ...]]] = {
    "objectdataset": ("OBJ-BG", "OBJ-ONLY"),
    "objectdataset_augmented25_norot": ("PB-T25",),
    "objectdataset_augmented25rot": ("PB-T25-R",),
    "objectdataset_augmentedrot": ("PB-T50-R",),
    "objectdataset_augmentedrot_scale75": ("PB-T50-RS",),
}
_STEM = re.compile(r"(training|test)_(.+)")
_FOLDER = re.compile(r"(?:main_split|split[1-4])(_nobg)?")
_FOLD = re.compile(r"split[1-4](?:_nobg)?")


def split_and_variants(folder: str, stem: str) -> tuple[str, tuple[Variant, ...]] | None:
    """The split and the variant of a file, by the name of its folder and its own name without `.h5`.

    Returns
    -------
    None
        The file is none of the data set.
    split, variants
        One variant; none for the augmented files without background, which have no published name; two for
        `objectdataset` in a folder that is not named as published, as only the folder tells these apart.
    """
    match = _STEM.fullmatch(stem)
    if match is None or match[2] not in _STEMS:
        return None
    split, variants = SPLITS[match[1]], _STEMS[match[2]]
    known = _FOLDER.fullmatch(folder)
    if known is None:
        return split, variants
    without_background = known[1] is not None
    if len(variants) == 2:
        return split, variants[1:] if without_background else variants[:1]
    return split, () if without_background else variants


def is_fold(folder: str) -> bool:
    """Whether a folder holds one of the four further cross-validation splits, which share objects with the main one."""
    return _FOLD.fullmatch(folder) is not None


def groups_are_rows(variants: Iterable[Variant]) -> bool:
    """Whether row i of every file of a split shows the same object, so that i can key it.

    OBJ-BG and OBJ-ONLY hold each object once, in one order. The PB files hold several perturbed copies of an object,
    but not a constant number of them (11 416 rows of 2 309 objects), and no object ids: which rows belong together
    cannot be told. What is certain is that copies share their split, as train and test are disjoint by object, and
    their class. So `<split>/<class>` never parts an object; it is coarse, and PB files cannot be split further.
    """
    return set(variants) <= ALIGNED
