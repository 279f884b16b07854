"""`shapestore train`: a recipe and a store in, a trained model out."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from shapestore.cli.output import AS_JSON, STORE, print_json, print_pairs


class Resume(StrEnum):
    """Whether a run goes on."""

    AUTO = "auto"
    NEVER = "never"


class Device(StrEnum):
    """What a model runs on."""

    CPU = "cpu"
    CUDA = "cuda"


def command(
    recipe: Annotated[str, typer.Argument(help="vecset-tiny, vecset-small, vecset-paper, or a YAML file.")],
    store: STORE,
    run: Annotated[str, typer.Argument(help="Folder of the run: settings, log, checkpoints.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one setting: train.steps=500. Repeatable.", show_default=False),
    ] = None,
    resume: Annotated[
        Resume, typer.Option(help="auto: go on from the newest checkpoint, or begin where there is none.")
    ] = Resume.NEVER,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead; 0: this one reads.")] = 0,
    device: Annotated[Device, typer.Option(help="What the model runs on.")] = Device.CPU,
    as_json: AS_JSON = False,
) -> None:
    """Train a model on a store. Interrupted, it leaves a checkpoint, and goes on with --resume auto.

    Under torchrun all processes train one model: torchrun --nproc-per-node 2 -m shapestore train ...

    Example: shapestore train vecset-tiny hearts.zarr runs/tiny --set train.steps=500
    """
    from shapestore import api

    state = api.train(
        recipe,
        store,
        run,
        settings=tuple(settings or ()),
        resume=resume.value,
        workers=workers,
        device=device.value,
    )
    if os.environ.get("RANK", "0") != "0":
        return  # of the processes that train together the first one says what came of it
    certificate = str(state.sampler.get("certificate", ""))
    if as_json:
        best = None if state.best is None else state.best.model_dump()
        print_json(
            {"run": run, "steps": state.step, "metrics": dict(state.metrics), "best": best, "order": certificate}
        )
        return
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in state.metrics.items() if value is not None)
    best_yet = f"{state.best.metric} {state.best.value:.4f} after step {state.best.step}" if state.best else "none"
    print_pairs(
        [("done", f"{state.step:,} steps in {run}"), ("metrics", metrics), ("best", best_yet), ("order", certificate)]
    )
