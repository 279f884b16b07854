"""What holds for every model: frozen, closed, documented, and the same after a round trip through JSON."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
from functools import cached_property
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import shapestore.schemas
from shapestore.schemas.base import Strict, canonical_json, digest
from shapestore.schemas.families import Family
from shapestore.schemas.provenance import Provenance
from shapestore.schemas.recipe import PointsPart, Recipe
from shapestore.schemas.recipe_file import BUILT_IN, load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.root import Root


def models() -> list[type[BaseModel]]:
    """Every model of the schemas."""
    for module in pkgutil.walk_packages(shapestore.schemas.__path__, "shapestore.schemas."):
        importlib.import_module(module.name)
    found: list[type[BaseModel]] = []
    pending: list[type[BaseModel]] = [Strict]
    while pending:
        pending += (children := pending.pop().__subclasses__())
        found += [model for model in children if model.__module__.startswith("shapestore.schemas")]
    return sorted(found, key=lambda model: model.__name__)


every_model = pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@every_model
def test_model_is_frozen_and_closed(model: type[BaseModel]) -> None:
    assert model.model_config["frozen"] is True
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["allow_inf_nan"] is False


@every_model
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    bare = [name for name, field in model.model_fields.items() if not field.description]
    assert issubclass(model, Family) or not bare
    assert set(bare) <= {"family"}


def test_a_field_can_neither_be_set_nor_misspelt() -> None:
    part = PointsPart()
    with pytest.raises(ValidationError, match="frozen"):
        part.count = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        PointsPart.model_validate({"counts": 1})
    with pytest.raises(ValidationError, match="finite"):
        Provenance(source="a", source_sha256="0" * 64, seed=0, shift=(float("inf"), 0, 0))


@given(value=json_values)
def test_canonical_json_is_json_without_white_space(value: Any) -> None:
    encoded = canonical_json(value)
    assert json.loads(encoded) == value
    assert canonical_json(json.loads(encoded)) == encoded


@given(value=st.dictionaries(st.text(max_size=4), json_values, max_size=5), seed=st.integers(0, 9))
def test_digest_depends_on_no_order_of_keys(value: dict[str, Any], seed: int) -> None:
    keys = list(value)
    random.Random(seed).shuffle(keys)
    assert digest({key: value[key] for key in keys}) == digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_has_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"x": value})


@pytest.mark.parametrize("name", BUILT_IN)
def test_recipe_schema_and_root_survive_json(name: str) -> None:
    recipe = load_recipe(name)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    schema = schema_of(recipe)
    again = StoreSchema.model_validate_json(schema.model_dump_json())
    assert again == schema
    assert again.arrays == schema.arrays
    root = Root(
        schema=schema,
        recipe=recipe,
        recipe_digest=recipe.digest,
        source_kind="meshes",
        rows_per_shard=schema.rows_per_shard(),
    )
    own = json.loads(root.to_bytes())["attributes"]["shapestore"]
    signed = own.pop("sha256")
    read = Root.model_validate(own)
    assert read == root
    assert read.sha256 == signed
    assert read.to_bytes() == root.to_bytes()


def test_a_changed_copy_forgets_what_was_worked_out_of_the_old_fields() -> None:
    class Square(Strict):
        side: int

        @cached_property
        def area(self) -> int:
            return self.side**2

    square = Square(side=2)
    assert square.area == 4
    assert square.model_copy(update={"side": 3}).area == 9
    assert square.area == 4
