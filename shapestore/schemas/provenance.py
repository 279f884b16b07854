"""`Provenance`: where one row came from, and the transform back to its raw coordinates."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat, NonNegativeInt

from shapestore.schemas.base import Strict


class Provenance(Strict):
    """Origin of one row."""

    source: str = Field(min_length=1)
    """Raw file or folder, relative to the raw root, with `/` between its parts."""
    source_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Sha256 of the file's bytes; of the list of names and hashes for a folder."""
    shift: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0.0, 0.0, 0.0)
    """Centre in raw coordinates: normalised = (raw - shift) * scale."""
    scale: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    """Normalised units per raw unit."""
    seed: NonNegativeInt
    """Seed of all randomness in the row, from the recipe's seed and the shape id alone."""
