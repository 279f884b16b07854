"""Gates: a computation that is spoilt gives no row. Its item is quarantined with the check's name and value."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapestore import api
from shapestore.preprocess import compute
from shapestore.preprocess.source import SourceItem
from shapestore.schemas.record import ShapeRecord
from tests.quality.defects.conftest import SIGNED, Made
from tests.quality.defects.verdict import assert_sound

Changes = dict[str, Callable[[np.ndarray], np.ndarray]]

GATED: list[tuple[str, str, Changes]] = [
    ("sign-balance", "small_meshes", {"pt_sdf_pool": np.negative, "sdf_grid": np.negative}),
    ("sign-balance", "hearts", {"near_sdf": np.abs, "near_labels": np.zeros_like}),
    ("field-laws", "small_meshes", {"pt_dist_pc_pool": lambda values: values[::-1]}),
    ("fps-law", "scans", {"pc_fps_order": lambda order: order[::-1]}),
    ("normalisation", "small_meshes", {"pc_xyz": lambda points: points * 0.5}),
]


@pytest.fixture(scope="module")
def small_meshes(meshes: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same meshes with less of everything."""
    folder = tmp_path_factory.mktemp("small")
    settings = (*SIGNED, "queries.count=2000", "queries.fps_order=64", "grid.size=32", "rays.count=400")
    return Made(meshes.kind, meshes.raw, folder, settings).again(meshes.raw, folder / "healthy.zarr")


@pytest.mark.parametrize(("check", "name", "changes"), GATED)
def test_a_spoilt_computation_is_quarantined_with_check_and_value(
    check: str,
    name: str,
    changes: Changes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    healthy: Made = request.getfixturevalue(name)
    victim = str(api.open(healthy.store).index("shape_id")[4])
    build = compute.build_record

    def spoilt(raw: Any, item: SourceItem, *rest: Any) -> ShapeRecord:
        record = build(raw, item, *rest)
        if item.shape_id != victim:
            return record
        arrays = {key: np.ascontiguousarray(change(record.arrays[key])) for key, change in changes.items()}
        return record.model_copy(update={"arrays": {**record.arrays, **arrays}})

    monkeypatch.setattr(compute, "build_record", spoilt)
    made = healthy.again(healthy.raw, tmp_path / "s.zarr")
    monkeypatch.undo()

    opened = api.open(made.store)
    (item,) = opened.quarantine()
    assert (item["shape_id"], item["reason"]) == (victim, "fails a quality check")
    assert re.search(rf"\[{check}\], got -?[\d.]+", str(item["message"])), item["message"]
    assert len(opened) == len(api.open(healthy.store)) - 1
    assert_sound(made.store)

    api.ingest(made.kind, made.raw, made.store, settings=made.settings, workers=0, retry=True)
    assert len(api.open(made.store)) == len(api.open(healthy.store))
