"""From the members of one npz file to the arrays of the store: same values, in the declared shape and dtype."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.sources.npz_file import NpzFile
from shapestore.preprocess.sources.npz_keys import COUNTED, ONE_HOT_CLASSES, SCAN_ZEROS, row_shape
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.cache_schema import cache_families
from shapestore.schemas.recipe import CachePart

Arrays = dict[str, NDArray[Any]]


def adopt(file: NpzFile, part: CachePart) -> Arrays:
    """Read every array that `part` adopts.

    Values are never changed: a narrower dtype is taken only if it holds every value exactly.

    Raises
    ------
    InputRefused
        MALFORMED: a key is missing, has another shape, or values that the declared dtype cannot hold. OVER_CAPACITY:
        more samples than the store has room for. RULE: codes that are not one-hot; zeros that are not.
    """
    missing = sorted(part.shapes.keys() - file.headers.keys())
    if missing:
        raise InputRefused(Reason.MALFORMED, f"keys that the cache has otherwise are missing: {', '.join(missing)}")
    if part.layout == "nepa-scan":
        _refuse_nonzero(file, (key for key in SCAN_ZEROS if key in file.headers))
    specs = {spec.name: spec for family in cache_families(part) for spec in family.arrays()}
    sizes = {tag: _sample_count(file, part, tag) for tag in COUNTED if f"{tag}_points" in part.shapes}
    for key in part.shapes:
        _refuse_shape(file, part, key, specs[key], sizes.get(key.split("_")[0]))
    arrays = {key: _row(file, part, key, specs[key]) for key in sorted(part.shapes)}
    return arrays | {f"{tag}_count": np.array(size, dtype="<i4") for tag, size in sizes.items()}


def exactly(values: NDArray[Any], dtype: np.dtype[Any], key: str) -> NDArray[Any]:
    """`values` as `dtype`, if that changes no value.

    Raises
    ------
    InputRefused
        MALFORMED: some value has no equal in `dtype`.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
    changed = int(np.count_nonzero((cast != values) & ~(_nan(cast) & _nan(values))))
    if changed:
        raise InputRefused(
            Reason.MALFORMED,
            f"{key}: expected values that {dtype} can hold, got {counted(changed, 'value')} of {values.dtype} that it "
            "cannot",
        )
    return cast


def codes_of_one_hot(rows: NDArray[Any], key: str) -> NDArray[np.int8]:
    """(n, C) one-hot rows to (n,) codes, where column i is code i + 1.

    Raises
    ------
    InputRefused
        RULE: a row does not hold a single 1 and zeros.
    """
    wrong = int(np.count_nonzero(((rows != 0).sum(axis=1) != 1) | ((rows == 1).sum(axis=1) != 1)))
    if wrong:
        raise InputRefused(Reason.RULE, f"{key}: expected exactly one 1 a row and zeros, got {wrong} other rows")
    codes: NDArray[np.int8] = (rows.argmax(axis=1) + 1).astype(np.int8)
    return codes


def _nan(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)


def _row(file: NpzFile, part: CachePart, key: str, spec: ArraySpec) -> NDArray[Any]:
    """One array in the declared dtype; samples whose number varies are followed by zeros up to the capacity."""
    values = file.array(key)
    if part.layout == "vecsetx" and key == "surface_labels" and values.ndim == 2:
        values = codes_of_one_hot(values, key)
    values = exactly(values.reshape(row_shape(part.layout, key, values.shape)), spec.numpy_dtype, key)
    if values.shape == spec.shape:
        return values
    padded = np.zeros(spec.shape, dtype=spec.numpy_dtype)
    padded[: len(values)] = values
    return padded


def _sample_count(file: NpzFile, part: CachePart, tag: str) -> int:
    """Samples in this file, if there is room for them."""
    shape, capacity = file.headers[f"{tag}_points"].shape, part.shapes[f"{tag}_points"][0]
    size = shape[0] if shape else 0
    if size > capacity:
        raise InputRefused(
            Reason.OVER_CAPACITY,
            f"{tag}_points: expected at most {capacity} points, got {size}. Build the store with a larger capacity.",
        )
    return size


def _refuse_shape(file: NpzFile, part: CachePart, key: str, spec: ArraySpec, size: int | None) -> None:
    """Compare shapes before any data is read: `size` is the number of samples where it varies."""
    expected = spec.shape if size is None else (size, *spec.shape[1:])
    header = file.headers[key]
    if row_shape(part.layout, key, header.shape) != expected:
        hint = f" or {(*expected, ONE_HOT_CLASSES)}" if key == "surface_labels" else ""
        raise InputRefused(Reason.MALFORMED, f"{key}: expected {spec.dtype} {expected}{hint}, got {header}")


def _refuse_nonzero(file: NpzFile, keys: Iterable[str]) -> None:
    filled = [key for key in keys if not file.is_zero(key)]
    if filled:
        raise InputRefused(
            Reason.RULE,
            f"{', '.join(filled)}: expected only zeros, as in a cache of scans, got other values. If these are meshes, "
            "ingest them with --set cache.layout=nepa-mesh --set cache.shapes={}.",
        )
