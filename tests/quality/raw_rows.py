"""Rows whose raw files exist, for the tests of checks that read them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import load_source
from shapestore.quality.check import Batch
from shapestore.schemas.recipe import LabelsPart, NearPart, Recipe, SurfacePart, VolumePart
from shapestore.schemas.recipe_schema import schema_of
from tests.quality.helpers import batch_of


def rows_of(kind: str, root: Path, recipe: Recipe) -> Batch:
    """All items of a raw folder as one batch, with their paths and hashes, as ingest keeps them."""
    source = load_source(kind)
    recipe = source.complete(root, recipe)
    items = sorted(source.discover(root, recipe).items, key=lambda item: item.shape_id)
    records = []
    for item in items:
        path = root / item.path
        sha256 = source_sha256(path, fingerprint(path))
        records.append(build_record(source.read(root, item, recipe), item, sha256, recipe, schema_of(recipe)))
    return replace(batch_of(records, recipe, kind), raw=root)


def only(batch: Batch, rows: list[int]) -> Batch:
    """Some rows of a batch as another one."""
    return replace(
        batch,
        rows=batch.rows[rows],
        index={name: np.asarray(values)[rows] for name, values in batch.index.items()},
        arrays={name: np.asarray(values)[rows] for name, values in batch.arrays.items()},
    )


def heart_recipe(**labels: object) -> Recipe:
    """`cardiac-sdf` with few samples."""
    return Recipe(
        input=("label_map",),
        labels=LabelsPart.model_validate(labels),
        surface=SurfacePart(count=4000, per_class_minimum=200),
        volume=VolumePart(count=2000, per_class_minimum=60),
        near=NearPart(count=1000),
    )
