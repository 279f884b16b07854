"""Small stores and validations of them, with the numbers that a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_hearts, write_shapenet
from shapestore import api
from shapestore.quality.check import Check, Measure, Settings, Table, always
from shapestore.quality.finding import Finding, worst_first
from shapestore.quality.measuring import index_of
from shapestore.quality.result import Validation, outcome_of
from shapestore.quality.summary import row_findings, summarise
from shapestore.quality.waivers import Waiver, waive
from shapestore.store.reader import Store

SMALL = ("points.count=256", "points.fps_order=32")

FEW = (
    "labels.grid=32",
    "surface.count=1000",
    "surface.per_class_minimum=20",
    "volume.count=4000",
    "volume.per_class_minimum=20",
    "near.count=1000",
)


class Hearts:
    """Two cases with `label_grid`, and their raw files."""

    def __init__(self, folder: Path) -> None:
        self.raw = write_hearts(folder / "raw", cases=2)
        api.ingest("cardiac", self.raw, folder / "hearts.zarr", settings=FEW, workers=0)
        self.store = api.open(folder / "hearts.zarr")


@pytest.fixture(scope="session")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """12 shapes of 4 classes, and three that are quarantined."""
    folder = tmp_path_factory.mktemp("report-meshes")
    raw = write_shapenet(folder, models_per_class=3)
    for number in range(3):
        bad = raw / "03001627" / f"bad<b>{number}" / "models" / "model_normalized.obj"
        bad.parent.mkdir(parents=True)
        bad.write_text("v 0 0 0\n")
    api.ingest("shapenet", raw, folder / "meshes.zarr", recipe="points", settings=SMALL, workers=0)
    return api.open(folder / "meshes.zarr")


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Hearts:
    return Hearts(tmp_path_factory.mktemp("report-hearts"))


def measure(store: Store, values: Sequence[float], array: str = "pc_xyz", **about: object) -> Measure:
    """A measure of all valid rows."""
    name = str(about.pop("name", f"number of {array}"))
    remedy = "Look at it."
    return Measure(name, np.asarray(values, np.float64), arrays=(array,), remedy=remedy, **about)  # type: ignore[arg-type]


def validation(
    store: Store,
    measures: Sequence[Measure] = (),
    findings: Sequence[Finding] = (),
    waivers: Sequence[Waiver] = (),
    check: str = "sign-balance",
) -> Validation:
    """What `validate` says of a store when one check has measured this of all rows."""
    rows = store.rows()
    made = Check(check, "It is for this test.", "error", Settings, always, lambda batch, settings: ())
    root = store.root
    table = Table(root.content, root.recipe, rows, index_of(store, rows), {each.name: each for each in measures})
    marked, unused = waive((*findings, *row_findings(made, table, str(store.path))), waivers)
    marked = tuple(sorted(marked, key=worst_first))
    passed, outcome = outcome_of(marked)
    return Validation(
        passed=passed,
        outcome=outcome,
        store=str(store.path),
        level="full",
        commit=root.sha256,
        recipe=root.recipe_digest,
        rows=len(store),
        checked=len(rows),
        quarantined=root.quarantined,
        seconds=1.5,
        guarantee="every row was checked",
        checks=(summarise(made, Settings(), table, marked, ""),),
        findings=marked,
        unused_waivers=unused,
    )
