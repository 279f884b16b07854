"""Recipes as people write them: built in, as YAML files, with single values set, and misspelt."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shapestore.errors import RecipeInvalid
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import BUILT_IN, load_recipe, parse_recipe, recipe_difference

Path_ = tuple[str, ...]


def shipped() -> list[str]:
    return sorted(
        f.name.removesuffix(".yaml") for f in files("shapestore.schemas.recipes").iterdir() if ".yaml" in f.name
    )


def values_of(name: str) -> dict[str, Any]:
    """The values of a built-in recipe, and every other value that its parts have by default."""
    values: dict[str, Any] = json.loads(load_recipe(name).model_dump_json(exclude_none=True))
    return values


def keys(values: dict[str, Any], above: Path_ = ()) -> Iterator[Path_]:
    """Every key at every level, as a path; keys that people choose themselves are left out."""
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict) and key not in ("classes", "storage", "shapes"):
            yield from keys(value, (*above, key))


def misspellings(key: str) -> set[str]:
    """One letter dropped, or two neighbours swapped."""
    dropped = {key[:i] + key[i + 1 :] for i in range(len(key))}
    swapped = {key[:i] + key[i + 1] + key[i] + key[i + 2 :] for i in range(len(key) - 1)}
    return (dropped | swapped) - {key, ""}


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_all_shipped_recipes_are_known_by_name() -> None:
    assert shipped() == sorted(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipe_loads_and_is_called_by_its_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert len(recipe.digest) == 64


@pytest.mark.parametrize("name", BUILT_IN)
@given(seed=st.integers(0, 99), text=st.text(max_size=9))
def test_digest_depends_on_content_alone(name: str, seed: int, text: str) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        order = list(value)
        random.Random(seed).shuffle(order)
        return {key: shuffled(value[key]) for key in order}

    recipe = load_recipe(name)
    values = shuffled(values_of(name)) | {"name": text, "description": text}
    assert Recipe.model_validate(values).digest == recipe.digest
    assert Recipe.model_validate(values | {"seed": recipe.seed + 1}).digest != recipe.digest


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_misspelt_key_is_refused_with_the_right_name(name: str) -> None:
    values = values_of(name)
    for *parents, key in keys(values):
        for wrong in sorted(misspellings(key)):
            changed = copy.deepcopy(values)
            section = changed
            for parent in parents:
                section = section[parent]
            section[wrong] = section.pop(key)
            with pytest.raises(RecipeInvalid) as caught:
                parse_recipe(changed, "recipe")
            place = ".".join([*parents, wrong])
            (problem,) = [problem for problem in caught.value.problems if problem.place == place]
            assert problem.expected == "a known key"
            assert problem.remedy == f"Did you mean {key!r}?"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_key_that_resembles_none_lists_those_that_exist(name: str) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        parse_recipe(values_of(name) | {"zzzzzzzzzzzz": 1}, "recipe")
    (problem,) = caught.value.problems
    assert problem.remedy.startswith("Known: ")
    assert all(key in problem.remedy for key in Recipe.model_fields)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(RecipeInvalid) as caught:
        parse_recipe(
            {"input": ["mesh"], "points": {"cuont": 1, "fps_order": -1}, "grid": {"size": 0, "udf": "x"}, "ryas": {}},
            "recipe",
        )
    places = {problem.place for problem in caught.value.problems}
    assert places == {"points.cuont", "points.fps_order", "grid.size", "grid.udf", "ryas"}


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\ninput: [mesh]", "input: [mesh]\npoints: {count: 1, count: 2}"])
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeInvalid, match="given twice"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "[1, 2]",
        "input: [mesh",
        "input: !!python/object:os.system x",
        "\tinput: x",
        "1: x\ninput: [mesh]\npoints: {}",
        "? [a, b]\n: c",
        "input: \x07",
        b"\xff\xfe\x00i",
        b"description: \xe4\ninput: [mesh]\npoints: {}",
    ],
)
def test_what_is_no_recipe_is_refused_in_words(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(RecipeInvalid):
        load_recipe(write(tmp_path, text))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeInvalid, match=r"Did you mean 'nepa-shapenet'\?"):
        load_recipe("nepa-shapnet")


def test_a_file_and_its_built_in_twin_are_the_same_recipe(tmp_path: Path) -> None:
    for name in BUILT_IN:
        text = yaml.safe_dump(values_of(name), sort_keys=True)
        assert load_recipe(write(tmp_path, text)) == load_recipe(name)


@given(count=st.integers(1, 5000), ratio=st.floats(0, 1))
def test_settings_reach_their_place(count: int, ratio: float) -> None:
    settings = [f"queries.count={count + 4096}", f"queries.near_ratio={ratio!r}", f"queries.sigma={1 / count}"]
    recipe = load_recipe("nepa-shapenet", [*settings, "rays=null", "storage.udf_grid=mapped", "name=a=b"])
    assert recipe.queries is not None
    assert (recipe.queries.count, recipe.queries.near_ratio) == (count + 4096, ratio)
    assert recipe.rays is None
    assert recipe.storage == {"udf_grid": "mapped"}
    assert recipe.name == "a=b"


def test_the_last_of_two_settings_holds() -> None:
    assert load_recipe("points", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    "setting",
    [
        "points.count",
        "=1",
        "",
        "points.cuont=1",
        "pionts.count=1",
        "seed.x=1",
        "points.count.x=1",
        "points.count=many",
        "points..count=1",
        "points.count=[",
        "points.count={",
        "points={count: 8, count: 16, fps_order: 0}",
        "input.0=mesh",
    ],
)
def test_a_bad_setting_is_refused_in_words(setting: str) -> None:
    with pytest.raises(RecipeInvalid):
        load_recipe("points", [setting])


def test_difference_of_recipes_names_every_changed_value() -> None:
    stored = load_recipe("nepa-shapenet")
    assert recipe_difference(stored, stored.model_copy(update={"name": "other"})) == []
    asked = load_recipe("nepa-shapenet", ["seed=7", "points.count=4096", "rays=null"])
    found = {problem.place: problem for problem in recipe_difference(stored, asked)}
    assert found["seed"].got == "7"
    assert "2048" in found["points.count"].expected
    assert all(place in ("seed", "points.count") or place.startswith("rays") for place in found)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("points.count=0", "points.count: expected greater than or equal to 1, got 0."),
        ("points.count=many", "points.count: expected a valid integer, got 'many'."),
        ("points.count=1.5", "points.count: expected a valid integer, got 1.5."),
        ("points=3", "points: expected a section of settings, got 3."),
        ("input=[]", "input: tuple should have at least 1 item after validation, not 0."),
        ("points.fps_order=4096", "points: fps_order 4096 is longer than its pool of 2048 points."),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence(setting: str, expected: str) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        load_recipe("points", [setting])
    assert [str(problem) for problem in caught.value.problems] == [expected]
