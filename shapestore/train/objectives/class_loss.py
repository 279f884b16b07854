"""Loss of class logits: cross-entropy of each class on its own, plain or focal."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from shapestore.errors import UsageError
from shapestore.train.models.embedding import one_hot
from shapestore.train.objectives.settings import Bce, Focal


def class_loss(settings: Bce | Focal, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over queries and classes; background is the target 0 for every class.

    Focal: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 5, with the class weights for alpha.
    Logits of 16 bits are judged in float32: with theirs, many small losses would be lost in the mean.

    Parameters
    ----------
    settings
        Which loss, with which class weights.
    logits
        (..., C) of classes 1 and up.
    labels
        (...) int8 class codes, 0 for background.

    Returns
    -------
    () Tensor

    Raises
    ------
    UsageError
        A weight is given for a class above C.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = one_hot(labels, logits.shape[-1]).to(logits.dtype)
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if isinstance(settings, Focal):
        # By the logarithm: below gamma 1 the power of a probability that rounds to 0 has an infinite slope.
        wrong = logsigmoid((1 - 2 * targets) * logits)
        losses = losses * (settings.gamma * wrong).exp()
    if settings.class_weights:
        losses = losses * _weights(settings.class_weights, logits)
    return losses.mean()


def _weights(by_code: dict[int, float], logits: Tensor) -> Tensor:
    """(C,) factors."""
    classes = logits.shape[-1]
    if max(by_code) > classes:
        raise UsageError(
            f"class_weights names class {max(by_code)}, but the model has classes 1 to {classes}. "
            f"Take it out, or build the model with more classes"
        )
    return logits.new_tensor([by_code.get(code, 1.0) for code in range(1, classes + 1)])
