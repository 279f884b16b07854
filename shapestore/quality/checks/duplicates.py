"""duplicates: shapes that are in a store more than once, above all in training and in test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.quality.alike import Limits, Shapes, alike
from shapestore.quality.check import Batch, Check, Fact, Settings, Table, always, chosen, families, filled
from shapestore.quality.clusters import Pairs, component_labels, equal_pairs, members_of_shared
from shapestore.quality.descriptor import AXES, cylinder_coefficients, own_frame, spacing
from shapestore.quality.finding import Finding
from shapestore.quality.multiset_hash import multiset_hashes
from shapestore.quality.surface_pair import Surface, estimated_normals, roughness
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import Points, SdfSamples
from shapestore.schemas.store_schema import RESERVED_NAMES, StoreSchema

NAME: Final = "duplicates"

_POOL: Final = 2048
"""Points of a row from which evenly spread ones are taken."""

_SHARE: Final = 4
"""One in so many is taken: a farthest-point order is even while most of the pool is left."""

_NAMED: Final = 8
"""Most shapes that a finding names."""

Splits = Mapping[str, NDArray[Any]]
"""Split set to the part of each row; empty where it has none."""


class Duplicates(Settings):
    """What counts as the same shape."""

    largest_gap: float = 0.62
    """Largest modified Hausdorff distance of near-identical shapes, in units of the spacing of their 512 even points.

    Two samplings of one surface give 0.54, and 0.60 at most (416 shapes, sampled anew and turned)."""
    largest_misfit: float = 0.0035
    """Largest distance of near-identical shapes along their normals, in units of their root mean square radius.

    Two samplings of one surface give 0.0003, and 0.0032 at most (the same 416). Of pairs of models of one class whose
    surfaces lie 0.0075 apart on average, one in a hundred is below; ten generated hearts have 0.0096 and more."""
    reach: float = 0.07
    """Largest distance of two descriptors up to which points are compared.

    Two samplings of one surface give 0.051 at most."""
    nearest: int = 16
    """How many of the nearest descriptors a shape's points are compared with, so that large families cost no more.

    In a family of more shapes that are alike, one links another, and all are found as one cluster."""
    least_points: int = 1024
    """Surface points of a row below which only identical shapes are found: a coarse shape resembles too many."""


def _measure(batch: Batch, settings: Duplicates) -> Iterator[Fact]:
    surface = _surface(batch.schema)
    if surface is None:
        return
    clouds, has = np.asarray(batch.arrays[surface.points.name]), filled(surface.points, surface.count, batch)
    yield Fact("content", multiset_hashes(clouds, has))
    pool = min(_POOL, surface.points.shape[0])
    if pool < settings.least_points:
        return
    normals = None if surface.normals is None else np.asarray(batch.arrays[surface.normals.name])
    found = [
        _described(clouds[row][has[row]], None if normals is None else normals[row][has[row]], pool, int(seed))
        for row, seed in enumerate(batch.index["seed"])
    ]
    # In these types 50 000 rows take 310 MB where they are judged.
    yield Fact("points", np.array([each.points for each in found], np.float16))
    yield Fact("normals", np.rint(127 * np.array([each.normals for each in found])).astype(np.int8))
    coefficients = [[cylinder_coefficients(each.points, axis) for axis in AXES] for each in found]
    yield Fact("coefficients", np.array(coefficients, np.complex64).view(np.float32).astype(np.float16))
    yield Fact("spacing", np.array([spacing(each.points) for each in found]))
    yield Fact("roughness", np.array([roughness(each) for each in found]))


def _described(cloud: NDArray[np.float32], normals: NDArray[np.float32] | None, pool: int, seed: int) -> Surface:
    """Evenly spread points of a cloud with their normals; NaN points where it is too small or not finite."""
    count = pool // _SHARE
    whole = np.isfinite(cloud).all() and (normals is None or np.isfinite(normals).all())
    if len(cloud) < pool or not whole:
        return Surface(np.full((count, 3), np.nan), np.zeros((count, 3)))
    places = chosen([seed], len(cloud), pool)[0]
    places = places[farthest_point_order(cloud[places], count)]
    points = cloud.astype(np.float64)
    directions = estimated_normals(points, places) if normals is None else normals[places].astype(np.float64)
    return Surface(own_frame(points[places]), directions)


@dataclass(frozen=True)
class _Arrays:
    """Arrays of surface points."""

    points: ArraySpec
    normals: ArraySpec | None
    count: ArraySpec | None


def _surface(schema: StoreSchema) -> _Arrays | None:
    """The first surface points that a store holds."""
    for family in families(schema, Points):
        return _Arrays(family.points, family.normals, None)
    for samples in families(schema, SdfSamples):
        if samples.where == "surface":
            return _Arrays(samples.points, None, samples.count)
    return None


def _overall(table: Table, settings: Duplicates) -> Iterator[Finding]:
    splits = _splits(table)
    copies = np.concatenate([_same_source(table), _same_content(table)])
    identical = _between_groups(table, copies)
    near = _between_groups(table, _near(table, settings, component_labels(len(table.rows), copies)))
    exact = component_labels(len(table.rows), identical)
    for members in members_of_shared(component_labels(len(table.rows), np.concatenate([identical, near]))):
        kind = "identical" if len(np.unique(exact[members])) == 1 else "near-identical"
        yield _repeated(table, splits, members, kind)
    groups = table.index["group"].astype(str)
    for members in members_of_shared(groups):
        if groups[members[0]] and (straddled := _straddled(splits, members)):
            yield _scattered(table, straddled, members)


def _splits(table: Table) -> Splits:
    other = (RESERVED_NAMES - {"split"}) | table.schema.by_name.keys()
    return {name: values for name, values in table.index.items() if values.dtype == object and name not in other}


def _same_source(table: Table) -> Pairs:
    """Rows of raw files with the same bytes; a file that holds several shapes says nothing of one of them."""
    hashes, sources = (table.index[name].astype(str) for name in ("source_sha256", "source"))
    _, inverse, shapes = np.unique(sources, return_inverse=True, return_counts=True)
    return equal_pairs(hashes, (shapes[inverse] == 1) & (hashes != ""))


def _same_content(table: Table) -> Pairs:
    """Rows with the same surface points, in any order."""
    hashes = table.facts.get("content", np.zeros(len(table.rows), np.uint64))
    return equal_pairs(hashes, hashes != 0)


def _near(table: Table, settings: Duplicates, originals: NDArray[np.int64]) -> Pairs:
    """Rows that are alike; of those with the same label in `originals` only the first is compared."""
    if "points" not in table.facts:
        return np.zeros((0, 2), np.int64)
    first = np.unique(originals, return_index=True)[1]
    facts = {name: values[first] for name, values in table.facts.items()}
    shapes = Shapes(**{name: facts[name] for name in ("points", "coefficients", "spacing", "normals", "roughness")})
    limits = Limits(settings.reach, settings.nearest, settings.largest_gap, settings.largest_misfit)
    return np.asarray(first[alike(shapes, limits)])


def _between_groups(table: Table, pairs: Pairs) -> Pairs:
    """The pairs whose rows are not declared to be variants of one object."""
    first, second = table.index["group"][pairs].T
    return np.asarray(pairs[(first == "") | (first != second)])


def _straddled(splits: Splits, members: NDArray[np.int64]) -> Splits:
    """The split sets of which these rows lie in more than one part."""
    return {name: parts for name, parts in splits.items() if len(set(parts[members]) - {""}) > 1}


def _repeated(table: Table, splits: Splits, members: NDArray[np.int64], kind: str) -> Finding:
    straddled = _straddled(splits, members)
    place = f"in one part of {' and of '.join(straddled)}" if straddled else "once"
    return Finding(
        severity="error" if straddled else "warning",
        check=NAME,
        message=f"expected each shape {place}, got {len(members)} {kind} ones: {_names(table, splits, members)}",
        **_first(table, members),
        measure=f"{kind} shapes",
        value=len(members),
        high=1,
        remedy="Keep all of them in one part, or leave out all but one." if straddled else "Leave out all but one.",
    )


def _scattered(table: Table, straddled: Splits, members: NDArray[np.int64]) -> Finding:
    group, sets = table.index["group"][members[0]], " and of ".join(straddled)
    return Finding(
        severity="error",
        check=NAME,
        message=f"expected group {group} in one part of {sets}, got {_names(table, straddled, members)}",
        **_first(table, members),
        measure="parts of one group",
        value=max(len(set(parts[members]) - {""}) for parts in straddled.values()),
        high=1,
        remedy="Split by group, as shapestore split does.",
    )


def _first(table: Table, members: NDArray[np.int64]) -> dict[str, Any]:
    return {"row": int(table.rows[members[0]]), "shape_id": str(table.index["shape_id"][members[0]])}


def _names(table: Table, splits: Splits, members: NDArray[np.int64]) -> str:
    """Some of the shapes with their parts, of every combination of parts at least one where there is room."""
    shapes: dict[str, list[str]] = {}
    for member in members.tolist():
        parts = ", ".join(
            part if name == "split" else f"{name} {part}" for name in splits if (part := splits[name][member])
        )
        shapes.setdefault(parts, []).append(f"{table.index['shape_id'][member]}{f' ({parts})' if parts else ''}")
    ranked = sorted((rank, name) for names in shapes.values() for rank, name in enumerate(names))
    named = [name for _, name in ranked[:_NAMED]]
    more = len(members) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


CHECK = Check(
    name=NAME,
    about=(
        "Identical and near-identical shapes, and groups of variants that lie in several parts of a split: one "
        "shape in training and in test makes every score too good. Only checked rows are compared: a sample finds few."
    ),
    severity="error",
    settings=Duplicates,
    applies=always,
    measure=_measure,
    overall=_overall,
)
