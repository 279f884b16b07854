"""A model that sees one real case again and again rebuilds it: the whole way, on what scanners and people made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shapestore import api


@pytest.mark.slow
@pytest.mark.parametrize("case", ["la_003_0", "la_004_0"])
def test_a_real_atrium_is_learned_by_heart(case: str, shared_data: Path, tmp_path: Path) -> None:
    raw, store, run = tmp_path / "raw", tmp_path / "atrium.zarr", tmp_path / "run"
    raw.mkdir()
    shutil.copy(shared_data / f"cardiac/heart-segmentation-monai/{case}.nii.gz", raw)
    api.ingest("cardiac", raw, store, settings=["labels.scheme=single"], workers=0)
    api.split(store, "split", {"train": 1.0})
    alone = ["data.validation=null", "train.best=null", "train.batch=1", "train.reference_batch=1", "train.steps=400"]
    api.train("vecset-tiny", store, run, settings=alone)
    result = api.evaluate_reconstruction(run, store, raw, tmp_path / "out", part="train", cells=64, which="last")
    iou = result.dense_mean("model", "iou")
    assert iou is not None
    assert iou >= 0.9
