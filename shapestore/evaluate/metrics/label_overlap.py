"""IoU and Dice of two label maps, from one table of counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.evaluate.metrics.overlap import check_pair, ratio

Labels = NDArray[np.integer]
Scores = tuple[float | None, ...]


@dataclass(frozen=True)
class LabelOverlap:
    """How well two label maps agree; all scores are in [0, 1].

    IoU is that of `overlap`. Dice is 2 |A and B| / (|A| + |B|) = 2 iou / (1 + iou) (Dice, "Measures of the amount of
    ecologic association between species", Ecology 26(3), 1945).

    Attributes
    ----------
    union_iou, union_dice
        Of the union of all classes, label > 0, whatever the class. 1 if both maps are all outside.
    class_iou, class_dice
        Of the classes 1 to C, in this order; None for a class that the truth does not hold. Where it was predicted
        all the same, the classes whose place it took and the union have the loss.
    """

    union_iou: float
    union_dice: float
    class_iou: Scores
    class_dice: Scores

    @property
    def mean_dice(self) -> float | None:
        """Mean of `class_dice` over the classes that the truth holds; None if it holds none."""
        present = [score for score in self.class_dice if score is not None]
        return sum(present) / len(present) if present else None


def label_overlap(prediction: Labels, truth: Labels, classes: int) -> LabelOverlap:
    """Compare two label maps.

    Parameters
    ----------
    prediction, truth
        Integer codes of one shape, at least one element; 0 outside, 1 to `classes` inside.
    classes
        Number C of classes, >= 1.

    Returns
    -------
    LabelOverlap
        Linear in the number of elements.

    Raises
    ------
    UsageError
        If shapes differ, an array has no element, is not of integers, or holds other codes.
    """
    counts = confusion(prediction, truth, classes)
    hits = counts.diagonal().tolist()
    in_truth, in_prediction = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    present = [code for code in range(1, classes + 1) if in_truth[code]]
    sizes = {code: in_truth[code] + in_prediction[code] for code in present}
    iou = {code: ratio(hits[code], sizes[code] - hits[code]) for code in present}
    dice = {code: ratio(2 * hits[code], sizes[code]) for code in present}
    both = int(counts[1:, 1:].sum())
    either = truth.size - hits[0]
    return LabelOverlap(
        union_iou=ratio(both, either),
        union_dice=ratio(2 * both, both + either),
        class_iou=tuple(iou.get(code) for code in range(1, classes + 1)),
        class_dice=tuple(dice.get(code) for code in range(1, classes + 1)),
    )


def confusion(prediction: Labels, truth: Labels, classes: int) -> NDArray[np.int64]:
    """Count the elements of each pair of codes; parameters and errors as `label_overlap`.

    Returns
    -------
    NDArray[np.int64]
        (classes + 1, classes + 1): [code of the truth, code of the prediction].
    """
    check_pair(prediction, truth)
    for name, labels in (("prediction", prediction), ("truth", truth)):
        _check_codes(name, labels, classes)
    codes = classes + 1
    pairs = np.ravel_multi_index((truth.ravel(), prediction.ravel()), (codes, codes))
    return np.bincount(pairs, minlength=codes**2).reshape(codes, codes)


def _check_codes(name: str, labels: Labels, classes: int) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"{name} is {labels.dtype}, not integer class codes: pass the code of each element")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > classes:
        raise UsageError(
            f"{name} holds the codes {low} to {high}, but {classes} classes have the codes 0 (outside) to {classes}: "
            "map the raw values to codes first"
        )
