"""Objective of labelled reconstruction: distance in the volume, near and on the surface, its slope, and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

import torch
from torch import Tensor, nn

from shapestore.errors import UsageError
from shapestore.train.objectives.class_loss import class_loss
from shapestore.train.objectives.settings import LabelledSdfSettings, Where

_PLACES: Final[tuple[Where, ...]] = get_args(Where)


class LabelledSdf:
    """Weighted sum of terms that are taken from a batch by name.

    Parameters
    ----------
    settings
        Weights and variants; nothing else is kept, so that they are what is in effect.
    """

    def __init__(self, settings: LabelledSdfSettings) -> None:
        self.settings = settings

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ask the model once at all queries that a term needs, and compare.

        Parameters
        ----------
        model
            Called as `VecSet.forward` is; it may be wrapped in DDP.
        batch
            `surface_points` (n, s, 3) with `surface_labels` (n, s), the input and the surface queries; `vol_points`
            (n, v, 3) with `vol_sdf` (n, v) and `vol_labels` (n, v); `near_*` alike. Points float32 in [-1, 1],
            distances float32 in the same units, negative inside, labels int8.

        Returns
        -------
        dict[str, Tensor]
            `loss`, with a graph where gradients are enabled, and each term of a positive weight by the name of its
            weight: unweighted, detached.

        Raises
        ------
        UsageError
            The batch lacks a tensor that a term needs, or distances have another shape than their points.
        """
        weights = self.settings.weights
        graph = torch.is_grad_enabled()
        with torch.set_grad_enabled(graph or weights.eikonal > 0):
            sloped, plain = self._queries(batch)
            positions = sloped | plain
            answers = _ask(model, batch, sloped, plain)
            terms = {}
            for name in ("vol", "near"):
                if getattr(weights, name) > 0:
                    target = _taken(batch, f"{name}_sdf", positions[name])
                    terms[name] = (answers[name][..., 0] - target).abs().mean()
            if weights.surface > 0:
                terms["surface"] = answers["surface"][..., 0].abs().mean()
            if sloped:
                terms["eikonal"] = _eikonal(list(sloped.values()), [answers[name] for name in sloped], graph)
            if weights.classes > 0:
                judged = [name for name in positions if name in self.settings.classes_at]
                logits = torch.cat([answers[name][..., 1:] for name in judged], dim=1)
                labels = torch.cat([_taken(batch, f"{name}_labels", positions[name]) for name in judged], dim=1)
                terms["classes"] = class_loss(self.settings.class_loss, logits, labels)
            loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return {"loss": loss if graph else loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def _queries(self, batch: Mapping[str, Tensor]) -> tuple[dict[Where, Tensor], dict[Where, Tensor]]:
        """Positions by name at which the slope is needed, and those at which only the answer is.

        The former are tensors of their own: no gradient is left on the batch.
        """
        weights = self.settings.weights
        sloped = {
            name: _taken(batch, f"{name}_points").detach().requires_grad_()
            for name in _PLACES
            if weights.eikonal > 0 and name in self.settings.eikonal_at
        }
        classes_at = self.settings.classes_at if weights.classes > 0 else ()
        plain = {
            name: _taken(batch, f"{name}_points")
            for name in _PLACES
            if name not in sloped and (name in classes_at or getattr(weights, name) > 0)
        }
        return sloped, plain


def _ask(
    model: nn.Module, batch: Mapping[str, Tensor], sloped: Mapping[Where, Tensor], plain: Mapping[Where, Tensor]
) -> dict[Where, Tensor]:
    """(n, q, 1 + C) answers at each kind of queries, by one call, so that DDP sees one forward for each backward."""
    surface, labels = _taken(batch, "surface_points"), _taken(batch, "surface_labels")
    queries = torch.cat([surface[:, :0], *plain.values()], dim=1)  # of no query where all are sloped
    answers = model(surface, labels, queries, torch.cat(list(sloped.values()), dim=1) if sloped else None)
    positions = {**sloped, **plain}
    parts = answers.split([points.shape[1] for points in positions.values()], dim=1)
    return dict(zip(positions, parts, strict=True))


def _eikonal(positions: list[Tensor], answers: list[Tensor], create_graph: bool) -> Tensor:
    """Mean of (|gradient| - 1)^2: a distance changes by 1 a unit (Gropp et al., "IGR", ICML 2020, equation 2)."""
    distances = torch.cat([answer[..., 0] for answer in answers], dim=1)
    slopes = torch.autograd.grad(distances.sum(), positions, create_graph=create_graph, retain_graph=True)
    length: Tensor = torch.linalg.vector_norm(torch.cat(slopes, dim=1), dim=-1)
    return (length - 1).square().mean()


def _taken(batch: Mapping[str, Tensor], name: str, points: Tensor | None = None) -> Tensor:
    """A tensor of the batch, with one value for each of `points` where these are given."""
    if name not in batch:
        raise UsageError(f"the batch has no {name}, only {', '.join(batch)}. Let a draw of the dataset give it")
    found = batch[name]
    if points is not None and found.shape != points.shape[:-1]:
        raise UsageError(f"{name} has the shape {tuple(found.shape)}, but its points {tuple(points.shape)}")
    return found
