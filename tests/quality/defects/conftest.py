"""Healthy stores, made by the real ingest; the tests spoil copies of them. Made once, and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.raw import write_hearts, write_nepa_cache, write_scanobjectnn, write_shapenet, write_vecsetx_cache
from shapestore import api
from shapestore.quality.registry import installed_checks

SIGNED = ("queries.signed=true", "grid.signed=true")

FEW_SAMPLES = (
    "surface.count=8000",
    "surface.per_class_minimum=300",
    "volume.count=8000",
    "volume.per_class_minimum=400",
    "near.count=8000",
)
"""The parts of `cardiac-sdf` with a sixth of the points, in the same proportions."""

UNGATED = tuple(f"checks.{check.name}.gate=false" for check in installed_checks())
"""Settings that let every record into a store, so that a spoilt raw file gives a spoilt store."""


@dataclass(frozen=True)
class Made:
    """Raw files and the store that ingest made of them."""

    kind: str
    raw: Path
    store: Path
    settings: tuple[str, ...] = ()

    def again(self, raw: Path, store: Path) -> Made:
        """Ingest other raw files in the same way."""
        api.ingest(self.kind, raw, store, settings=self.settings, workers=0)
        return Made(self.kind, raw, store, self.settings)


def made(kind: str, raw: Path, folder: Path, *settings: str) -> Made:
    return Made(kind, raw, folder, settings).again(raw, folder / "healthy.zarr")


@pytest.fixture(scope="session")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """8 ShapeNet models: `nepa-shapenet` as it is, and signs."""
    folder = tmp_path_factory.mktemp("meshes")
    return made("shapenet", write_shapenet(folder, models_per_class=2), folder, *SIGNED)


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """15 scans with background."""
    folder = tmp_path_factory.mktemp("scans")
    return made("scanobjectnn", write_scanobjectnn(folder, objects=12), folder)


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Five perturbed variants of each of 8 objects, in a split set `fold` of our own."""
    folder = tmp_path_factory.mktemp("variants")
    whole = made("scanobjectnn", write_scanobjectnn(folder, "PB-T50-RS", objects=7), folder)
    api.split(whole.store, "fold", {"train": 0.6, "val": 0.4})
    return whole


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Five hearts of a man's size; that of case 2 has no LAA, that of case 3 lies oblique."""
    folder = tmp_path_factory.mktemp("hearts")
    raw = write_hearts(folder / "raw", cases=5, size=64, spacing=(2.4, 2.4, 2.4))
    return made("cardiac", raw, folder, *FEW_SAMPLES)


@pytest.fixture(scope="session")
def nepa_cache(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A NEPA-3D cache of spheres and tori."""
    folder = tmp_path_factory.mktemp("nepa-cache")
    return made("npz", write_nepa_cache(folder / "raw"), folder)


@pytest.fixture(scope="session")
def vecsetx_cache(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A VecSetX cache of three cases, each with its own count of near points."""
    folder = tmp_path_factory.mktemp("vecsetx-cache")
    return made("npz", write_vecsetx_cache(folder / "raw"), folder)
