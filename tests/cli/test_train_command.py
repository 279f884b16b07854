"""`shapestore train`: of processes that train together, one says what came of it."""

from __future__ import annotations

import pytest

from shapestore import api
from shapestore.cli import train
from shapestore.train.checkpoint import State


@pytest.mark.parametrize(("rank", "lines"), [(None, 4), ("0", 4), ("1", 0)])
def test_the_first_process_alone_sums_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str | None, lines: int
) -> None:
    monkeypatch.setattr(api, "train", lambda *_, **__: State(step=3))
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    train.command("vecset-tiny", "hearts.zarr", "runs/tiny")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    assert not lines or "3 steps in runs/tiny" in said[0]
