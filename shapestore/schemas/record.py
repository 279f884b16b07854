"""`ShapeRecord`: one shape, ready to be written. Sources make it, the store takes nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field

from shapestore.schemas.base import Strict
from shapestore.schemas.provenance import Provenance

MAX_ID_BYTES = 512
"""Longest shape id in UTF-8: enough for every dataset's paths, little enough for a table."""


def _is_printable_path(text: str) -> str:
    """An id is a relative, normalised path of printable characters: it names a row in tables, files and shells."""
    if len(text.encode()) > MAX_ID_BYTES:
        raise ValueError(f"longer than {MAX_ID_BYTES} bytes")
    if any(unicodedata.category(char)[0] == "C" for char in text):
        raise ValueError("holds control characters")
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError("is not a relative path without '.', '..' and empty parts")
    return text


ShapeId = Annotated[str, Field(min_length=1), AfterValidator(_is_printable_path)]


class ShapeRecord(Strict):
    """One shape: who it is, where it came from, and its arrays."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    shape_id: ShapeId
    """Unique in the store, such as `03001627/1a6f6...`."""
    category: str = ""
    """Class of the shape, exactly as the dataset spells it; empty where it has none."""
    split: str = ""
    """Split that the dataset assigns, such as `train`; empty where it assigns none."""
    group: str
    """Key that all variants of one object share, so that a split never parts them."""
    provenance: Provenance
    """Where the record came from, and how to get back to raw coordinates."""
    arrays: Mapping[str, NDArray[Any]]
    """Every array of the store's schema, without the row dimension."""
    notes: tuple[str, ...] = ()
    """What a reader of the row should know, such as `class absent: Coronary`."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(np.asarray(value).nbytes for value in self.arrays.values())
