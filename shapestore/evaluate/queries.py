"""Scores of a reconstruction at the stored queries of its shapes, as a validation takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shapestore.evaluate.codes import predicted_codes
from shapestore.evaluate.metrics.overlap import inside, iou
from shapestore.train.data.batched import Batch
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.loader import to_device
from shapestore.train.data.visit import Visit

PLACES = ("vol", "near")
"""Kinds of queries, by the prefix of their arrays."""

SCORES = ("iou", "vol_iou", "near_iou", "accuracy")
"""Names of what `query_scores` gives."""


def query_scores(model: nn.Module, dataset: ShapeDataset, batch: int = 4) -> dict[str, float]:
    """Means over all shapes of a dataset, each visited once, in epoch 0.

    Parameters
    ----------
    model
        Called as `VecSet.forward`; on any device, in evaluation mode.
    dataset
        With `surface_*`, `vol_*` and `near_*` draws.
    batch
        Shapes at a time.

    Returns
    -------
    dict
        `vol_iou` and `near_iou`: intersection over union of inside = distance < 0 at either kind of queries; `iou`:
        their mean; `accuracy`: share of all queries whose class, or 0 for outside, is right.

    Raises
    ------
    UsageError
        The model answers NaN for a distance.
    """
    found: dict[str, list[float]] = {"vol_iou": [], "near_iou": [], "accuracy": []}
    for samples, answers in _answered(model, dataset, batch):
        for position in range(len(answers["vol"])):
            right = []
            for place in PLACES:
                truth, answer = samples[f"{place}_sdf"][position].numpy(), answers[place][position]
                found[f"{place}_iou"].append(iou(inside(answer[:, 0]), inside(truth)))
                codes = predicted_codes(answer[:, 0], answer[:, 1:])
                right.append(codes == samples[f"{place}_labels"][position].numpy())
            found["accuracy"].append(float(np.concatenate(right).mean()))
    scores = {name: float(np.mean(values)) for name, values in found.items()}
    scores["iou"] = (scores["vol_iou"] + scores["near_iou"]) / 2
    return {name: scores[name] for name in SCORES}


def _answered(
    model: nn.Module, dataset: ShapeDataset, batch: int
) -> Iterator[tuple[Batch, Mapping[str, NDArray[np.float32]]]]:
    """Batches, and (n, q, 1 + C) answers of the model at each kind of queries."""
    device = next(model.parameters()).device
    for visits in _batches(len(dataset), batch):
        samples = dataset.__getitems__(visits).batch
        moved = to_device(samples, device)
        queries = torch.cat([moved[f"{place}_points"] for place in PLACES], dim=1)
        with torch.no_grad():
            answers = model(moved["surface_points"], moved["surface_labels"], queries).float().cpu().numpy()
        ends = np.cumsum([samples[f"{place}_points"].shape[1] for place in PLACES])
        yield samples, dict(zip(PLACES, np.split(answers, ends[:-1], axis=1), strict=True))


def _batches(count: int, batch: int) -> Iterator[Sequence[Visit]]:
    for start in range(0, count, batch):
        yield [Visit(index) for index in range(start, min(start + batch, count))]
