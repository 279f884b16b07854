"""`StoreSchema.require`: a record is checked whole, and every problem is in one error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shapestore.errors import RecordInvalid
from shapestore.schemas.provenance import Provenance
from shapestore.schemas.record import MAX_ID_BYTES, ShapeRecord
from shapestore.schemas.store_schema import StoreSchema
from tests.store.conftest import row_arrays, tiny_schema

ORIGIN = Provenance(source="raw/a.obj", source_sha256="0" * 64, seed=0)
SCHEMA = tiny_schema()


def arrays(**changes: Any) -> dict[str, Any]:
    return row_arrays(0) | {"near_count": np.array(3, np.int32)} | changes


def record(shape_id: str = "a/b", /, **changes: Any) -> ShapeRecord:
    held = {name: value for name, value in arrays(**changes).items() if value is not None}
    return ShapeRecord(shape_id=shape_id, group="a", provenance=ORIGIN, arrays=held)


def places(schema: StoreSchema, checked: ShapeRecord) -> list[str]:
    with pytest.raises(RecordInvalid) as caught:
        schema.require(checked)
    assert str(caught.value).count("\n  - ") == len(caught.value.problems)
    return [problem.place for problem in caught.value.problems]


@pytest.mark.parametrize("row", range(5))
def test_a_good_record_passes(row: int) -> None:
    SCHEMA.require(record(**row_arrays(row)))


def test_all_broken_rules_are_in_one_error() -> None:
    broken = record(
        pc_xyz=np.full((12, 3), 2, np.float32),
        pc_n=np.zeros((12, 3), np.float32),
        pc_fps_order=np.zeros(5, np.int32),
        pc_mask=np.zeros(12, np.int8),
        udf_grid=np.full((3, 3, 3), -1, np.float16),
        near_count=np.array(7, np.int32),
    )
    wrong = {"pc_xyz", "pc_n", "pc_fps_order", "pc_mask", "udf_grid", "near_count"}
    assert {place.removeprefix("a/b/") for place in places(SCHEMA, broken)} == wrong


def test_all_layout_problems_are_in_one_error() -> None:
    broken = record(
        pc_xyz=None,
        pc_n=np.zeros((12, 3), np.float64),
        pc_mask=np.zeros(11, np.int8),
        udf_grid=np.zeros((3, 3, 3), ">f2"),
        extra=np.zeros(1),
    )
    wrong = {"pc_xyz", "pc_n", "pc_mask", "udf_grid", "extra"}
    assert {place.removeprefix("a/b/") for place in places(SCHEMA, broken)} == wrong


def test_a_missing_array_hides_no_broken_rule_of_others() -> None:
    broken = record(pc_mask=None, pc_n=np.full((12, 3), np.nan, np.float32))
    assert {place.removeprefix("a/b/") for place in places(SCHEMA, broken)} == {"pc_mask", "pc_n"}


def test_undeclared_arrays_are_named_in_a_fixed_order() -> None:
    extra: dict[str, Any] = {f"extra_{letter}": np.zeros(1) for letter in "abcdefghij"}
    assert places(SCHEMA, record(**extra)) == [f"a/b/{name}" for name in extra]


@pytest.mark.parametrize("shape_id", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a\0b", "a\u202eb", "x" * 513])
def test_ids_that_name_no_row_are_refused(shape_id: str) -> None:
    with pytest.raises(ValidationError):
        record(shape_id)


@given(parts=st.lists(st.text("abcäöü-_ .#", min_size=3, max_size=9).filter(lambda s: s.strip(".")), min_size=1))
def test_printable_relative_paths_are_ids(parts: list[str]) -> None:
    shape_id = "/".join(parts)
    if len(shape_id.encode()) <= MAX_ID_BYTES:
        assert record(shape_id).shape_id == shape_id


def test_arrays_must_be_arrays() -> None:
    with pytest.raises(ValidationError):
        record(pc_mask=[0] * 12)


def test_nbytes_is_the_size_of_all_arrays() -> None:
    assert record().nbytes == sum(np.asarray(value).nbytes for value in arrays().values())


@given(
    scale=st.floats(max_value=0) | st.just(float("nan")) | st.just(float("inf")),
    sha256=st.text("0123456789abcdefg", min_size=60, max_size=66).filter(lambda s: "g" in s or len(s) != 64),
)
def test_provenance_refuses_what_leads_nowhere(scale: float, sha256: str) -> None:
    for changes in ({"scale": scale}, {"source_sha256": sha256}, {"seed": -1}, {"source": ""}):
        with pytest.raises(ValidationError):
            Provenance.model_validate(ORIGIN.model_dump() | changes)
