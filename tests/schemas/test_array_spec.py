"""`ArraySpec`: what it refuses, and the sizes that it derives."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shapestore.schemas.array import ArraySpec, DType

VALID: dict[str, Any] = {
    "name": "pc_xyz",
    "dims": ("pc_point", "xyz"),
    "shape": (5, 3),
    "dtype": "float32",
    "long_name": "points",
    "role": "points",
}


def spec(**changes: Any) -> ArraySpec:
    return ArraySpec.model_validate(VALID | changes)


REFUSED = {
    "a dimension without a name": {"dims": ("pc_point",)},
    "a name without a dimension": {"shape": (5,)},
    "a dimension named twice": {"dims": ("xyz", "xyz")},
    "the row dimension again": {"dims": ("shape", "xyz")},
    "an empty dimension": {"shape": (0, 3)},
    "a name with a slash": {"name": "a/b"},
    "an upper-case name": {"name": "Points"},
    "a name of 65 characters": {"name": "a" * 65},
    "an empty name": {"name": ""},
    "a name that ends in a newline": {"name": "pc_xyz\n"},
    "a reserved prefix": {"name": "__pc"},
    "an unknown type": {"dtype": "complex64"},
    "big-endian": {"dtype": ">f4"},
    "8-byte rows in a map": {"dtype": "float64"},
    "8-byte integers in a map": {"dtype": "int64"},
    "8-byte packed rows": {"dtype": "int64", "kind": "packed"},
    "strings in a map": {"dtype": "string"},
    "half floats in a map": {"dtype": "float16"},
    "half floats in an index": {"dtype": "float16", "kind": "index"},
    "an unknown kind": {"kind": "ragged"},
    "a misspelt field": {"unit": "mm"},
    "no meaning": {"long_name": None},
    "a code without a name": {"codes": ({"value": 1, "name": ""},)},
    "a fill that is not finite": {"fill": float("nan")},
    "a fill beyond the type": {"dtype": "uint8", "fill": 256},
    "a negative fill of an unsigned type": {"dtype": "uint8", "fill": -1},
    "a fractional fill of an integer type": {"dtype": "int32", "fill": 0.5},
    "a text as fill of numbers": {"fill": "none"},
    "a number as fill of strings": {"dtype": "string", "kind": "index", "fill": 1, "dims": (), "shape": ()},
    "a code beyond the type": {"dtype": "int8", "codes": ({"value": 128, "name": "big"},)},
    "a code declared twice": {"dtype": "int8", "codes": ({"value": 1, "name": "a"}, {"value": 1, "name": "b"})},
    "a meaning declared twice": {"dtype": "int8", "codes": ({"value": 1, "name": "a"}, {"value": 2, "name": "a"})},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**changes)


@pytest.mark.parametrize("dtype", get_args(DType))
def test_each_type_is_possible_where_it_should_be(dtype: str) -> None:
    kind = {"float16": "packed", "int64": "index", "float64": "index", "string": "index"}.get(dtype, "mapped")
    made = spec(dtype=dtype, kind=kind, fill="" if dtype == "string" else 0)
    assert made.numpy_dtype == (np.dtype(object) if dtype == "string" else np.dtype(dtype))
    assert made.numpy_dtype.byteorder in "=<|"


@given(shape=st.lists(st.integers(1, 50), max_size=4), dtype=st.sampled_from(["int8", "uint16", "float32"]))
def test_row_bytes_are_those_of_a_numpy_row(shape: list[int], dtype: str) -> None:
    made = spec(shape=tuple(shape), dims=tuple(f"d{i}" for i in range(len(shape))), dtype=dtype)
    assert made.row_bytes == np.zeros(shape, dtype).nbytes


def test_refusal_names_the_array() -> None:
    with pytest.raises(ValidationError, match=r"pc_xyz: float64 is only possible in an index array"):
        spec(dtype="float64")
