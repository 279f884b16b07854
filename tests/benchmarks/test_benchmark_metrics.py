"""The benchmark of metrics compares distances before it compares times; no time is asserted here."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from benchmarks import metrics
from benchmarks.common import WrongValues


def test_a_line_comes_out_for_each_surface() -> None:
    console = Console(file=io.StringIO(), width=120)
    cases = metrics.surfaces(200)
    assert metrics.measure(cases, 1, console).row_count == len(cases)


def test_wrong_distances_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = metrics.nearest_pairs

    def wrong(*surfaces: Any) -> Any:
        found = right(*surfaces)
        return replace(found, to_truth=found.to_truth * (1 + 1e-15))

    monkeypatch.setattr(metrics, "nearest_pairs", wrong)
    with pytest.raises(WrongValues, match="other distances"):
        metrics.measure(metrics.surfaces(200), 1, Console(file=io.StringIO()))
