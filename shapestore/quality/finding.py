"""`Finding`: one thing that a validation found wrong."""

from __future__ import annotations

from typing import Literal

from shapestore.schemas.base import Strict

Severity = Literal["error", "warning"]


class Finding(Strict):
    """One problem of a store."""

    severity: Severity
    check: str
    """Name of what found it: `structure`, `integrity`, `checksum`, or a rule of the schema."""
    place: str
    """File, array or shape that it concerns."""
    message: str
    """What was expected, and what was found."""
    remedy: str = ""
    """What to do about it."""
