"""Slices of a predicted label map beside those of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shapestore.preprocess.picture_draw import INK, by_code, legend_handles

AXES = "xyz"


def draw_slices(
    path: Path, truth: NDArray[np.int8], prediction: NDArray[np.int8], classes: Sequence[str], title: str
) -> None:
    """Draw truth and prediction, one above the other, across x, y and z, where the truth has most.

    Parameters
    ----------
    path
        PNG file to write.
    truth, prediction
        (size, size, size) codes over the cube [-1, 1]^3, by (x, y, z).
    classes
        Names of the classes 1, 2, ...
    title
        What the shape is called.
    """
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    panels = figure.subplots(2, 3)
    for axis in range(3):
        labelled = (truth > 0).sum(axis=tuple(other for other in range(3) if other != axis))
        place = int(labelled.argmax())
        for panel, codes, what in zip(panels[:, axis], (truth, prediction), ("truth", "prediction"), strict=True):
            cut = np.take(codes, place, axis=axis)
            colours = np.where((cut > 0)[..., None], by_code(cut), 1.0)
            panel.imshow(colours.transpose(1, 0, 2), origin="lower", extent=(-1, 1, -1, 1), interpolation="nearest")
            centre = -1 + (place + 0.5) * 2 / len(truth)
            panel.set_title(f"{what}, {AXES[axis]} = {centre:+.2f}", fontsize=9)
            panel.set_xticks([])
            panel.set_yticks([])
    present = {code: name for code, name in enumerate(classes, start=1) if (truth == code).any()}
    figure.legend(
        handles=legend_handles(present), loc="outside lower center", ncols=5, fontsize=7, frameon=False, labelcolor=INK
    )
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    with mpl.rc_context({"savefig.dpi": 100}):
        figure.savefig(path, metadata={"Software": None})
