"""Settings of models by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shapestore.errors import UsageError
from shapestore.train.models.settings import Normalised, VecSetSettings

MODEL_PRESETS: Final[Mapping[str, VecSetSettings]] = MappingProxyType(
    {
        "vecset-tiny": VecSetSettings(latents=128, width=128, heads=8, depth=3, bottleneck=Normalised(channels=32)),
        "vecset-small": VecSetSettings(latents=256, width=256, heads=4, depth=8, bottleneck=Normalised(channels=32)),
        "vecset-paper": VecSetSettings(),
    }
)
"""`tiny` trains on a CPU in minutes, `small` on one GPU in hours; `paper` has 425 M parameters."""


def model_preset(name: str) -> VecSetSettings:
    """Settings of a named model.

    Raises
    ------
    UsageError
        No preset has this name; the message lists those that are there.
    """
    if name not in MODEL_PRESETS:
        raise UsageError(f"no model is called {name!r}. Choose one of {', '.join(MODEL_PRESETS)}")
    return MODEL_PRESETS[name]
