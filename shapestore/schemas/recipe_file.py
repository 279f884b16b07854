"""Recipes of stores as people give them, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from shapestore.errors import Problem, RecipeInvalid
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.row_size import oversized
from shapestore.schemas.settings_file import in_words, read_settings

BUILT_IN = ("nepa-shapenet", "nepa-scanobjectnn", "nepa-modelnet40", "cardiac-sdf", "points", "npz")
"""Names of the recipes that ship with the package."""


def load_recipe(name_or_file: str, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name_or_file
        Name of a built-in recipe, or path of a YAML file.
    settings
        `key=value` texts such as `points.count=1024`; the value is read as YAML.

    Raises
    ------
    RecipeInvalid
        Unknown name, bad YAML, unknown or misspelt keys, values out of range: every problem at once.
    """
    folder = files("shapestore.schemas.recipes")
    built_in = {name: folder.joinpath(f"{name}.yaml") for name in BUILT_IN}
    return parse_recipe(read_settings(name_or_file, built_in, settings), f"recipe {name_or_file}")


def parse_recipe(values: Any, what: str) -> Recipe:
    """Check plain values against the model; `what` heads the error."""
    with in_words(Recipe, what):
        recipe = Recipe.model_validate(values)
        # A cache's shapes are filled in later, by looking at its files.
        arrays = () if recipe.cache else schema_of(recipe).data_arrays
    if too_large := list(oversized(arrays)):
        raise RecipeInvalid(what, [Problem("recipe", "rows that fit in memory", each) for each in too_large])
    return recipe


def recipe_difference(stored: Recipe, asked: Recipe) -> list[Problem]:
    """Every value in which two recipes differ, by its dotted key."""
    before, after = _flat(stored.canonical()), _flat(asked.canonical())
    return [
        Problem(key, f"{before.get(key)!r}, as the store was built with", repr(after.get(key)))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
