"""From a label map to the arrays of a recipe: surface, volume and near samples with signed distances and labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.edt_field import EdtField
from shapestore.preprocess.geometry.label_grid import label_grid
from shapestore.preprocess.geometry.label_near import near_samples
from shapestore.preprocess.geometry.label_samples import (
    LabelledSamples,
    SignedField,
    surface_samples,
    volume_samples,
)
from shapestore.preprocess.geometry.label_sdf import LabelField
from shapestore.preprocess.geometry.label_surface import LabelSurfaces, class_surfaces
from shapestore.preprocess.geometry.label_volume import LabelVolume, label_volume
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
        EMPTY_LABELS where no class has a voxel; otherwise as `label_volume`, `class_surfaces`, `surface_samples`,
        `volume_samples`.
    ValueError
        The map holds a code that the recipe has no class for.
    """
    part = _labels_part(recipe)
    if int(raw.codes.max(initial=0)) > len(part.names):
        raise ValueError(f"code {raw.codes.max()} in a map of {len(part.names)} classes")
    volume = label_volume(raw.codes, raw.affine)
    surfaces = class_surfaces(volume, part.smoothing)
    frame = surfaces.frame()
    arrays: Arrays = {"class_voxels": volume.voxels[1 : len(part.names) + 1].astype(np.int32)}
    if part.grid:
        arrays["label_grid"] = label_grid(volume, frame, part.grid)
    if recipe.surface is not None:
        arrays |= _surface(surfaces, frame, recipe.surface, seed)
    if recipe.volume is not None or recipe.near is not None:
        field = _field(raw, surfaces, frame, part)
        if recipe.volume is not None:
            arrays |= _volume(volume, frame, field, recipe.volume, seed)
        if recipe.near is not None:
            arrays |= _near(surfaces, frame, field, recipe.near, recipe.surface, seed)
    return Computed(arrays, frame, (*raw.notes, *_remarks(surfaces, part)))


def _field(raw: RawLabelMap, surfaces: LabelSurfaces, frame: Frame, part: LabelsPart) -> SignedField:
    """The signed distance that the recipe names."""
    return LabelField(surfaces, frame) if part.distance == "surface" else EdtField(raw.codes, raw.affine, frame)


def _surface(surfaces: LabelSurfaces, frame: Frame, part: SurfacePart, seed: int) -> Arrays:
    minimum = _affordable(part.per_class_minimum, part.count, len(surfaces.classes))
    samples = surface_samples(surfaces.classes, frame, part.count, minimum, generator(seed, "surface"))
    return {"surface_points": samples.points, "surface_labels": samples.labels}


def _volume(volume: LabelVolume, frame: Frame, field: SignedField, part: VolumePart, seed: int) -> Arrays:
    # The minimum is one of inside positions: the classes share only those.
    minimum = _affordable(part.per_class_minimum, round(part.inside_ratio * part.count), len(field.codes))
    rng = generator(seed, "volume")
    return _named("vol", volume_samples(volume, frame, field, part.count, part.inside_ratio, minimum, rng))


def _near(
    surfaces: LabelSurfaces,
    frame: Frame,
    field: SignedField,
    part: NearPart,
    surface: SurfacePart | None,
    seed: int,
) -> Arrays:
    """Positions off surface points of their own, shared among the classes as the stored surface points are."""
    asked = surface.per_class_minimum if surface is not None else 0
    minimum = _affordable(asked, part.count, len(surfaces.classes))
    return _named(
        "near", near_samples(surfaces, frame, field, part.count, part.sigma, minimum, generator(seed, "near"))
    )


def _affordable(minimum: int, count: int, classes: int) -> int:
    """The per-class minimum, or the even share where `count` points do not suffice for it."""
    return min(minimum, count // classes)


def _named(tag: str, samples: LabelledSamples) -> Arrays:
    return {f"{tag}_points": samples.points, f"{tag}_sdf": samples.sdf, f"{tag}_labels": samples.labels}


def _remarks(surfaces: LabelSurfaces, part: LabelsPart) -> Iterator[str]:
    """Which classes are absent, and which surfaces have the steps of their voxels."""
    present = {surface.code for surface in surfaces.classes}
    for code, name in enumerate(part.names, start=1):
        if code not in present:
            yield f"class absent: {name}"
    for surface in surfaces.classes:
        if part.smoothing > 0 and surface.crisp == 1:
            yield f"surface of {part.names[surface.code - 1]}: mask not smoothed, it is too thin"


def _labels_part(recipe: Recipe) -> LabelsPart:
    assert recipe.labels is not None, "recipes for label maps have labels"  # noqa: S101
    return recipe.labels
