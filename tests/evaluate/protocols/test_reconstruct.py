"""Hearts in, a trained model out, judged against the raw label maps: the whole way, small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from demo.heart import write_hearts
from shapestore import api
from shapestore.errors import InputRefused, RecipeInvalid, UsageError, WorkMismatch
from shapestore.evaluate.dense import DenseField, predict
from shapestore.evaluate.metrics.label_overlap import label_overlap
from shapestore.evaluate.protocols.reconstruct import write_meshes
from shapestore.evaluate.reconstruction import surface_scores, truth_of
from shapestore.preprocess.geometry.closed_mesh import signed_volume
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.quality.raw_labels import raw_label_map
from shapestore.store.reader import Store
from shapestore.train import reconstruction
from shapestore.train.reconstruction import JUDGED, DataSettings, Samples, load_config, rows_of, samples
from shapestore.train.run import StoreIdentity

SETTINGS = (
    "surface.count=2000",
    "surface.per_class_minimum=20",
    "volume.count=30000",
    "volume.per_class_minimum=100",
    "near.count=30000",
)
MODEL = ("model.latents=16", "model.width=32", "model.heads=2", "model.depth=1")
SHORT = (
    *MODEL,
    *("train.steps=4", "train.batch=2", "train.reference_batch=2", "train.warmup_steps=1", "train.validate_every=2"),
    *("train.checkpoint_every=2", "data.surface=200", "data.inside=50", "data.outside=50", "data.near=50"),
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hearts(tmp_path_factory.mktemp("hearts"), cases=6, size=40)


@pytest.fixture(scope="module")
def hearts(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "hearts.zarr"
    api.ingest("cardiac", raw, path, settings=SETTINGS, workers=0)
    api.split(path, "split", {"train": 0.5, "val": 0.2, "test": 0.3})
    return path


@pytest.fixture(scope="module")
def run(hearts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    state = api.train("vecset-tiny", hearts, folder, settings=SHORT)
    assert state.step == 4
    assert state.best is not None
    return folder


def test_a_best_by_a_score_that_there_is_not_is_refused_before_training(hearts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train.best is 'loss', and the validation gives iou, vol_iou"):
        api.train("vecset-tiny", hearts, tmp_path / "run", settings=[*SHORT, "train.best.metric=loss"])
    assert not (tmp_path / "run").exists()


def test_the_stored_samples_themselves_rebuild_the_raw_label_map(hearts: Path, raw: Path) -> None:
    """Shift, scale, signs, codes and grid agree: the nearest stored sample is as good a model as there can be."""
    store = api.open(hearts)
    for row in store.rows()[:3].tolist():
        arrays = [(store[f"{where}_points"][row], store[f"{where}_sdf"][row], store[f"{where}_labels"][row])
                  for where in ("vol", "near")]  # fmt: skip
        points, sdf, labels = (np.concatenate(each) for each in zip(*arrays, strict=True))
        tree = cKDTree(points)

        def decode(queries: NDArray[np.float32]) -> NDArray[np.float32]:
            nearest = tree.query(queries)[1]  # noqa: B023 (used at once)
            logits = np.eye(11, dtype=np.float32)[labels[nearest]][:, 1:]  # noqa: B023
            return np.concatenate([sdf[nearest, None], logits], axis=1)  # noqa: B023

        truth = truth_of(store, row, raw, 48)
        codes = predict(decode, 48, 10).codes
        found = label_overlap(codes, truth.codes, 10)
        assert found.union_iou > 0.8  # the voxels of the map are as large as these cells
        assert found.mean_dice is not None
        assert found.mean_dice > 0.7
        for axis in range(3):
            for shift in (-1, 1):
                moved = label_overlap(np.roll(codes, shift, axis), truth.codes, 10)
                assert moved.union_iou < found.union_iou - 0.05, "a cell to either side fits less"


def test_the_true_surface_lies_where_the_store_has_its_points(hearts: Path, raw: Path) -> None:
    store = api.open(hearts)
    row = int(store.rows()[0])
    truth = truth_of(store, row, raw, 16)
    outer = truth.frame.invert(store["surface_points"][row])
    on_it = cKDTree(truth.surface.vertices).query(outer)[0] < 6  # millimetres; the voxels are 4
    assert on_it.mean() > 0.5, "the others are walls between chambers"
    labels = raw_label_map(store, row, raw)
    volume = (labels.codes > 0).sum() * abs(np.linalg.det(labels.affine[:3, :3]))
    assert signed_volume(truth.surface) == pytest.approx(volume, rel=0.05), "all classes, whichever"
    same = surface_scores(truth.surface, truth.surface, "x", 2.0)
    assert same.hausdorff95_mm < 3
    assert same.normal_consistency > 0.9


def test_a_run_is_judged_with_scores_pictures_meshes_and_a_page(
    run: Path, hearts: Path, raw: Path, tmp_path: Path
) -> None:
    result = api.evaluate_reconstruction(run, hearts, raw, tmp_path / "out", cells=24)
    store = api.open(hearts)
    assert (result.subject.run, result.subject.part, result.subject.held_out) == (str(run), "test", True)
    assert result.subject.store == StoreIdentity.of(store)
    assert result.subject.step in (2, 4)
    tested = set(store.index("shape_id")[store.rows(split="test")])
    assert {case.shape_id for case in result.cases} == tested
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result.model_dump(mode="json")
    means = json.loads((tmp_path / "out" / "result.json").read_text())["means"]
    assert list(means) == [*result.guesses, "queries", "surface"]
    assert means["model"]["iou"] == np.mean([case.dense["model"].iou for case in result.cases])
    assert means["queries"]["near_iou"] == np.mean([case.queries["near_iou"] for case in result.cases])
    page = (tmp_path / "out" / "report.html").read_text()
    for number, case in enumerate(result.cases):
        assert case.shape_id in page
        assert f"{number:03d}/slices.png" in page
        assert (tmp_path / "out" / f"{number:03d}" / "slices.png").read_bytes().startswith(b"\x89PNG")
        assert 0 <= case.queries["iou"] <= 1
        nearest = case.dense["nearest training case"]
        assert 0.1 < nearest.iou < 1, "another heart in the same pose"
    for file in (tmp_path / "out").rglob("*.ply"):
        assert trimesh.load(file, process=False).vertices.shape[1] == 3
    with pytest.raises(UsageError, match="is there already"):
        api.evaluate_reconstruction(run, hearts, raw, tmp_path / "out", cells=24)


def test_shapes_that_were_trained_on_are_judged_only_as_such(
    run: Path, hearts: Path, raw: Path, tmp_path: Path
) -> None:
    result = api.evaluate_reconstruction(run, hearts, raw, tmp_path / "out", part="train", cells=16)
    assert (result.subject.held_out, result.guesses) == (False, ("model",))
    assert all(list(case.dense) == ["model"] for case in result.cases)
    assert "3 shapes that were trained on" in (tmp_path / "out" / "report.html").read_text()


def test_a_store_that_is_divided_anew_does_not_make_trained_shapes_unseen(
    run: Path, hearts: Path, raw: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.zarr"
    shutil.copytree(hearts, other)
    before = api.open(hearts)
    api.split(other, "split", {"test": 0.5, "train": 0.5}, seed=1, replace=True)
    after = api.open(other)
    assert set(before.rows(split="train")) & set(after.rows(split="test"))
    assert set(after.rows(split="train")) - set(before.rows(split="train"))
    for part, why in (("test", "were trained on, and should not"), ("train", "were not trained on, and should")):
        with pytest.raises(UsageError, match=why):
            api.evaluate_reconstruction(run, other, raw, tmp_path / "out", part=part, cells=16)
    assert not (tmp_path / "out").exists()


def test_other_hearts_are_judged_without_baselines(run: Path, tmp_path: Path) -> None:
    """They would come of shapes that the store of these hearts has not; its own have the same names, and are others."""
    raw, path = write_hearts(tmp_path / "raw", cases=2, size=40, seed=99), tmp_path / "other.zarr"
    api.ingest("cardiac", raw, path, settings=SETTINGS, workers=0)
    api.split(path, "split", {"test": 1.0})
    result = api.evaluate_reconstruction(run, path, raw, tmp_path / "out", cells=16)
    assert (result.subject.held_out, result.guesses) == (True, ("model",))


def test_a_model_is_judged_by_many_queries_and_by_shapes_as_they_are(hearts: Path, raw: Path, tmp_path: Path) -> None:
    """However few the recipe trains on, however far it turns them, and however few a store has."""
    few = tmp_path / "few.zarr"
    api.ingest("cardiac", raw, few, settings=(*SETTINGS, "near.count=1000"), workers=0)
    little = ["data.near=10", "data.inside=10", "data.outside=10", "data.rotation=90"]
    for store in (api.open(hearts), api.open(few)):
        judged = samples(store, store.rows(), load_config("vecset-tiny", little, store).data, judged=True)[0]
        inside = judged["vol_sdf"] < 0
        assert (int(inside.sum()), int((~inside).sum()), len(judged["near_sdf"])) == (JUDGED,) * 3
        stored = {tuple(point) for point in store["near_points"][0].tolist()}
        assert {tuple(point) for point in judged["near_points"].tolist()} <= stored


def test_a_raw_file_that_has_changed_is_refused(run: Path, hearts: Path, raw: Path, tmp_path: Path) -> None:
    changed = tmp_path / "raw"
    shutil.copytree(raw, changed)
    store = api.open(hearts)
    source = store.index("source")[store.rows(split="test")[0]]
    other = store.index("source")[store.rows(split="train")[0]]
    shutil.copy(raw / other, changed / source)
    with pytest.raises(InputRefused, match=r"is not the file that was ingested\. Is .* the folder of the raw files"):
        api.evaluate_reconstruction(run, hearts, changed, tmp_path / "out", cells=16)
    with pytest.raises(UsageError, match=r"no split 'foo'. It has: train, val, test.$"):
        api.evaluate_reconstruction(run, hearts, raw, tmp_path / "out", part="foo")
    with pytest.raises(UsageError, match="is no folder"):
        api.evaluate_reconstruction(run, hearts, tmp_path / "nowhere", tmp_path / "out", cells=16)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"], "the corrected command may take the same folder"


def test_a_store_of_another_recipe_is_refused(run: Path, raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    api.ingest("cardiac", raw, other, settings=(*SETTINGS, "near.sigma=0.02"), workers=0)
    with pytest.raises(WorkMismatch, match="recipe"):
        api.evaluate_reconstruction(run, other, raw, tmp_path / "out", cells=16)


def test_a_finished_run_is_resumed_to_nothing_and_another_setting_is_refused(run: Path, hearts: Path) -> None:
    assert api.train("vecset-tiny", hearts, run, settings=SHORT, resume="auto").step == 4
    with pytest.raises(WorkMismatch, match=r"model\.depth"):
        api.train("vecset-tiny", hearts, run, settings=(*SHORT, "model.depth=2"), resume="auto")
    with pytest.raises(UsageError, match="there already"):
        api.train("vecset-tiny", hearts, run, settings=SHORT)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (("train.stepz=4",), RecipeInvalid, "steps"),
        (("model.classes=3",), UsageError, "10 classes"),
        (("data.split=fold9",), UsageError, "shapestore split"),
        (("model.latents=201",), RecipeInvalid, "model.latents = 201 from the data.surface = 200 points"),
        (("objective.class_loss={class_weights: {11: 2.0}, kind: focal}",), RecipeInvalid, "names class 11"),
        (("data.validation=train",), RecipeInvalid, "both 'train'"),
        (("data.train=nobody",), UsageError, r"no split .nobody.. It has: train, val, test\.$"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    settings: tuple[str, ...], error: type[Exception], text: str, hearts: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        api.train("vecset-tiny", hearts, tmp_path / "run", settings=(*SHORT, *settings))
    assert not (tmp_path / "run").exists()


def test_parts_are_read_back_from_the_shapes_of_the_datasets(hearts: Path, tmp_path: Path) -> None:
    shutil.copytree(hearts, tmp_path / "hearts.zarr")
    api.split(tmp_path / "hearts.zarr", "half", {"a": 0.5, "b": 0.5}, within="train")
    store = api.open(tmp_path / "hearts.zarr")
    asked = DataSettings(surface=200, inside=50, outside=50, near=50)
    built = Samples(store, asked)
    assert built.settings == asked
    assert built.dataset.rows.tolist() == rows_of(store, "split", "train").tolist()
    assert built.validation is not None
    assert built.validation.rows.tolist() == rows_of(store, "split", "val").tolist()
    alone = Samples(store, asked.model_copy(update={"validation": None}))
    assert alone.validation is alone.settings.validation is None

    train, test = built.dataset.rows, rows_of(store, "split", "test")
    assert (len(train), len(test)) == (3, 2)
    for rows, said in (
        (test, "test"),
        (train[:2], "2 of 3 shapes of train"),
        (np.concatenate([train, test[:1]]), "3 of 3 shapes of train, 1 of 2 shapes of test"),
    ):
        built.dataset = samples(store, rows, asked)
        built.validation = samples(store, rows, asked, judged=True)
        assert (built.settings.train, built.settings.validation) == (said, said)

    ids = [str(store.index("shape_id")[row]) for row in (0, 1)]
    texts = asked.model_copy(update={"split": "shape_id", "train": ids[0], "validation": ids[1]})
    assert Samples(store, texts).settings == texts
    halves = Samples(store, asked.model_copy(update={"split": "half", "train": "a", "validation": "b"}))
    halves.dataset = samples(store, test, asked)
    assert halves.settings.train == "2 of 3 shapes of no part"


@pytest.mark.parametrize("which", ["dataset", "validation"])
def test_other_shapes_than_those_asked_for_are_not_trained_on(
    which: str, hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Samples):
        def __init__(self, store: Store, settings: DataSettings) -> None:
            super().__init__(store, settings)
            rows = rows_of(store, settings.split, "test")
            setattr(self, which, samples(store, rows, settings, judged=which == "validation"))

    monkeypatch.setattr(reconstruction, "Samples", Other)
    told = "data.train: expected 'train'" if which == "dataset" else "data.validation: expected 'val'"
    with pytest.raises(WorkMismatch, match=rf"did not arrive(.|\n)*{told}, got 'test'"):
        api.train("vecset-tiny", hearts, tmp_path / "run", settings=SHORT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cells": 0}, "cells is 0. Choose 8 to 512"),
        ({"cells": 7}, "cells is 7"),
        ({"cells": -3}, "cells is -3"),
        ({"cells": 513}, "cells is 513"),
        ({"f_score_mm": 0.0}, "f_score_mm is 0.0. Choose a finite distance of at least 0.001 mm"),
        ({"f_score_mm": -2.0}, "f_score_mm is -2"),
        ({"f_score_mm": float("nan")}, "f_score_mm is nan"),
        ({"f_score_mm": float("inf")}, "f_score_mm is inf"),
        ({"which": "newest"}, "which is 'best' or 'last', not 'newest'"),
    ],
)
def test_what_a_run_cannot_be_judged_by_is_refused_before_anything_is_read(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=text):
        api.evaluate_reconstruction("no run", "no store", "no folder", tmp_path / "out", **options)


def test_meshes_have_names_that_every_system_takes(tmp_path: Path) -> None:
    names = ("L/R", "../up", "CON: *?", "Vorhof-links_2.a", "ä" * 300, "x\n")
    sdf, logits = np.full((8, 8, 8), -1, np.float32), np.zeros((8, 8, 8, len(names)), np.float32)
    for code in range(len(names)):
        logits[code + 1, ..., code] = 1
    write_meshes(tmp_path, DenseField(sdf, logits), Frame(np.zeros(3), 1.0), names)
    expected = ["01-L_R", "02-.._up", "03-CON____", "04-Vorhof-links_2.a", "05-" + "_" * 80, "06-x_"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.ply" for name in expected]
