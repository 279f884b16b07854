"""Errors cross processes, say everything, and set the exit code."""

from __future__ import annotations

import pickle

import pytest

from shapestore import errors
from shapestore.errors import InputRefused, Invalid, Problem, Reason, ShapestoreError, StoreDamaged
from shapestore.store.shard_map import RowDamaged


def kinds(above: type[ShapestoreError] = ShapestoreError) -> list[type[ShapestoreError]]:
    return [above, *(kind for below in above.__subclasses__() for kind in kinds(below))]


def make(kind: type[ShapestoreError]) -> ShapestoreError:
    if issubclass(kind, Invalid):
        return kind("recipe", [Problem("seed", "a number", "a word"), Problem("name", "a text", "3", "Quote it.")])
    if issubclass(kind, InputRefused):
        return kind(Reason.NO_FACES, "the mesh has points only")
    if kind is RowDamaged:
        return RowDamaged("row 3 of the shard is damaged", 3)
    if kind is StoreDamaged:
        return StoreDamaged("a shard is missing", "pc_xyz", range(8, 16))
    return kind("what, where, what to do")


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_error_survives_the_way_between_processes(kind: type[ShapestoreError]) -> None:
    error = make(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.exit_code in range(1, 6)


def test_invalid_lists_every_problem() -> None:
    assert str(make(errors.RecipeInvalid)) == (
        "recipe: 2 problems\n  - seed: expected a number, got a word.\n  - name: expected a text, got 3. Quote it."
    )


def test_a_refusal_begins_with_its_reason() -> None:
    assert str(make(InputRefused)) == "no faces: the mesh has points only"


def test_reasons_are_different() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason)
