"""Which checks there are, and with which thresholds a recipe wants them."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import entry_points

from pydantic import ValidationError

from shapestore.errors import Problem, RecipeInvalid, UsageError
from shapestore.quality.check import Check, Settings
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.settings_file import problems_of

GROUP = "shapestore.checks"


@lru_cache(maxsize=1)
def installed_checks() -> tuple[Check, ...]:
    """Every installed check, by name.

    Raises
    ------
    UsageError
        A plug-in gives something else than a `Check`, or a name twice.
    """
    checks: dict[str, Check] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        check = entry.load()
        if not isinstance(check, Check) or check.name != entry.name:
            raise UsageError(f"the check {entry.name!r} of {entry.value} is no Check of that name: mend the plug-in.")
        if check.name in checks:
            raise UsageError(f"two installed packages bring a check {check.name!r}: remove one of them.")
        checks[check.name] = check
    return tuple(checks.values())


def settings_of(recipe: Recipe) -> dict[str, Settings]:
    """Thresholds of every installed check: the recipe's, or the check's defaults.

    Raises
    ------
    RecipeInvalid
        The recipe names a check that is not installed, or a threshold that it does not have.
    """
    checks = {check.name: check for check in installed_checks()}
    problems, settings = [], {}
    for name in sorted(recipe.checks.keys() - checks.keys()):
        close = get_close_matches(name, checks, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else f"Installed: {', '.join(checks)}."
        problems.append(Problem(f"checks.{name}", "an installed check", "an unknown name", hint))
    for name, check in checks.items():
        try:
            settings[name] = check.settings.model_validate(recipe.checks.get(name, {}))
        except ValidationError as error:
            problems += problems_of(check.settings, error, "checks", name)
    if problems:
        raise RecipeInvalid(f"recipe {recipe.name}", problems)
    return settings
