"""Named steps on the way to a commit, for whoever wants to know of them: fault tests kill a process at each."""

from __future__ import annotations

import sys
from typing import Final

EVENT: Final = "shapestore.step"
"""Audit event that every step raises, with the step's name (`sys.addaudithook`); without a hook it costs nothing."""


def reached(step: str) -> None:
    """Say that a step is done, in words such as `root moved`."""
    sys.audit(EVENT, step)
