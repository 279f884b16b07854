"""The tool itself: what it leaves behind is a whole store that differs where it was told to, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shapestore import api
from tests.integration.conftest import tree_digest
from tests.quality.defects.conftest import Made
from tests.quality.defects.spoil import spoil, swapped, values_of


def test_spoiling_nothing_changes_no_byte(scans: Made, tmp_path: Path) -> None:
    same = spoil(scans.store, tmp_path / "s.zarr", values_of(pc_xyz=np.array))
    assert tree_digest(same) == tree_digest(scans.store)


def test_only_the_named_arrays_of_the_named_rows_differ(scans: Made, tmp_path: Path) -> None:
    store = spoil(scans.store, tmp_path / "s.zarr", values_of(pt_dist_pool=lambda values: values + 1), rows=[2, 5])
    before, after = api.open(scans.store), api.open(store)
    for name in (spec.name for spec in before.root.content.data_arrays):
        healthy, spoilt = (each.read(each.rows(), [name])[name] for each in (before, after))
        if name == "pt_dist_pool":
            healthy[[2, 5]] += 1
        np.testing.assert_array_equal(spoilt, healthy, err_msg=name)


def test_what_is_spoilt_is_whole_to_the_last_checksum(scans: Made, tmp_path: Path) -> None:
    store = spoil(scans.store, tmp_path / "s.zarr", swapped(["pc_fps_order"], lambda row: (row + 1) % 15))
    opened = api.open(store)
    opened.read(opened.rows(), [spec.name for spec in opened.root.content.data_arrays])
    assert api.validate(store, "metadata").findings == ()
    assert not any(
        found.check in ("structure", "integrity") for found in api.validate(store, "full", workers=0).findings
    )


def test_index_arrays_are_changed_by_value_and_by_name(variants: Made, tmp_path: Path) -> None:
    store = spoil(variants.store, tmp_path / "s.zarr", lambda s, row: {"fold": "val", "scale": 2.0}, rows=[3])
    before, after = api.open(variants.store), api.open(store)
    assert after.index("scale")[3] == 2.0
    assert after.names("fold")[after.index("fold")[3]] == "val"
    for name in ("fold", "scale"):
        np.testing.assert_array_equal(np.delete(after.index(name), 3), np.delete(before.index(name), 3))


def test_a_change_of_another_shape_is_refused(scans: Made, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="pc_xyz"):
        spoil(scans.store, tmp_path / "s.zarr", values_of(pc_xyz=lambda values: values[:-1]))
