"""Waivers: findings that somebody has looked at and accepts, each with a reason, and never silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from shapestore.errors import UsageError
from shapestore.quality.finding import Finding
from shapestore.schemas.base import Strict

BY_COMMAND = "waived on the command line"


class Waiver(Strict):
    """One accepted finding."""

    check: str = Field(min_length=1)
    """Name of the check."""
    shape: str = Field(min_length=1)
    """Id of the shape; `*` for all shapes, and for findings about the whole store."""
    reason: str = Field(min_length=1)
    """Why it is accepted."""

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is the one that is accepted."""
        return self.check == finding.check and self.shape in ("*", finding.shape_id)


_LIST = TypeAdapter(tuple[Waiver, ...])


def read_waivers(given: Iterable[str]) -> tuple[Waiver, ...]:
    """Waivers as people give them.

    Parameters
    ----------
    given
        Each `CHECK:SHAPE_ID` (`CHECK:*` for all shapes), or the path of a YAML file with a list of mappings with the
        keys `check`, `shape` and `reason`.

    Raises
    ------
    UsageError
        Neither, or a file that does not hold such a list.
    """
    return tuple(waiver for text in given for waiver in _read(text))


def waive(findings: Sequence[Finding], waivers: Sequence[Waiver]) -> tuple[tuple[Finding, ...], tuple[Waiver, ...]]:
    """Mark the findings that are accepted; returns all of them, and the waivers that no finding needs."""
    accepted = [next((waiver for waiver in waivers if waiver.covers(finding)), None) for finding in findings]
    marked = tuple(
        finding if waiver is None else finding.model_copy(update={"waived": waiver.reason})
        for finding, waiver in zip(findings, accepted, strict=True)
    )
    return marked, tuple(waiver for waiver in waivers if waiver not in accepted)


def _read(text: str) -> tuple[Waiver, ...]:
    if Path(text).suffix.lower() in (".yaml", ".yml"):
        return _read_file(Path(text))
    check, colon, shape = text.partition(":")
    if not (check and colon and shape):
        raise UsageError(f"--waive takes CHECK:SHAPE_ID or a YAML file, not {text!r}.")
    return (Waiver(check=check, shape=shape, reason=BY_COMMAND),)


def _read_file(path: Path) -> tuple[Waiver, ...]:
    wanted = "a list of mappings with the keys check, shape and reason"
    try:
        given = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist. It should hold {wanted}.") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise UsageError(f"{path}: expected YAML with {wanted}, got: {' '.join(str(error).split())}.") from None
    if not given:
        raise UsageError(f"{path} holds no waiver. It should hold {wanted}; where nothing is accepted, leave it out.")
    if not isinstance(given, list):
        raise UsageError(f"{path}: expected {wanted}, got {'one mapping' if isinstance(given, dict) else repr(given)}.")
    try:
        return _LIST.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: expected {wanted}, got at {place}: {first['msg'].lower()}.") from None
