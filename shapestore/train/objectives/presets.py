"""Settings of objectives by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shapestore.errors import UsageError
from shapestore.train.objectives.settings import Focal, LabelledSdfSettings, Weights

OBJECTIVE_PRESETS: Final[Mapping[str, LabelledSdfSettings]] = MappingProxyType(
    {
        "source": LabelledSdfSettings(),
        "upstream": LabelledSdfSettings(
            weights=Weights(near=10, surface=1, classes=0), eikonal_at=("vol", "near", "surface")
        ),
        "seed-8.5": LabelledSdfSettings(
            weights=Weights(near=10, surface=10, classes=0), eikonal_at=("vol", "near", "surface")
        ),
        "seed-15.5": LabelledSdfSettings(weights=Weights(near=10, surface=3)),
        "focal": LabelledSdfSettings(class_loss=Focal(class_weights={6: 2.0, 7: 2.0, 9: 2.0, 10: 2.0})),
    }
)
"""The variants of the cardiac system: its code (`source`), the code that it came from, two of its documents, its later
code. `seed-15.5` names neither eikonal nor class term: both are those of `source`."""


def objective_preset(name: str) -> LabelledSdfSettings:
    """Settings of a named objective.

    Raises
    ------
    UsageError
        No preset has this name; the message lists those that are there.
    """
    if name not in OBJECTIVE_PRESETS:
        raise UsageError(f"no objective is called {name!r}. Choose one of {', '.join(OBJECTIVE_PRESETS)}")
    return OBJECTIVE_PRESETS[name]
