"""The recipes that ship, as configurations: each builds the model that it is named after."""

from __future__ import annotations

from importlib.resources import files

import pytest

from shapestore.schemas.settings_file import read_settings
from shapestore.train.models.presets import MODEL_PRESETS
from shapestore.train.objectives.presets import OBJECTIVE_PRESETS
from shapestore.train.reconstruction import BUILT_IN, ReconstructionConfig

FOLDER = files("shapestore.train.recipes")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_recipe_builds_the_model_of_its_name(name: str) -> None:
    values = read_settings(name, {name: FOLDER.joinpath(f"{name}.yaml")}, ["model.classes=10"])
    config = ReconstructionConfig.model_validate(values)
    assert config.model == MODEL_PRESETS[name]


def test_the_default_objective_is_that_of_the_source() -> None:
    assert ReconstructionConfig.model_fields["objective"].default == OBJECTIVE_PRESETS["source"]
