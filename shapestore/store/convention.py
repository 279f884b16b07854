"""The root attribute `shapestore` as a JSON schema, so that others can check a store without this package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from shapestore.store.root import CONVENTION, Root

FILE = "convention.json"
"""The schema, beside this file; a test holds that it is what `convention_schema` says."""


def convention_schema() -> dict[str, Any]:
    """JSON schema of what lies under the root attribute `shapestore`."""
    schema = Root.model_json_schema(by_alias=True, mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"urn:uuid:{CONVENTION['uuid']}"
    schema["properties"]["sha256"] = {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "Sha256 of the root's canonical JSON, this field left out.",
    }
    return schema


def shipped_schema() -> dict[str, Any]:
    """The schema that ships with the package."""
    schema: dict[str, Any] = json.loads(files("shapestore.store").joinpath(FILE).read_text("utf-8"))
    return schema
