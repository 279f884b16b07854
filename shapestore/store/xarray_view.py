"""A store as an xarray dataset: labelled dimensions, index arrays as coordinates, shards as lazy dask chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec

if TYPE_CHECKING:
    import xarray

    from shapestore.store.reader import Store


def dataset(store: Store) -> xarray.Dataset:
    """All valid rows of `store`; reading a chunk reads one shard through the store, with its checks."""
    import xarray

    rows = store.rows()
    coordinates = {
        column.path: (
            column.dims,
            _decoded(store, column.path)[rows],
            {"units": column.units, "long_name": column.long_name},
        )
        for column in store.root.row_columns
        if column.path != "valid"
    }
    variables = {spec.name: _lazy(store, spec, rows) for spec in store.root.content.data_arrays}
    return xarray.Dataset(variables, coordinates, {"recipe": store.root.recipe.name, "store": str(store.path)})


def _decoded(store: Store, name: str) -> NDArray[Any]:
    """Values of an index array; names in the place of codes."""
    values = store.index(name)
    if name not in store.root.codes:
        return values
    names: NDArray[Any] = np.array([*store.root.codes[name], ""], dtype=object)
    named: NDArray[Any] = names[values]  # code -1, no name, is the last
    return named


def _lazy(store: Store, spec: ArraySpec, rows: NDArray[np.int64]) -> xarray.Variable:
    import dask.array
    import xarray

    groups = rows // store.root.rows_per_shard
    blocks = [rows[groups == group] for group in np.unique(groups)]
    parts = [
        dask.array.from_delayed(_block(store, spec.name, block), (len(block), *spec.shape), spec.numpy_dtype)
        for block in blocks
    ]
    data = dask.array.concatenate(parts) if parts else np.empty((0, *spec.shape), spec.numpy_dtype)
    attributes = {"units": spec.units, "long_name": spec.long_name, "role": spec.role}
    return xarray.Variable(("shape", *spec.dims), data, attributes)


def _block(store: Store, name: str, rows: NDArray[np.int64]) -> Any:
    import dask

    return dask.delayed(_read, pure=True)(store, name, rows)


def _read(store: Store, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    return store.read(rows, [name])[name]
