"""Others can check a store with nothing but the shipped JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shapestore.store.convention import convention_schema, shipped_schema
from shapestore.store.root import CONVENTION, KEY
from tests.store.conftest import Built


def test_the_shipped_schema_is_the_model() -> None:
    """Written anew with: json.dump(convention_schema(), ...)."""
    assert shipped_schema() == convention_schema()


def test_a_store_keeps_the_convention_that_it_declares(built: Built) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the judge of JSON schemas is not installed")
    attributes = json.loads(Path(built.path / "zarr.json").read_bytes())["attributes"]
    assert attributes["zarr_conventions"] == [CONVENTION]
    jsonschema.validate(attributes[KEY], shipped_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**attributes[KEY], "rows": "many"}, shipped_schema())
