"""`shapestore evaluate`: a trained model in, scores, meshes and a page out."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from shapestore.cli.output import AS_JSON, STORE, print_json, print_table, status

if TYPE_CHECKING:
    from shapestore.evaluate.protocols.reconstruct import Reconstruction


class Protocol(StrEnum):
    """How a run is judged."""

    RECONSTRUCT = "reconstruct"


class Checkpoint(StrEnum):
    """Which checkpoint is judged."""

    BEST = "best"
    LAST = "last"


def command(
    protocol: Annotated[Protocol, typer.Argument(help="reconstruct: label maps rebuilt from surface points.")],
    run: Annotated[str, typer.Argument(help="Folder of the run.")],
    store: STORE,
    raw: Annotated[str, typer.Option(help="Folder of the raw label maps, the truth.", show_default=False)],
    out: Annotated[str, typer.Option(help="New folder for scores, page, meshes.", show_default=False)],
    part: Annotated[str, typer.Option(help="Part of the run's split that is judged.")] = "test",
    cells: Annotated[int, typer.Option(min=8, max=512, help="Cells along each axis of the cube.")] = 128,
    f_score: Annotated[float, typer.Option(min=0.001, help="Distance of the F-score, millimetres.")] = 2.0,
    checkpoint: Annotated[Checkpoint, typer.Option(help="Which checkpoint is judged.")] = Checkpoint.BEST,
    as_json: AS_JSON = False,
) -> None:
    """Judge a trained model on shapes that it has not seen, beside what must be beaten.

    --part train says how well it fits what it was trained on, beside nothing.

    Example: shapestore evaluate reconstruct runs/tiny hearts.zarr --raw hearts --out runs/tiny-test
    """
    from shapestore import api

    del protocol  # there is one
    console = status()
    result = api.evaluate_reconstruction(
        run,
        store,
        raw,
        out,
        part=part,
        cells=cells,
        f_score_mm=f_score,
        which=checkpoint.value,
        on_progress=lambda done, total: console.print(f"{done} of {total} shapes"),
    )
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    _show(result)
    console.print(f"See {out}/report.html")


def _show(result: Reconstruction) -> None:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    print_table(
        ("guess", "IoU", "Dice", "mean Dice of classes"),
        [
            (
                guess,
                shown(result.dense_mean(guess, "iou")),
                shown(result.dense_mean(guess, "dice")),
                shown(result.dense_mean(guess, "mean_dice")),
            )
            for guess in result.guesses
        ],
    )
    surfaces = sum(case.surface is not None for case in result.cases)
    print_table(
        ("of the model", "mean"),
        [
            ("IoU at stored queries", shown(result.query_mean("iou"))),
            ("  in the volume", shown(result.query_mean("vol_iou"))),
            ("  near the surface", shown(result.query_mean("near_iou"))),
            ("accuracy of classes there", shown(result.query_mean("accuracy"))),
            ("Chamfer L1, mm", shown(result.surface_mean("chamfer_l1_mm"))),
            ("95 % Hausdorff, mm", shown(result.surface_mean("hausdorff95_mm"))),
            (f"F-score at {result.f_score_mm:g} mm", shown(result.surface_mean("f_score"))),
            ("normal consistency", shown(result.surface_mean("normal_consistency"))),
            ("shapes with a surface", f"{surfaces} of {len(result.cases)}"),
        ],
    )
