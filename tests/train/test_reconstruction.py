"""The recipes of training: where what they leave out comes from, and what is refused."""

from __future__ import annotations

import pytest

from shapestore.errors import RecipeInvalid, UsageError
from shapestore.train.objectives.presets import OBJECTIVE_PRESETS
from shapestore.train.reconstruction import BUILT_IN, read_config


@pytest.mark.parametrize("name", BUILT_IN)
def test_classes_that_a_recipe_leaves_out_are_those_given(name: str) -> None:
    assert read_config(name, classes=3).model.classes == 3
    assert read_config(name, ["model.classes=4"], classes=3).model.classes == 4


def test_an_objective_is_taken_by_name() -> None:
    assert read_config("vecset-small").objective == OBJECTIVE_PRESETS["source"]  # where the recipe says nothing
    assert read_config("vecset-small", ["objective=upstream"]).objective == OBJECTIVE_PRESETS["upstream"]
    with pytest.raises(UsageError, match="no objective is called 'downstream'"):
        read_config("vecset-small", ["objective=downstream"])


def test_an_unknown_recipe_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(RecipeInvalid, match="vecset-tiny"):
        read_config("vecset-huge")
