"""Progress: a bar with the time left in a terminal, lines elsewhere, and nothing taken for markup."""

from __future__ import annotations

import pytest

from shapestore.train import progress
from shapestore.train.progress import Reporter


def test_elsewhere_it_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Reporter(100, 1000) as reporter:
        for step in range(101, 201):
            now += 1.0
            reporter.update(step, {"loss": 0.123456})
        reporter.say("[bold]as it is[/bold]")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "step 130 of 1,000, about 14 min left: loss 0.1235",
        "step 160 of 1,000, about 14 min left: loss 0.1235",
        "step 190 of 1,000, about 14 min left: loss 0.1235",
        "[bold]as it is[/bold]",
    ]


def test_in_a_terminal_it_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Reporter(0, 40) as reporter:
        reporter.update(30, {"loss": 0.5})
    said = capsys.readouterr().err
    assert "30/40" in said
    assert "loss 0.5" in said
