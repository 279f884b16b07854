"""Samples are turned, never mirrored, each visit another way, and points and normals alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from shapestore import api
from shapestore.errors import UsageError
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import RandomDraw
from shapestore.train.data.rotation import random_rotation
from shapestore.train.data.visit import Visit

DRAW = RandomDraw(arrays=("pc_xyz", "pc_n"), count=16)


@given(seed=st.integers(0, 2**32), degrees=st.floats(0, 180))
def test_a_rotation_is_one_of_at_most_that_angle(seed: int, degrees: float) -> None:
    rotation = random_rotation(np.random.default_rng(seed), degrees).astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
    assert np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))) <= degrees + 0.05


def test_angles_reach_to_both_ends() -> None:
    random = np.random.default_rng(0)
    angles = [np.arccos(np.clip((np.trace(random_rotation(random, 90)) - 1) / 2, -1, 1)) for _ in range(400)]
    assert np.degrees(np.mean(angles)) == pytest.approx(45, abs=4)


def test_points_and_normals_turn_together_and_are_another_way_at_each_visit(path: Path) -> None:
    still = ShapeDataset(path, draws=[DRAW], seed=3)
    turning = ShapeDataset(path, draws=[DRAW], seed=3, rotation=40)
    found = []
    for visit in (Visit(0, 0), Visit(0, 1), Visit(0, 0, 1), Visit(1, 0)):
        before, after = still[visit], turning[visit]
        rotation, *_ = np.linalg.lstsq(before["pc_xyz"].numpy(), after["pc_xyz"].numpy(), rcond=None)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
        assert np.linalg.det(rotation) > 0
        np.testing.assert_allclose(before["pc_n"].numpy() @ rotation, after["pc_n"].numpy(), atol=1e-4)
        found.append(rotation)
    assert all(np.abs(found[i] - found[j]).max() > 1e-3 for i in range(4) for j in range(i))


def test_a_batch_turns_each_of_its_samples_on_its_own(path: Path) -> None:
    dataset = ShapeDataset(path, draws=[DRAW], rotation=30)
    visits = [Visit(2, 1), Visit(0, 1)]
    batch = dataset.__getitems__(visits).batch
    for position, visit in enumerate(visits):
        np.testing.assert_array_equal(batch["pc_xyz"][position], dataset[visit]["pc_xyz"])


def test_another_rotation_is_another_dataset(path: Path) -> None:
    assert ShapeDataset(path, draws=[DRAW]).identity() != ShapeDataset(path, draws=[DRAW], rotation=5).identity()
    with pytest.raises(UsageError, match="0 to 180"):
        ShapeDataset(path, draws=[DRAW], rotation=200)


def test_an_angle_is_the_same_as_an_integer(path: Path) -> None:
    whole, real = (ShapeDataset(path, draws=[DRAW], rotation=angle) for angle in (30, 30.0))
    assert whole.identity() == real.identity()


def test_what_does_not_turn_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    trimesh.creation.box().export(tmp_path / "raw" / "box.off")
    settings = ["input=[mesh]", "points.count=64", "points.fps_order=0", "grid.size=8", "grid.udf=surface"]
    api.ingest("meshes", tmp_path / "raw", tmp_path / "s.zarr", recipe="points", settings=settings, workers=0)
    store = api.open(tmp_path / "s.zarr")
    drawn = RandomDraw(arrays=("pc_xyz",), count=16)
    for field in ("udf_grid", "shift"):
        ShapeDataset(store, [field], draws=[drawn])
        with pytest.raises(UsageError, match=f"{field} does not turn with the points"):
            ShapeDataset(store, [field], draws=[drawn], rotation=10)
    ShapeDataset(store, ["scale"], draws=[drawn], rotation=10)
