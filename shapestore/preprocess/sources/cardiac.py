"""Label maps in NIfTI files, such as segmented hearts: a map for each case, or a folder of masks for each case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.formats.label_image import LabelImage
from shapestore.preprocess.formats.nifti import read_label_map
from shapestore.preprocess.geometry.label_codes import codes_of_masks, codes_of_values
from shapestore.preprocess.geometry.regrid import same_grid
from shapestore.preprocess.raw import RawLabelMap
from shapestore.preprocess.source import (
    Discovery,
    Source,
    SourceItem,
    raw_path,
    refuse_repeats,
    safe_id,
    walk_files,
)
from shapestore.preprocess.sources.cardiac_files import (
    REMEDY,
    case_name,
    listed,
    mask_files,
    refuse_half,
    refuse_unfit,
    volumes,
)
from shapestore.schemas.recipe import Input, LabelsPart, Recipe


class Cardiac(Source):
    """NIfTI label maps, in any folders.

    Layout `file`: every `.nii`, every `.nii.gz` and every `.img` with its `.hdr` is a case; its id is its path without
    `.nii` or `.nii.gz`. Layout `folder`: every folder that directly holds such files is a case, with a mask for each
    structure; its id is its path. Nothing in the files says which cases belong together: each is a group of its own.

    Where masks of a folder overlap, the class that the recipe declares first keeps the voxels, and a note counts what
    the other one lost. A class within another one, such as a chamber of `heart`, therefore goes before it.
    """

    recipe: ClassVar[str] = "cardiac-sdf"

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """Find the cases by the names of files."""
        labels = _labels_part(recipe)
        refuse_unfit(labels)
        walk = walk_files(root)
        files, other = volumes(walk.files)
        if not files:
            raise UsageError(_nothing_found(root, labels, other + Counter(walk.ignored)))
        if labels.layout == "file":
            if labels.scheme == "heart-10":
                _refuse_folders_of_masks(files)
            items = tuple(_item(case_name(path), path) for path in files)
        else:
            folders = sorted({PurePosixPath(path).parent.as_posix() for path in files})
            items = tuple(_item(root.resolve().name if path == "." else path, path) for path in folders)
        refuse_repeats(items)
        return Discovery(items, dict(sorted((other + Counter(walk.ignored)).items())))

    def inputs(self, root: Path) -> frozenset[Input]:
        """Label maps, in both layouts."""
        del root
        return frozenset({"label_map"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawLabelMap:
        """Read the map, or the masks, of one case.

        Raises
        ------
        InputRefused
            MISSING for a folder, or a half of a pair, that is not there; NOT_LABELS for negative or undeclared values,
            for undeclared masks, and for masks that are none; EMPTY_LABELS where no declared class has a voxel;
            otherwise as `raw_path`, `read_label_map` and `same_grid`.
        """
        labels = _labels_part(recipe)
        raw_path(root, item)
        read = _read_file if labels.layout == "file" else _read_folder
        return read(root, item.path, labels)


def _read_file(root: Path, path: str, labels: LabelsPart) -> RawLabelMap:
    image = _image(root, path)
    if labels.scheme == "single":
        codes = (image.voxels != 0).astype(np.uint8)
    else:
        values = [int(value) for value in labels.class_values.values()]
        codes, undeclared = codes_of_values(image.voxels, values)
        if undeclared and labels.undeclared == "refuse":
            raise InputRefused(Reason.NOT_LABELS, f"no class declares the values {listed(undeclared)}: {REMEDY}")
    if not codes.any():
        raise InputRefused(Reason.EMPTY_LABELS, f"the map holds no {listed(labels.names)}")
    return RawLabelMap(codes, image.affine, image.notes)


def _read_folder(root: Path, path: str, labels: LabelsPart) -> RawLabelMap:
    masks: list[_Mask] = []
    notes: list[str] = []
    for file, code in mask_files(root, path, labels):
        image = _image(root, f"{path}/{file}")
        notes += [f"{file}: {note}" for note in image.notes]
        if labels.scheme == "mapping":
            _refuse_several_values(image, file)
        if image.voxels.any():
            masks.append(_Mask(file, code, image))
        else:
            # Without voxels its grid says nothing either: it must not widen, or fail, the common one.
            notes.append(f"{file}: the mask is empty")
    if not masks:
        raise InputRefused(Reason.EMPTY_LABELS, f"the masks hold no {listed(labels.names)}")
    codes, affine, lost = _laid_together(masks)
    moved = sum(not _is_on(mask.image, codes, affine) for mask in masks)
    if moved:
        grid = "x".join(map(str, codes.shape))
        notes.append(f"{moved} of {len(masks)} masks brought onto a common grid of {grid} voxels")
    notes += [
        f"overlap: {count} voxels of {labels.names[code - 1]} stay with classes declared before it"
        for code, count in lost.items()
    ]
    return RawLabelMap(codes, affine, tuple(notes))


class _Mask(NamedTuple):
    """A mask that has voxels."""

    file: str
    code: int
    image: LabelImage


def _laid_together(
    masks: Sequence[_Mask],
) -> tuple[NDArray[np.uint8], NDArray[np.float64], Mapping[int, int]]:
    """Codes of all masks on one grid, its affine, and what `codes_of_masks` says of overlaps."""
    try:
        on_grid, affine = same_grid([mask.image for mask in masks])
    except InputRefused as refused:
        # It knows the masks by their place in the list only.
        files = ", ".join(mask.file for mask in masks)
        raise InputRefused(refused.reason, f"{refused.detail}; the masks are {files}") from refused
    codes, lost = codes_of_masks(zip((mask.code for mask in masks), on_grid, strict=True))
    return codes, affine, lost


def _is_on(image: LabelImage, codes: NDArray[np.uint8], affine: NDArray[np.float64]) -> bool:
    """Whether the image has the grid of the codes, to a hundredth of a millimetre."""
    return image.voxels.shape == codes.shape and np.allclose(image.affine, affine, rtol=0, atol=0.01)


def _image(root: Path, path: str) -> LabelImage:
    """One volume without negative values."""
    refuse_half(root, path)
    image = read_label_map(root / path)
    if image.voxels.min(initial=0) < 0:
        negative = np.unique(image.voxels[image.voxels < 0]).tolist()
        name = PurePosixPath(path).name
        raise InputRefused(Reason.NOT_LABELS, f"{name} holds negative values, such as {listed(negative)}")
    return image


def _refuse_several_values(image: LabelImage, file: str) -> None:
    """Refuse a map of several structures where the mask of one is due."""
    filled: NDArray[np.integer[Any]] = image.voxels[image.voxels != 0]
    if filled.size and filled.min() != filled.max():
        values = np.unique(filled).tolist()
        raise InputRefused(Reason.NOT_LABELS, f"{file} is no mask of one structure: it holds {listed(values)}")


def _item(name: str, path: str) -> SourceItem:
    shape_id = safe_id(name)
    return SourceItem(shape_id=shape_id, path=path, group=shape_id)


def _refuse_folders_of_masks(files: Sequence[str]) -> None:
    """The same several names in several folders are masks of structures, not maps of cases."""
    names: dict[str, set[str]] = {}
    for path in files:
        names.setdefault(PurePosixPath(path).parent.as_posix(), set()).add(PurePosixPath(path).name)
    shared = [found for found in names.values() if len(found) > 1 and list(names.values()).count(found) > 1]
    if shared:
        raise UsageError(
            f"several folders hold {listed(sorted(shared[0]))}: these look like one mask a structure, not one label "
            "map a case. Say so, and name the classes: --set labels.layout=folder --set labels.scheme=mapping "
            "--set 'labels.classes={aorta: aorta, ...}'."
        )


def _nothing_found(root: Path, labels: LabelsPart, other: Counter[str]) -> str:
    wanted = "a NIfTI label map for each case" if labels.layout == "file" else "a folder of NIfTI masks for each case"
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(other.items())) or "no files"
    return f"{root}: expected {wanted} (.nii, .nii.gz, or .img with .hdr) at any depth, found {found}."


def _labels_part(recipe: Recipe) -> LabelsPart:
    if recipe.labels is None:
        raise UsageError(f"recipe {recipe.name} says nothing about labels, which label maps need. Try cardiac-sdf.")
    return recipe.labels
