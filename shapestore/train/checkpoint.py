"""Checkpoints: folders that are there whole or not at all, with a readable `state.json` in each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, ValidationError

from shapestore.errors import StorageFailed, StoreDamaged, is_systems_fault
from shapestore.schemas.base import Strict
from shapestore.store.durable import move, sync_file, sync_folder, write_synced

STATE = "state.json"
REMEDY = "Delete its folder to go on from the checkpoint before it."


class BestSoFar(Strict):
    """The best checkpoint of a run."""

    step: NonNegativeInt
    metric: str
    value: float


class State(Strict):
    """What is to be known of a checkpoint beside its tensors. Random draws of a step follow from its number."""

    step: NonNegativeInt
    """Steps done."""
    sampler: Mapping[str, Any] = {}
    """From where the order of the samples goes on, and the certificate of the order so far."""
    settings: Mapping[str, Any] = {}
    """Every setting as it was in effect, read from the parts that were trained with."""
    versions: Mapping[str, str] = {}
    """Versions of this program and of what it computes with."""
    metrics: Mapping[str, float | None] = {}
    """Metrics of the newest validation; None is none that is a number."""
    validated: NonNegativeInt | None = None
    """Steps done at the newest validation."""
    best: BestSoFar | None = None
    """The best validation, where the settings say what that is."""
    sha256: Mapping[str, str] = {}
    """Hash of every file of tensors, in hexadecimal."""


def checkpoint_path(checkpoints: Path, step: int) -> Path:
    """Folder of the checkpoint after so many steps."""
    return checkpoints / f"step-{step:08d}"


def checkpoint_steps(checkpoints: Path) -> list[int]:
    """Steps of all checkpoints, ascending."""
    names = (folder.name.removeprefix("step-") for folder in checkpoints.glob("step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def save_checkpoint(checkpoints: Path, state: State, tensors: Mapping[str, Any]) -> None:
    """Write a checkpoint: it has its name when all of it is on disk.

    Parameters
    ----------
    checkpoints
        Folder of all checkpoints of the run, which exists.
    state
        All that people can read; `sha256` is filled in.
    tensors
        Mappings of tensors and plain values, each written to a file of its name.

    Raises
    ------
    StorageFailed
        The system could not write; what was written before is still there.
    """
    target = checkpoint_path(checkpoints, state.step)
    building = checkpoints / f".{target.name}"
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        digests = {}
        for name, value in tensors.items():
            file = building / f"{name}.pt"
            with file.open("wb") as stream:
                torch.save(value, stream)
            sync_file(file)
            digests[name] = _sha256(file)
        text = state.model_copy(update={"sha256": digests}).model_dump_json(indent=2)
        write_synced(building / STATE, text.encode())
        sync_folder(building)
        move(building, target, checkpoints)
        sync_folder(checkpoints)
    except (OSError, RuntimeError) as error:
        # torch's writer raises an error of its own over that of the file.
        fault = error.__context__ if isinstance(error, RuntimeError) else error
        if fault is None or not is_systems_fault(fault):
            raise
        raise StorageFailed(f"the checkpoint {target} cannot be written: {fault}. Make room, and resume.") from error


def keep_checkpoints(checkpoints: Path, keep: set[int]) -> None:
    """Delete the checkpoints of other steps, and what an interrupted save left."""
    for step in set(checkpoint_steps(checkpoints)) - keep:
        shutil.rmtree(checkpoint_path(checkpoints, step))
    for folder in checkpoints.glob(".step-*"):
        shutil.rmtree(folder)


def read_state(checkpoint: Path) -> State:
    """What is to be known of a checkpoint.

    Raises
    ------
    StoreDamaged
        It is lost or no such state.
    """
    try:
        return State.model_validate_json((checkpoint / STATE).read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreDamaged(f"{checkpoint / STATE} is lost or damaged: {error}", remedy=REMEDY) from None


def read_tensors(checkpoint: Path, state: State) -> dict[str, Any]:
    """The tensors of a checkpoint by the name of their file, in main memory; no code of the files is run.

    Raises
    ------
    StoreDamaged
        A file is lost, or is not the one that was written.
    """
    tensors = {}
    for name, digest in state.sha256.items():
        file = checkpoint / f"{name}.pt"
        if not file.is_file() or _sha256(file) != digest:
            raise StoreDamaged(f"{file} is lost or damaged", remedy=REMEDY)
        tensors[name] = torch.load(file, map_location="cpu", weights_only=True)
    return tensors


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
