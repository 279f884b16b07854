"""The recipes of training: where what they leave out comes from, and what is refused."""

from __future__ import annotations

import pytest

from shapestore.errors import RecipeInvalid, UsageError
from shapestore.train.objectives.presets import OBJECTIVE_PRESETS
from shapestore.train.objectives.settings import Focal
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


def test_weights_of_classes_that_the_model_has_not_are_refused_with_a_setting_that_works() -> None:
    """The named objective `focal` is meant for hearts, of ten classes."""
    assert read_config("vecset-small", ["objective=focal"], classes=10).objective == OBJECTIVE_PRESETS["focal"]
    with pytest.raises(RecipeInvalid, match=r"class_weights names class 10, but model.classes is 9") as refused:
        read_config("vecset-small", ["objective=focal"], classes=9)
    told = "objective.class_loss={kind: focal, class_weights: {9: 2.0}}"
    assert told in str(refused.value)
    config = read_config("vecset-small", [told], classes=9)
    assert config.objective.class_loss == Focal(class_weights={9: 2.0})
    with pytest.raises(RecipeInvalid, match=r"names class 11, but model.classes is 10"):
        read_config("vecset-small", ["objective.class_loss={kind: bce, class_weights: {2: 1, 11: 0}}"])


def test_a_start_from_more_points_than_a_sample_has_is_refused() -> None:
    def with_points(start: str, surface: int) -> int:
        settings = [f"model.start={start}", "model.latents=20", f"data.surface={surface}"]
        return read_config("vecset-small", settings).data.surface

    assert [with_points("fps", 20), with_points("learnable", 19)] == [20, 19]
    with pytest.raises(
        RecipeInvalid, match=r"model.latents = 20 from the data.surface = 19 points.*raise data.surface"
    ):
        with_points("fps", 19)


def test_all_that_does_not_fit_together_is_said_at_once() -> None:
    with pytest.raises(RecipeInvalid, match=r"names class 10, but (.|\n)*model.latents = 256 from"):
        read_config("vecset-tiny", ["objective=focal", "data.surface=255"], classes=3)


def test_a_model_is_not_judged_by_what_it_was_trained_on() -> None:
    for settings in (["data.validation=train"], ["data.train=val"]):
        with pytest.raises(RecipeInvalid, match=r"data: train and validation are both .*set validation to null"):
            read_config("vecset-tiny", settings)
    assert read_config("vecset-tiny", ["data.validation=null"]).data.validation is None
