"""From a label map to the arrays of a recipe: surface, volume and near samples with signed distances and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.label_samples import (
    LabelledSamples,
    LabelledSurface,
    near_samples,
    surface_samples,
    volume_samples,
)
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import ClassSurface, class_surfaces, joint_frame
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.raw import RawLabelMap
from shapestore.preprocess.records.computed import Computed
from shapestore.schemas.recipe import LabelsPart, NearPart, Recipe, SurfacePart, VolumePart
from shapestore.schemas.seeding import generator

Arrays = dict[str, NDArray[Any]]


def from_label_map(raw: RawLabelMap, recipe: Recipe, seed: int) -> Computed:
    """Take the class surfaces, normalise them together, and compute what the recipe asks for.

    Every part draws from a stream of its own, so that leaving one out changes no other. Where a per-class minimum
    is more than the present classes' even share of the points, it shrinks to that share.

    Parameters
    ----------
    raw
        Codes up to the number of classes of the recipe.
    recipe
        With `labels`, and at least one of `surface`, `volume` and `near`.
    seed
        The row's seed.

    Returns
    -------
    Computed
        The frame (box centre of all class surfaces, farthest vertex at distance 1) maps world RAS+ millimetres. The
        notes name absent classes, and those whose mask was not smoothed.

    Raises
    ------
    InputRefused
        EMPTY_LABELS where no class has a voxel; otherwise as `class_surface`, `surface_samples`, `volume_samples`.
    ValueError
        The map holds a code that the recipe has no class for.
    """
    part = _labels_part(recipe)
    if int(raw.codes.max(initial=0)) > len(part.names):
        raise ValueError(f"code {raw.codes.max()} in a map of {len(part.names)} classes")
    # NIfTI has its first axis fastest: every search for the voxels of a class would reorder the whole map.
    raw = replace(raw, codes=np.ascontiguousarray(raw.codes))
    surfaces = class_surfaces(raw.codes, raw.affine, len(part.names), part.smoothing)
    frame = joint_frame(surfaces)
    arrays: Arrays = {"class_voxels": _class_voxels(surfaces, len(part.names))}
    if recipe.surface is not None:
        arrays |= _surface(surfaces, frame, recipe.surface, seed)
    if recipe.volume is not None or recipe.near is not None:
        field = LabelField(surfaces, frame)
        if recipe.volume is not None:
            arrays |= _volume(raw, frame, field, recipe.volume, seed)
        if recipe.near is not None:
            arrays |= _near(surfaces, frame, field, recipe.near, recipe.surface, seed)
    return Computed(arrays, frame, (*raw.notes, *_remarks(surfaces, part)))


def _surface(surfaces: Sequence[ClassSurface], frame: Frame, part: SurfacePart, seed: int) -> Arrays:
    samples = _on_surfaces(surfaces, frame, part.count, part.per_class_minimum, generator(seed, "surface"))
    return {"surface_points": samples.points, "surface_labels": samples.labels}


def _volume(raw: RawLabelMap, frame: Frame, field: LabelField, part: VolumePart, seed: int) -> Arrays:
    # The minimum is one of inside positions: the classes share only those.
    minimum = _affordable(part.per_class_minimum, round(part.inside_ratio * part.count), len(field.codes))
    rng = generator(seed, "volume")
    return _named(
        "vol", volume_samples(raw.codes, raw.affine, frame, field, part.count, part.inside_ratio, minimum, rng)
    )


def _near(
    surfaces: Sequence[ClassSurface],
    frame: Frame,
    field: LabelField,
    part: NearPart,
    surface: SurfacePart | None,
    seed: int,
) -> Arrays:
    """Positions off surface points of their own, shared among the classes as the stored surface points are."""
    rng = generator(seed, "near")
    minimum = surface.per_class_minimum if surface is not None else 0
    return _named("near", near_samples(_on_surfaces(surfaces, frame, part.count, minimum, rng), field, part.sigma, rng))


def _on_surfaces(
    surfaces: Sequence[ClassSurface], frame: Frame, count: int, minimum: int, rng: np.random.Generator
) -> LabelledSurface:
    return surface_samples(surfaces, frame, count, _affordable(minimum, count, len(surfaces)), rng)


def _affordable(minimum: int, count: int, classes: int) -> int:
    """The per-class minimum, or the even share where `count` points do not suffice for it."""
    return min(minimum, count // classes)


def _named(tag: str, samples: LabelledSamples) -> Arrays:
    return {f"{tag}_points": samples.points, f"{tag}_sdf": samples.sdf, f"{tag}_labels": samples.labels}


def _class_voxels(surfaces: Sequence[ClassSurface], classes: int) -> NDArray[np.int32]:
    """(C,) number of voxels of each class, 0 for the absent ones."""
    voxels = np.zeros(classes, np.int32)
    for surface in surfaces:
        voxels[surface.code - 1] = surface.voxels
    return voxels


def _remarks(surfaces: Sequence[ClassSurface], part: LabelsPart) -> Iterator[str]:
    """Which classes are absent, and which surfaces have the steps of their voxels."""
    present = {surface.code for surface in surfaces}
    for code, name in enumerate(part.names, start=1):
        if code not in present:
            yield f"class absent: {name}"
    for surface in surfaces:
        if part.smoothing > 0 and not surface.smoothed:
            yield f"surface of {part.names[surface.code - 1]}: mask not smoothed, it is too thin in places"


def _labels_part(recipe: Recipe) -> LabelsPart:
    assert recipe.labels is not None, "recipes for label maps have labels"  # noqa: S101
    return recipe.labels
