"""`Finding`: one thing that a validation found wrong."""

from __future__ import annotations

import math
from typing import Any, Literal

from numpy.typing import NDArray

from shapestore.errors import StoreDamaged
from shapestore.schemas.base import Strict

Severity = Literal["error", "warning"]
"""`error`: training on the store gives wrong results. `warning`: somebody should look."""


INTEGRITY = "integrity"
"""Name of the check that compares files with the commit."""


class Finding(Strict):
    """One problem of a store."""

    severity: Severity
    check: str
    """Name of the check that found it."""
    message: str
    """What was expected, and what was found."""
    place: str = ""
    """File or array that it concerns."""
    row: int | None = None
    """Row that it concerns; None where it concerns the store, a file or several rows."""
    shape_id: str = ""
    """Id of that row's shape."""
    measure: str = ""
    """The measure that is out of bounds."""
    value: float | None = None
    """The number that was measured; None where there is none, or it is not finite."""
    low: float | None = None
    """Least sound number."""
    high: float | None = None
    """Largest sound number."""
    remedy: str = ""
    """What to do about it."""
    look: str = ""
    """Command that shows it."""
    waived: str = ""
    """Reason why it does not count; empty where it does."""

    @property
    def excess(self) -> float:
        """How far out of bounds, relative to the bound; infinite where there is no number."""
        if self.value is None:
            return math.inf
        beyond = max(
            self.low - self.value if self.low is not None else 0.0,
            self.value - self.high if self.high is not None else 0.0,
        )
        return beyond / max(abs(self.low or 0.0), abs(self.high or 0.0), 1e-12)


def damage(error: StoreDamaged, shape_ids: NDArray[Any]) -> Finding:
    """What cannot be read, as a finding of the integrity check.

    Parameters
    ----------
    error
        What the reader said.
    shape_ids
        (rows,) ids of all rows of the store.
    """
    single = error.rows[0] if error.rows is not None and len(error.rows) == 1 else None
    return Finding(
        severity="error",
        check=INTEGRITY,
        message=error.problem,
        place=error.array,
        row=single,
        shape_id="" if single is None else str(shape_ids[single]),
        remedy="Mend it with: shapestore repair. Bring the file back from a copy where that cannot.",
    )


def worst_first(finding: Finding) -> tuple[bool, bool, bool, float, str, int]:
    """Sort key: what counts, errors, what concerns more than one row, then by excess."""
    return (
        bool(finding.waived),
        finding.severity != "error",
        finding.row is not None,
        -finding.excess,
        finding.check,
        -1 if finding.row is None else finding.row,
    )
