"""Bounds in words."""

from __future__ import annotations

import math


def bounds_text(low: float, high: float) -> str:
    """What is sound, as a phrase after the measure's name: `from 0.4 to 0.6`, `of at most 0.01`."""
    if math.isinf(low) and math.isinf(high):
        return "of any size"
    if math.isinf(low):
        return f"of at most {high:.6g}"
    return f"of at least {low:.6g}" if math.isinf(high) else f"from {low:.6g} to {high:.6g}"
