"""What the encoder asks the points with: vectors that it learns, or farthest points of the input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from shapestore.errors import UsageError
from shapestore.preprocess.geometry.fps import farthest_point_order


class LearnedLatents(nn.Module):
    """The same learned vectors for every shape: independent of the order of its points."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, width))

    @property
    def count(self) -> int:
        """Number of latent vectors."""
        return len(self.vectors)

    def forward(self, positions: Tensor, embedded: Tensor) -> Tensor:  # noqa: ARG002  FarthestLatents needs both
        """(n, m, width) for a batch of n shapes."""
        return self.vectors.expand(len(embedded), -1, -1)

    def restore(self, decoded: Tensor) -> Tensor:
        """Vectors out of the bottleneck, told apart again by adding the learned ones."""
        return decoded + self.vectors


class FarthestLatents(nn.Module):
    """The embeddings of points of the shape that lie far from each other."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, positions: Tensor, embedded: Tensor) -> Tensor:
        """(n, m, width) of (n, s, 3) positions and their (n, s, width) embeddings."""
        chosen = farthest_points(positions, self.count)
        return torch.take_along_dim(embedded, chosen[..., None], dim=1)

    def restore(self, decoded: Tensor) -> Tensor:
        """The vectors as they are: what differs from shape to shape went through the bottleneck."""
        return decoded


@torch.no_grad()
def farthest_points(positions: Tensor, count: int) -> Tensor:
    """Indices of points each of which is farthest from all before it, on the device of the points.

    Greedy (Gonzalez 1985), from the point farthest from the centroid: on a CPU by the kernel that orders the points of
    stores, elsewhere by torch.

    Parameters
    ----------
    positions
        (n, s, 3) floating positions, finite.
    count
        Number of points, at most s.

    Returns
    -------
    (n, count) int64 Tensor

    Raises
    ------
    UsageError
        There are fewer than `count` points.
    """
    if positions.shape[1] < count:
        raise UsageError(
            f"a shape has {positions.shape[1]} points, but the model starts from {count} of them. "
            f"Draw more points, or ask for fewer latents"
        )
    if positions.device.type != "cpu":
        return farthest_points_by_torch(positions, count)
    # A step of the loop costs torch 60 us, of which all but one are calls.
    orders = [farthest_point_order(cloud, count) for cloud in positions.double().numpy()]
    return torch.from_numpy(np.stack(orders).astype(np.int64))


def farthest_points_by_torch(positions: Tensor, count: int) -> Tensor:
    """`farthest_points` in the precision of the positions, on any device. Time count * s a shape."""
    centred = positions - positions.mean(dim=1, keepdim=True)
    current = centred.square().sum(dim=-1).argmax(dim=1)
    chosen = [current]
    nearest = torch.full_like(positions[..., 0], torch.inf)
    for _ in range(count - 1):
        away = positions - torch.take_along_dim(positions, current[:, None, None], dim=1)
        nearest = torch.minimum(nearest, away.square().sum(dim=-1))
        # Below every distance, so that points that repeat a chosen position come last, and each once.
        nearest.scatter_(1, current[:, None], -1.0)
        current = nearest.argmax(dim=1)
        chosen.append(current)
    return torch.stack(chosen, dim=1)
