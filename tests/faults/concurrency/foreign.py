"""What zarr-python and xarray see beside a writer: less than this package promises, and never a wrong value.

They read the root once and then files by their paths. So lengths and attributes are of one commit, and so are all
values that no commit has replaced since. A value that one did replace is that of one commit or of the other. A packed
row that is replaced between the look into its shard's index and the read of its bytes fails its checksum; reading it
again helps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.store.rowcodec import fill_row
from tests.faults.concurrency.history import Clock, arrays_of, column_of, commit_of
from tests.faults.concurrency.sight import ARRAYS, Sight
from tests.store.conftest import tiny_schema

COLUMNS = ("shape_id", "valid", "split", "source_sha256", "scale", "seed", "near_count")

EMPTY = {spec.name: fill_row(spec).tobytes() for spec in tiny_schema().data_arrays}
"""What a row without data holds."""

ATTEMPTS = 20
"""How often to read what fails its checksum before that counts as damage."""


class Unstable(AssertionError):
    """A row goes on failing its checksum."""


def see_zarr(path: Path, clock: Clock, rng: np.random.Generator) -> Sight:
    """Read rows and index arrays with zarr-python, by its default of consolidated metadata."""
    import zarr

    first = clock.done.value
    group = zarr.open_group(path, mode="r")
    sight = Sight(first, clock.begun.value)
    rows = group["valid"].shape[0]
    sight.narrow("the root", lambda number: rows == len(commit_of(number).rows))
    assert {group[name].shape[0] for name in (*ARRAYS, *COLUMNS)} == {rows}
    _see(lambda name: group[name], first, clock, rows, rng)
    return sight


def see_xarray(path: Path, clock: Clock, rng: np.random.Generator) -> Sight:
    """Read rows and index arrays with xarray, by its default of consolidated metadata."""
    import xarray

    first = clock.done.value
    with xarray.open_zarr(path, chunks=None) as dataset:
        sight = Sight(first, clock.begun.value)
        rows = dataset.sizes["shape"]
        sight.narrow("the root", lambda number: rows == len(commit_of(number).rows))
        _see(lambda name: dataset[name].variable, first, clock, rows, rng)
    return sight


def _see(array: Callable[[str], Any], first: int, clock: Clock, rows: int, rng: np.random.Generator) -> None:
    for name in rng.permutation(COLUMNS).tolist():
        values = np.asarray(array(name)[...]).tolist()
        seen = Sight(first, clock.begun.value)
        seen.narrow(name, lambda number, name=name, values=values: values == column_of(number, name)[:rows])
    for name in ARRAYS:
        for row in rng.permutation(rows)[:8].tolist():
            data = _row(array(name), row).tobytes()
            seen = Sight(first, clock.begun.value)
            seen.narrow(
                f"{name}, row {row},",
                lambda number, name=name, row=row, data=data: _is_of(number, name, row, data),
            )


def _row(array: Any, row: int) -> NDArray[Any]:
    for _ in range(ATTEMPTS):
        try:
            values: NDArray[Any] = np.asarray(array[row])
        except ValueError as error:
            if "checksum" not in str(error).lower():
                raise
        else:
            return values
    raise Unstable(f"row {row} of {array} still fails its checksum after {ATTEMPTS} attempts")


def _is_of(number: int, name: str, row: int, data: bytes) -> bool:
    commit = commit_of(number)
    if row >= len(commit.rows):
        return False
    held = commit.rows[row]
    return data == (EMPTY[name] if held.failed else arrays_of(row, held.version)[name].tobytes())
