"""A recipe that somebody sends: plain values within bounds, or one message; no code, no endless work, no memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.errors import RecipeInvalid
from shapestore.schemas.recipe_file import BUILT_IN, load_recipe
from shapestore.schemas.settings_file import MAX_RECIPE_BYTES

SECONDS = 10
"""What reading a recipe may take; the slowest of these takes 2."""

MEMORY = 128 * 2**20
"""Bytes that reading a recipe may take; the greediest of these takes 60 MiB."""

LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
"""Ten lines that stand for ten thousand million values."""

TEXTS: Mapping[str, tuple[str, str]] = {
    "a thousand million laughs": (LAUGHS, "aliases"),
    "an alias of itself": ("a: &a [*a]", "aliases"),
    "a merged mapping": ("a: &a {b: 1}\nc:\n  <<: *a", "aliases"),
    "a Python object": ("name: !!python/object/apply:os.system [echo harm]", "tags"),
    "a Python name": ("name: !!python/name:os.system", "tags"),
    "a Python module as a key": ("? !!python/module:os\n: 1", "tags"),
    "a tag that is no type": ("input: !!bool x", "tags"),
    "a tag of its own": ("%TAG !h! tag:yaml.org,2002:\n---\nname: !h!int x", "tags"),
    "bytes": ("name: !!binary aGk=", "tags"),
    "a key given twice": ("seed: 1\nseed: 2", "given twice"),
    "a list as a key": ("? [a]\n: 1", "unhashable"),
    "lists in lists": ("[" * 60_000, "more than 10 levels"),
    "many keys": ("".join(f"k{n}: 1\n" for n in range(7000)), "a known key"),
    "many flow values": (f"input: [{'mesh, ' * 9000}x]", "mesh"),
    "a number of 60 000 digits": (f"seed: {'9' * 60_000}", "digits"),
    "a number in base 60": (f"seed: 1{':59' * 20_000}", "64 bits"),
    "a number in base 16": (f"seed: 0x{'f' * 60_000}", "64 bits"),
    "a fraction in base 60": (f"seed: 1{':59' * 20_000}.5", "too large"),
    "a day that is none": ("name: 2001-99-99", "month"),
    "a long text": (f"seed: {'x' * 60_000}", "valid integer"),
    "two documents": ("seed: 1\n---\nseed: 2", "single document"),
    "control characters": ("name: \x1b]0;owned\x07", "not allowed"),
    "not a mapping": ("- 1", "a mapping"),
    "nothing": ("", "a mapping"),
}

NUMBERS = (
    "points.count=1000000000000",
    "points.count=100000000",
    "queries.count=1000000000000",
    "grid.size=100000",
    "grid.size=700",
    "rays.count=100000000 rays.views=100000000",
)
"""Values of the recipe `nepa-shapenet` of which a single row would be larger than memory."""


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_plain_recipe_is_refused_in_bounded_time_and_memory(name: str, tmp_path: Path) -> None:
    text, expected = TEXTS[name]
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    tracemalloc.start()
    started = time.process_time()  # what other programs do is no matter
    with pytest.raises(RecipeInvalid, match=expected) as refused:
        load_recipe(str(file))
    assert time.process_time() - started < SECONDS
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()
    assert max(map(len, str(refused.value).splitlines())) < 2000


@pytest.mark.parametrize("size", [MAX_RECIPE_BYTES + 1, 100 * 10**6, 2**41])
def test_a_recipe_that_is_too_large_is_not_read(size: int, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    with file.open("wb") as opened:
        opened.truncate(size)
    tracemalloc.start()
    with pytest.raises(RecipeInvalid, match="at most 65,536 bytes"):
        load_recipe(str(file))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_recipe_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    text = "input: [mesh]\npoints: {}\n#"
    file.write_text(text + " " * (MAX_RECIPE_BYTES - len(text)))
    assert load_recipe(str(file)).points is not None


@pytest.mark.parametrize("setting", NUMBERS)
def test_a_row_that_no_memory_holds_is_refused_before_anything_is_computed(setting: str) -> None:
    with pytest.raises(RecipeInvalid, match=r"takes more than 1024 MiB|less than or equal to"):
        load_recipe("nepa-shapenet", setting.split())


@pytest.mark.parametrize("name", BUILT_IN)
def test_recipes_that_ship_need_neither_aliases_nor_tags(name: str) -> None:
    assert load_recipe(name).name == name


@given(
    text=st.text(max_size=60)
    | st.from_regex(r"([a-z]{1,6}|points|grid|\[|\{|!!?[a-z]+|&a|\*a|[0-9:.xe_-]+|: |\n|- |, )*")
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_recipe_or_refused(text: str) -> None:
    for given_text in (f"points.count={text}", f"name={text}", f"points={text}"):
        try:
            load_recipe("points", [given_text])
        except RecipeInvalid as refused:
            assert str(refused)  # noqa: PT017
