"""Checkpoints: there whole or not at all, and never taken for what they are not."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from shapestore.errors import StorageFailed, StoreDamaged
from shapestore.train import checkpoint as module
from shapestore.train.checkpoint import (
    BestSoFar,
    State,
    checkpoint_path,
    checkpoint_steps,
    keep_checkpoints,
    read_state,
    read_tensors,
    save_checkpoint,
)

TENSORS = {"weights": {"a": torch.arange(1000.0)}, "optimiser": {"state": {0: torch.ones(3)}, "groups": [{"lr": 0.1}]}}
STATE = State(
    step=7,
    metrics={"iou": 0.5, "absent": None},
    best=BestSoFar(step=3, metric="iou", value=0.6),
    settings={"a.b": [1, 2]},
)


def saved(folder: Path, state: State = STATE) -> Path:
    save_checkpoint(folder, state, TENSORS)
    return checkpoint_path(folder, state.step)


def test_what_is_read_is_what_was_saved(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    state = read_state(folder)
    assert state.model_copy(update={"sha256": {}}) == STATE
    torch.testing.assert_close(read_tensors(folder, state), TENSORS, rtol=0, atol=0)


@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename", "torch.save"])
@pytest.mark.parametrize("at", range(6))
def test_a_save_that_breaks_anywhere_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """The disk is full at every call in turn: the checkpoint before is whole, and the next save goes well."""
    before = saved(tmp_path, State(step=1))
    places = {
        "fsync": (os, "fsync"),
        "mkdir": (Path, "mkdir"),
        "rename": (Path, "replace"),
        "torch.save": (torch, "save"),
    }
    owner, name = places[call]
    real, count = getattr(owner, name), iter(range(100))

    def breaking(*given: Any, **options: Any) -> Any:
        if next(count) == at:
            raise OSError(errno.ENOSPC, "no space left")
        return real(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, breaking)
        try:
            saved(tmp_path)
        except StorageFailed as error:
            assert "Make room" in str(error)  # noqa: PT017
            assert next(count) > at
    for step in checkpoint_steps(tmp_path):
        read_tensors(checkpoint_path(tmp_path, step), read_state(checkpoint_path(tmp_path, step)))
    assert before.is_dir()
    if 7 not in checkpoint_steps(tmp_path):
        saved(tmp_path)
    keep_checkpoints(tmp_path, {1, 7})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000007"]


class Filling(io.FileIO):
    """A file on a disk with room for so many bytes."""

    room = 0

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


# torch passes the system's error on where the first or the last bytes find no room, and raises its own in between.
@pytest.mark.parametrize("room", [0, 1000, 4900])
def test_a_full_disk_under_torch_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(Filling, "room", room)
    real = Path.open

    def opened(path: Path, mode: str = "r") -> Any:
        return Filling(path, mode) if path.suffix == ".pt" and mode == "wb" else real(path, mode)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(StorageFailed, match="No space left"):
        saved(tmp_path)
    assert checkpoint_steps(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError("no such operator"), IsADirectoryError(errno.EISDIR, "a folder")])
def test_another_error_is_none_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(*given: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(type(error)):
        saved(tmp_path)


def test_all_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    for name in ("sync_file", "write_synced", "sync_folder", "move"):
        real = getattr(module, name)

        def noted(path: Path, *rest: Any, real: Any = real, name: str = name) -> Any:
            events.append(f"{name} {path.name}")
            return real(path, *rest)

        monkeypatch.setattr(module, name, noted)
    saved(tmp_path)
    assert events == [
        "sync_file weights.pt",
        "sync_file optimiser.pt",
        "write_synced state.json",
        "sync_folder .step-00000007",
        "move .step-00000007",
        f"sync_folder {tmp_path.name}",
    ]


@pytest.mark.parametrize("name", ["weights.pt", "optimiser.pt"])
@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_damaged_tensors_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    folder = saved(tmp_path)
    file = folder / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data if damage == "flip" else data[:-7])
    if damage == "lose":
        file.unlink()
    with pytest.raises(StoreDamaged, match=rf"{name} is lost or damaged. Delete its folder"):
        read_tensors(folder, read_state(folder))


@pytest.mark.parametrize("text", [None, "", '{"step": -1}', '{"step": 1, "more": 2}'])
def test_a_damaged_state_is_refused(tmp_path: Path, text: str | None) -> None:
    folder = saved(tmp_path)
    (folder / "state.json").unlink()
    if text is not None:
        (folder / "state.json").write_text(text)
    with pytest.raises(StoreDamaged, match=r"state.json is lost or damaged"):
        read_state(folder)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path, STATE, {"weights": {"a": _Evil()}})
    folder = checkpoint_path(tmp_path, 7)
    with pytest.raises(Exception, match=r"[Ww]eights"):
        read_tensors(folder, read_state(folder))
    assert not Path("evil").exists()


def test_only_what_is_to_be_kept_is_kept(tmp_path: Path) -> None:
    for step in (1, 20, 300):
        saved(tmp_path, State(step=step))
    (tmp_path / ".step-00000400").mkdir()
    (tmp_path / "step-00000020.bak").mkdir()  # of the user's
    keep_checkpoints(tmp_path, {20, 300, 5})
    assert checkpoint_steps(tmp_path) == [20, 300]
    assert not (tmp_path / ".step-00000400").exists()
    assert (tmp_path / "step-00000020.bak").exists()
