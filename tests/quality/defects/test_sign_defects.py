"""Signs that are wrong: the disasters that trained for weeks before anybody looked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from shapestore.store.reader import Store
from tests.quality.defects.conftest import Made
from tests.quality.defects.spoil import Arrays, Change, spoil, values_of
from tests.quality.defects.verdict import assert_caught, examine

SAMPLES = ("vol", "near")


def labelled(store: Store, row: int, tag: str, sdf: np.ndarray) -> Arrays:
    """Samples with another distance, and labels that agree with it: inside, the class of the nearest surface point."""
    nearest = cKDTree(store.row("surface_points", row)).query(store.row(f"{tag}_points", row))[1]
    return {f"{tag}_sdf": sdf, f"{tag}_labels": np.where(sdf < 0, store.row("surface_labels", row)[nearest], 0)}


def by_sign(function: Callable[[np.ndarray], np.ndarray], *tags: str) -> Change:
    """Distances of labelled samples changed by a function, labels with them."""

    def change(store: Store, row: int) -> Arrays:
        changed: dict[str, np.ndarray] = {}
        for tag in tags:
            changed |= labelled(store, row, tag, function(store.row(f"{tag}_sdf", row)))
        return changed

    return change


def one_side_only(store: Store, row: int) -> Arrays:
    """Near samples of the outer half alone: the inner half failed, and the outer one fills its place."""
    outside = np.flatnonzero(store.row("near_sdf", row) > 0)
    chosen = np.resize(outside, len(store.row("near_sdf", row)))
    return {name: store.row(name, row)[chosen] for name in ("near_points", "near_sdf", "near_labels")}


def negative(values: np.ndarray) -> np.ndarray:
    return -np.maximum(np.abs(values), 1e-6)


HEARTS = {
    "all volume distances negative": by_sign(negative, "vol"),
    "all near distances positive": by_sign(np.abs, "near"),
    "99.4 % of volume and 100 % of near distances positive": lambda store, row: {
        **by_sign(lambda sdf: np.where(np.arange(len(sdf)) % 167 == 0, sdf, np.abs(sdf)), "vol")(store, row),
        **by_sign(np.abs, "near")(store, row),
    },
    "near samples on one side only": one_side_only,
    "flipped, labels with them": by_sign(np.negative, *SAMPLES),
}

FLIPPED = values_of(pt_sdf_pool=np.negative, sdf_grid=np.negative)


@pytest.mark.parametrize("rows", [None, [4]], ids=["all rows", "one row"])
@pytest.mark.parametrize("defect", HEARTS)
def test_wrong_signs_of_label_maps_are_caught(
    defect: str, rows: list[int] | None, hearts: Made, tmp_path: Path
) -> None:
    store = spoil(hearts.store, tmp_path / "s.zarr", HEARTS[defect], rows)
    assert_caught(examine(store), "sign-balance", rows=rows or range(5))


@pytest.mark.parametrize("rows", [None, [4]], ids=["all rows", "one row"])
def test_a_flipped_sign_of_meshes_is_caught(rows: list[int] | None, meshes: Made, tmp_path: Path) -> None:
    store = spoil(meshes.store, tmp_path / "s.zarr", FLIPPED, rows)
    assert_caught(examine(store), "sign-balance", rows=rows or range(8))


@pytest.mark.parametrize("name", ["meshes", "hearts"])
def test_a_flipped_sign_contradicts_the_raw_file(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    healthy: Made = request.getfixturevalue(name)
    change = FLIPPED if name == "meshes" else by_sign(np.negative, *SAMPLES)
    store = spoil(healthy.store, tmp_path / "s.zarr", change, rows=[4])
    assert_caught(examine(store, healthy.raw), "distance-truth", rows=[4])
