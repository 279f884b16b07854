"""A store is plain Zarr v3: other readers open it without this package, see the same values, and warn of nothing."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.metadata import ArrayV3Metadata

import shapestore
from tests.store.conftest import CATEGORIES, ROWS_PER_SHARD, SPLITS, Built, MakeStore

FORBID = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "shapestore":
            raise ImportError("shapestore must not be needed to read a store")

sys.meta_path.insert(0, Forbidden())
"""

SAVE = """
plain = {n: v.astype(object) if v.dtype.kind in "TU" else np.asarray(v) for n, v in found.items()}
with open(out, "wb") as file:
    pickle.dump(plain, file)
"""

READERS = {
    "zarr-consolidated": "group = zarr.open_group(path, mode='r', use_consolidated=True)",
    "zarr-plain": "group = zarr.open_group(path, mode='r', use_consolidated=False)",
}

ZARR = """
import numpy as np, pickle, sys, zarr
path, out = sys.argv[1:]
{open}
found = {{name: array[...] for name, array in group.members(max_depth=None) if hasattr(array, "shape")}}
"""

XARRAY = """
import numpy as np, pickle, sys, xarray
path, out = sys.argv[1:]
dataset = xarray.open_zarr(path, chunks=None).chunk(shape={rows})
assert {{"shape_id", "split", "valid", "near_count", "shift"}} <= set(dataset.coords), dataset.coords
assert {{"pc_xyz", "udf_grid"}} <= set(dataset.data_vars), dataset.data_vars
found = {{name: dataset[name].values for name in dataset.variables}}
"""

TENSORSTORE = """
import json, numpy as np, pathlib, pickle, sys, tensorstore
path, out = sys.argv[1:]
nodes = json.loads(pathlib.Path(path, "zarr.json").read_text())["consolidated_metadata"]["metadata"]
found = {}
for name, node in nodes.items():
    if node["node_type"] == "array" and node["data_type"] != "string":
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(pathlib.Path(path, name))}}
        found[name] = tensorstore.open(spec, read=True).result().read().result()
"""


def foreign(code: str, path: Path, out: Path) -> dict[str, Any]:
    """All values that `code` reads of a store, in a process that cannot import this package and where warnings fail."""
    command = [sys.executable, "-W", "error", "-c", FORBID + code + SAVE, str(path), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = pickle.loads(out.read_bytes())
    return found


def expected_rows(built: Built, name: str) -> Any:
    """What was written into every row of a data array, fill values where a row is quarantined."""
    spec = built.schema.by_name[name]
    empty = np.full(spec.shape, spec.fill, spec.numpy_dtype)
    return np.stack([empty if row in built.failed else built.arrays(row)[name] for row in range(built.rows)])


def assert_written(found: dict[str, Any], built: Built) -> None:
    """Every data array has exactly the bytes that were written."""
    for spec in built.schema.data_arrays:
        assert found[spec.name].dtype == spec.numpy_dtype
        assert found[spec.name].tobytes() == expected_rows(built, spec.name).tobytes(), spec.name


def assert_index_written(found: dict[str, Any], built: Built, strings: bool = True) -> None:
    """Every index array says what was written."""
    entries = [built.entry(row) for row in range(built.rows)]
    names = [*SPLITS, ""], [*CATEGORIES, ""]
    assert found["valid"].tolist() == [entry.failure is None for entry in entries]
    assert [names[0][code] for code in found["split"]] == [entry.split for entry in entries]
    assert [names[1][code] for code in found["category"]] == [entry.category for entry in entries]
    assert found["shift"].tolist() == [list(entry.shift) for entry in entries]
    assert found["scale"].tolist() == [entry.scale for entry in entries]
    assert found["seed"].tolist() == [entry.seed for entry in entries]
    assert found["near_count"].tolist() == [entry.declared.get("near_count", 0) for entry in entries]
    for name in ("shape_id", "group", "source", "source_sha256") if strings else ():
        assert found[name].tolist() == [getattr(entry, name) for entry in entries]


@pytest.mark.parametrize("how", READERS)
def test_zarr_reads_what_was_written(built: Built, tmp_path: Path, how: str) -> None:
    found = foreign(ZARR.format(open=READERS[how]), built.path, tmp_path / "found.pickle")
    assert_written(found, built)
    assert_index_written(found, built)
    failed = [built.entry(row) for row in sorted(built.failed)]
    assert found["quarantine/row"].tolist() == sorted(built.failed)
    assert found["quarantine/reason"].tolist() == [entry.failure.reason for entry in failed if entry.failure]
    assert found["provenance/traceback"].tolist() == [entry.failure.traceback for entry in failed if entry.failure]
    assert found["provenance/notes"][1] == "first\nsecond"


def test_xarray_reads_what_was_written(built: Built, tmp_path: Path) -> None:
    found = foreign(XARRAY.format(rows=ROWS_PER_SHARD), built.path, tmp_path / "found.pickle")
    assert_written(found, built)
    assert_index_written(found, built)


def test_tensorstore_reads_what_was_written(built: Built, tmp_path: Path) -> None:
    found = foreign(TENSORSTORE, built.path, tmp_path / "found.pickle")
    assert_written(found, built)
    assert_index_written(found, built, strings=False)
    assert {"quarantine/row", "integrity/size", "integrity/sha256", "provenance/commit"} <= found.keys()


@pytest.mark.parametrize("rows", [0, 1])
def test_all_readers_open_a_store_of_no_or_one_row(make_store: MakeStore, tmp_path: Path, rows: int) -> None:
    small = make_store(rows, failed=())
    for number, code in enumerate([*(ZARR.format(open=how) for how in READERS.values()), TENSORSTORE]):
        found = foreign(code, small.path, tmp_path / f"{number}.pickle")
        assert all(len(found[spec.name]) == rows for spec in small.schema.data_arrays)
    found = foreign(XARRAY.format(rows=ROWS_PER_SHARD), small.path, tmp_path / "x.pickle")
    assert all(len(found[spec.name]) == rows for spec in small.schema.data_arrays)
    assert len(shapestore.open(small.path).rows()) == rows


def test_consolidated_metadata_equals_every_node(built: Built) -> None:
    root = json.loads((built.path / "zarr.json").read_text())
    nodes = {str(f.parent.relative_to(built.path)): json.loads(f.read_text()) for f in built.path.rglob("zarr.json")}
    nodes.pop(".")
    assert root["consolidated_metadata"] == {"kind": "inline", "must_understand": False, "metadata": nodes}


def test_no_file_lies_beside_the_nodes(built: Built) -> None:
    """Listers of Zarr stores warn of such files."""
    group = zarr.open_group(built.path, mode="r")
    for file in built.path.rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            array, _, chunk = str(file.relative_to(built.path)).partition("/c/")
            assert chunk.replace("/", "").isdigit(), file
            assert isinstance(group[array], zarr.Array)


def test_dimensions_units_and_codes_are_declared(built: Built) -> None:
    group = zarr.open_group(built.path, mode="r")
    for spec in built.schema.data_arrays:
        array = group[spec.name]
        assert isinstance(array.metadata, ArrayV3Metadata)
        assert array.metadata.dimension_names == ("shape", *spec.dims)
        assert (array.attrs["units"], array.attrs["long_name"], array.attrs["role"]) == (
            spec.units,
            spec.long_name,
            spec.role,
        )
        assert array.attrs.get("pool") == spec.pool
    assert group["near_labels"].attrs["flag_values"] == [0, 1, 2]
    assert group["near_labels"].attrs["flag_meanings"] == "outside left_atrium aorta"
    assert group["category"].attrs["flag_meanings"] == "airplane bed_side_table chair"
    assert group["category"].attrs["categories"] == list(CATEGORIES)


def test_xarray_view_equals_read(built: Built) -> None:
    store = shapestore.open(built.path)
    view = store.to_xarray()
    rows = store.rows()
    assert view.sizes["shape"] == len(rows) == len(built.valid)
    held = store.read(rows, [spec.name for spec in built.schema.data_arrays])
    for name, values in held.items():
        assert view[name].values.tobytes() == values.tobytes()
        assert view[name].dims == ("shape", *built.schema.by_name[name].dims)
        assert view[name].chunks[0] == (7, 7, 5)
    assert view["split"].values.tolist() == [built.entry(row).split for row in built.valid]
    assert view["category"].values.tolist() == [built.entry(row).category for row in built.valid]
    assert view["shape_id"].values.tolist() == [built.entry(row).shape_id for row in built.valid]
    chairs = view.where(view["category"] == "chair", drop=True)
    assert chairs.sizes["shape"] == len(store.rows(category="chair"))


def test_xarray_view_of_an_empty_store(make_store: MakeStore) -> None:
    view = shapestore.open(make_store(0).path).to_xarray()
    assert view.sizes["shape"] == 0
    assert view["pc_xyz"].shape == (0, 12, 3)
