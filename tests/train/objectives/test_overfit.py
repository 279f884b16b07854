from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shapestore.train.models.settings import Normalised, VecSetSettings
from shapestore.train.models.vecset import VecSet
from shapestore.train.objectives.labelled_sdf import LabelledSdf
from shapestore.train.objectives.settings import LabelledSdfSettings

RADIUS = 0.6


def judged(points: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to a sphere, and class: 1 in the lower half of it, 2 in the upper, 0 outside."""
    distance = points.norm(dim=-1) - RADIUS
    return distance, torch.where(distance < 0, 1 + (points[..., 2] > 0), 0).to(torch.int8)


def drawn(generator: torch.Generator) -> dict[str, Tensor]:
    normals = torch.nn.functional.normalize(torch.randn(1, 256, 3, generator=generator), dim=-1)
    points = {
        "surface": normals * RADIUS,
        "vol": torch.rand(1, 256, 3, generator=generator) * 2 - 1,
        "near": normals * (RADIUS + torch.randn(1, 256, 1, generator=generator) * 0.02),
    }
    batch = {f"{name}_points": found for name, found in points.items()}
    for name in ("vol", "near"):
        batch[f"{name}_sdf"], batch[f"{name}_labels"] = judged(points[name])
    return batch | {"surface_labels": judged(normals * RADIUS * 0.99)[1]}


@pytest.mark.parametrize("start", ["learnable", "fps"])
def test_a_sphere_is_learned(start: str) -> None:
    """Distance, side and class are judged on a lattice that was never asked for; nothing at all is off by 0.39."""
    settings = VecSetSettings(
        classes=2, start=start, latents=16, width=32, heads=4, depth=1, bottleneck=Normalised(channels=16)
    )
    model, objective = VecSet(settings), LabelledSdf(LabelledSdfSettings())
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    cloud = {name: tensor for name, tensor in drawn(generator).items() if name.startswith("surface")}
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=150)
    for _ in range(150):
        optimiser.zero_grad()
        objective(model, drawn(generator) | cloud)["loss"].backward()
        optimiser.step()
        schedule.step()
    lattice = torch.cartesian_prod(*[torch.linspace(-0.95, 0.95, 20)] * 3)[None]
    with torch.no_grad():
        answers = model(cloud["surface_points"], cloud["surface_labels"], lattice)
    distance, labels = judged(lattice)
    inside, found = distance < 0, answers[..., 0] < 0
    assert (answers[..., 0] - distance).abs().mean() < 0.06
    assert (inside & found).sum() > 0.9 * (inside | found).sum()
    assert (answers[..., 1:].argmax(-1) + 1 == labels)[inside].float().mean() > 0.9
