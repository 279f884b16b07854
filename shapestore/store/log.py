"""The store's log for people, as its readers rely on it: JSON texts that no digest covers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from shapestore.store.layout import PROVENANCE


class Run(TypedDict, total=False):
    """One run of the program that wrote to the store; what it says beside this is not read."""

    started: str
    """Time, UTC; it tells runs apart."""
    host: str
    mode: str
    rows: int
    seconds: float
    quarantined: int
    python: str
    machine: str
    versions: Mapping[str, str]
    """Library to its version."""
    raw: str
    """Root of the raw files."""
    source: Mapping[str, str]
    """Kind of source, and the package that read it."""


class LastValidation(TypedDict, total=False):
    """What the last validation found."""

    finished: str
    """Time, UTC."""
    level: str
    commit: str
    """Identity of the commit that was validated."""
    rows: int
    checked: int
    passed: bool
    outcome: str


_TEXTS: Mapping[str, TypeAdapter[Any]] = {
    f"{PROVENANCE}/runs": TypeAdapter(list[Run]),
    f"{PROVENANCE}/validation": TypeAdapter(LastValidation | None),
}
"""Index arrays of one JSON text, and what it must be."""


def require_log(name: str, values: Any) -> None:
    """Check the text of an index array of the log; any other array passes.

    Raises
    ------
    ValueError
        It is not what a writer writes there.
    """
    if name in _TEXTS:
        try:
            _TEXTS[name].validate_json(values[0], strict=True)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise ValueError(f"its JSON is no log: {place or 'text'}: {error.errors()[0]['msg']}") from None
