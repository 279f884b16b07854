"""Settings as people give them: built in by name, or YAML files, with single values set on the command line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shapestore.errors import Problem, RecipeInvalid

MAX_RECIPE_BYTES = 64 * 2**10
"""Most bytes of a recipe, a hundred times those that ship: YAML is read in Python, at some 100 KB a second."""

LARGEST_NUMBER = 2**63 - 1

DEEPEST = 10
"""Most levels of a recipe; those that ship have 3."""

SHOWN = 200
"""Characters of a wrong value that a message repeats."""

_EXPECTATION = "Input should be "
"""How pydantic begins what it expected."""

_REPEATS_INPUT = re.compile(", (?:unable|got) ")
"""Where it goes on with what it got."""


def read_settings(name_or_file: str, built_in: Mapping[str, Traversable], settings: Iterable[str]) -> dict[str, Any]:
    """Plain values of a YAML file, with single ones set.

    Parameters
    ----------
    name_or_file, built_in
        One of the names that are built in, with their files, or the path of a YAML file.
    settings
        `key=value` texts such as `points.count=1024`; the value is read as YAML.

    Raises
    ------
    RecipeInvalid
        Unknown name, bad YAML, a file too large, no `key=value`.
    """
    values = _read_yaml(name_or_file, built_in)
    for setting in settings:
        _set(values, setting)
    return values


@contextmanager
def in_words(model: type[BaseModel], what: str) -> Iterator[None]:
    """Turn pydantic's errors about settings of a model into `RecipeInvalid`, every problem at once.

    Parameters
    ----------
    model
        What the settings are checked against.
    what
        Heads the error.
    """
    try:
        yield
    except ValidationError as error:
        raise RecipeInvalid(what, problems_of(model, error)) from None


def problems_of(model: type[BaseModel], error: ValidationError, *above: str) -> list[Problem]:
    """Pydantic's errors about settings of a model in words; `above` are the sections that these settings lie in."""
    return [_problem(model, detail, above) for detail in error.errors()]


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML of plain values alone, as recipes need no more.

    Aliases, with which a few lines stand for a thousand million values, and tags, which make other than plain values,
    are errors. So is a key given twice, where YAML would silently take the last, and a number that no field can hold.
    """

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._enclosing: list[yaml.Node | None] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            problem = "recipes have neither aliases (*name) nor tags (!name)"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        if len(self._enclosing) > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"more than {DEEPEST} levels", event.start_mark)
        self._enclosing.append(parent)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._enclosing.pop()
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, Hashable))
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if abs(value) > LARGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "a number of more than 64 bits", node.start_mark)
        return value


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


def _read_yaml(name_or_file: str, built_in: Mapping[str, Traversable]) -> dict[str, Any]:
    path = Path(name_or_file)
    if name_or_file in built_in:
        data = built_in[name_or_file].read_bytes()
    elif path.is_file():
        with path.open("rb") as file:
            data = file.read(MAX_RECIPE_BYTES + 1)
    else:
        expected = f"a YAML file or one of {', '.join(built_in)}"
        raise RecipeInvalid("recipe", [Problem("recipe", expected, name_or_file, _nearest(name_or_file, built_in))])
    values = _parse(data, f"recipe {name_or_file}", name_or_file)
    if not isinstance(values, dict):
        raise RecipeInvalid(
            f"recipe {name_or_file}", [Problem(name_or_file, "a mapping of keys to values", type(values).__name__)]
        )
    return values


def _parse(data: str | bytes, what: str, place: str) -> Any:
    """The value of a YAML text."""
    if len(data) > MAX_RECIPE_BYTES:
        raise RecipeInvalid(what, [Problem(place, f"at most {MAX_RECIPE_BYTES:,} bytes", "more")])
    try:
        return yaml.load(data, _PlainLoader)  # noqa: S506
    # What looks like a number or a date and is none is no error of YAML.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise RecipeInvalid(what, [Problem(place, "YAML in UTF-8", " ".join(str(error).split()))]) from None


def _set(values: dict[str, Any], setting: str) -> None:
    """Put one `key=value` into nested values."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise RecipeInvalid("--set", [Problem(setting, "key=value", setting, "Write for example points.count=1024.")])
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise RecipeInvalid("--set", [Problem(key, f"a section named {parent}", "a single value")])
    values[last] = _parse(text, "--set", key)


def _problem(model: type[BaseModel], detail: ErrorDetails, above: Sequence[str]) -> Problem:
    """One pydantic error in words: where, what was expected, what was given, and the nearest valid name."""
    place = ".".join(str(part) for part in (*above, *detail["loc"])) or "recipe"
    if detail["type"] == "extra_forbidden":
        *parents, key = detail["loc"]
        section = _model_at(model, [str(part) for part in parents])
        known = tuple(section.model_fields) if section is not None else ()
        return Problem(place, "a known key", "an unknown one", _nearest(str(key), known))
    given = _shown(detail["input"])
    if detail["type"] == "model_type":
        return Problem(place, "a section of settings", given)
    message = detail["msg"].removeprefix("Value error, ")
    expected = message.removeprefix(_EXPECTATION)
    if expected == message:
        return Problem(place, message[0].lower() + message[1:])
    return Problem(place, _REPEATS_INPUT.split(expected)[0], given)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _model_at(model: type[BaseModel], path: Iterable[str]) -> type[BaseModel] | None:
    """The model that a dotted place of a recipe is checked against."""
    for part in path:
        field = model.model_fields.get(part)
        found = next((kind for kind in _alternatives(field.annotation) if _is_model(kind)), None) if field else None
        if found is None:
            return None
        model = found
    return model


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _nearest(given: str, known: Iterable[str]) -> str:
    known = tuple(known)
    close = get_close_matches(given, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
