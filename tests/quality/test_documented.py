from __future__ import annotations

from pathlib import Path

import pytest

from shapestore.quality.check import Check
from shapestore.quality.registry import installed_checks

PAGE = (Path(__file__).parents[2] / "docs" / "quality.md").read_text()


@pytest.mark.parametrize("check", installed_checks(), ids=lambda check: check.name)
def test_every_check_is_documented_as_it_is(check: Check) -> None:
    fields = check.settings.model_fields
    gate = ", gate" if fields["gate"].default else ""
    kind = f"{check.severity}{gate}{', reads raw files' if check.scope == 'source' else ''}"
    thresholds = ", ".join(f"`{name}={each.default:g}`" for name, each in fields.items() if name != "gate") or "none"
    assert f"| `{check.name}` | {kind} | {check.about} | {thresholds} |" in PAGE


@pytest.mark.parametrize("check", installed_checks(), ids=lambda check: check.name)
def test_every_threshold_gives_its_reason(check: Check) -> None:
    for name, field in check.settings.model_fields.items():
        assert field.description, f"{check.name}.{name}"
