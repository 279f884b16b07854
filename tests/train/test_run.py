"""The folder of a run: what it records, and which settings and stores it goes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

import shapestore
from shapestore.api import ingest
from shapestore.errors import StoreDamaged, UsageError, WorkMismatch
from shapestore.store.reader import Store
from shapestore.train.reconstruction import ReconstructionConfig
from shapestore.train.run import Run, TrainedOn
from tests.train.toy import ToyConfig, ToySettings, make_store, settings

CONFIG = ToyConfig(train=settings(betas=(0.85, 0.99), best={"metric": "iou", "order": "highest"}))


def whole(path: Path) -> TrainedOn:
    store = shapestore.open(path)
    return TrainedOn(store, store.rows())


def test_what_is_asked_is_what_is_kept(tmp_path: Path, toy_store: Path) -> None:
    store, rows = whole(toy_store)
    run = Run.create(tmp_path / "run", CONFIG, [TrainedOn(store, rows)])
    assert Run(tmp_path / "run").config(ToyConfig) == CONFIG
    (identity,) = run.record().stores
    assert identity.path == str(toy_store)
    assert identity.commit == store.root.sha256
    assert identity.recipe_digest == store.root.recipe_digest
    assert run.record().versions["torch"] == torch.__version__
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@given(
    lr=st.floats(1e-12, 1e3),
    decay=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
    dropout=st.floats(0, 1),
)
def test_any_settings_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, lr: float, decay: float, seed: int, dropout: float
) -> None:
    config = ToyConfig(
        train=settings(lr=lr, ema=decay, seed=seed, betas=(decay, decay)), model=ToySettings(dropout=dropout)
    )
    run = Run.create(tmp_path_factory.mktemp("any") / "run", config, [])
    assert run.config(ToyConfig) == config
    run.require_same(config, [])


def test_an_interrupted_making_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".run.new" / "checkpoints").mkdir(parents=True)
    Run.create(tmp_path / "run", CONFIG, [])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_without_a_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no folder of a run: it has no settings.yaml"):
        Run(tmp_path).config(ToyConfig)
    with pytest.raises(UsageError, match=r"has no checkpoint"):
        Run(tmp_path).checkpoint("last")


@pytest.mark.parametrize("text", ["a: [", "train: 3", "train: {steps: 1}", ""])
def test_settings_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    run = Run.create(tmp_path / "run", CONFIG, [])
    (run.path / "settings.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"settings.yaml"):
        run.config(ToyConfig)
    with pytest.raises(UsageError):
        run.require_same(CONFIG, [])


def test_a_run_of_another_system_is_told_in_words(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG, [])
    with pytest.raises(UsageError) as caught:
        run.config(ReconstructionConfig)
    assert "- model.dropout: expected a known key, got an unknown one" in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG, [])
    (run.path / "run.json").write_text("{")
    with pytest.raises(StoreDamaged, match=r"run.json is damaged"):
        run.record()


def test_a_store_is_the_same_wherever_it_lies_and_another_whatever_differs(tmp_path: Path, toy_store: Path) -> None:
    copy, other = make_store(tmp_path / "copy.zarr"), make_store(tmp_path / "other.zarr", shapes=19)
    run = Run.create(tmp_path / "run", CONFIG, [whole(toy_store)])
    run.require_same(CONFIG, [whole(copy)])
    with pytest.raises(WorkMismatch, match=r"other content:(.|\n)*store 0: commit"):
        run.require_same(CONFIG, [whole(other)])
    with pytest.raises(WorkMismatch, match=r"store 1: commit"):
        run.require_same(CONFIG, [whole(toy_store), whole(copy)])


def test_a_store_fits_if_its_arrays_mean_the_same(tmp_path: Path, toy_store: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG, [whole(toy_store)])
    run.require_fit(shapestore.open(make_store(tmp_path / "more.zarr", shapes=21)))
    for name, value in {"recipe_digest": "0" * 64, "content": None}.items():
        store = shapestore.open(toy_store)
        content = store.root.content.model_copy(update={"families": store.root.content.families[:1]})
        update = {"content": content} if value is None else {name: value}
        store.root = store.root.model_copy(update=update)
        with pytest.raises(WorkMismatch, match="Ingest the store with the recipe"):
            run.require_fit(store)


def test_what_was_trained_on_is_known_whatever_a_store_is_divided_into_later(tmp_path: Path, toy_store: Path) -> None:
    store = shapestore.open(toy_store)
    rows = store.rows()
    run = Run.create(tmp_path / "run", CONFIG, [TrainedOn(store, rows[3:9])])
    groups = store.index("group")
    trained = set(groups[rows[3:9]])
    assert 2 <= len(trained) < len(set(groups[rows]))
    assert run.seen(store, rows).tolist() == [groups[row] in trained for row in rows]
    run.require_seen(store, rows[4:8], True)
    with pytest.raises(UsageError, match=r"were not trained on, and should have been(.|\n)*divided otherwise"):
        run.require_seen(store, rows[:8], True)
    with pytest.raises(UsageError, match=r"were trained on, and should not have been(.|\n)*divided otherwise"):
        run.require_seen(store, rows[:8], False)


def boxes(folder: Path, sizes: dict[str, float]) -> TrainedOn:
    """The store of boxes of given lengths, by the names of their files."""
    folder.mkdir()
    for name, size in sizes.items():
        trimesh.creation.box((size, 1, 1)).export(folder / f"{name}.off")
    path = folder.with_suffix(".zarr")
    ingest("meshes", folder, path, settings=["points.count=64", "points.fps_order=0"], workers=0)
    return whole(path)


def test_a_shape_is_known_by_its_raw_input_in_any_store_under_any_name(tmp_path: Path) -> None:
    """Many datasets number their files."""
    one, two = boxes(tmp_path / "one", {"1": 2, "2": 3}), boxes(tmp_path / "two", {"1": 4, "2": 5})
    run = Run.create(tmp_path / "run", CONFIG, [one, two])
    assert run.seen(*one).all()
    assert run.seen(*two).all()
    store, rows = boxes(tmp_path / "more", {"1": 6, "a": 4, "b": 2, "c": 7})
    ids = store.index("shape_id")[rows][run.seen(store, rows)]
    assert sorted(ids.tolist()) == ["a.off", "b.off"]


@pytest.mark.parametrize(("then", "now"), [(True, True), (True, False), (False, True)])
def test_of_a_file_of_many_shapes_each_is_known_by_its_id(
    tmp_path: Path, toy_store: Path, then: bool, now: bool
) -> None:
    """Also where one of two stores has no more than one shape of it."""
    rows = shapestore.open(toy_store).rows()

    def of_one_hash(many: bool) -> Store:
        store = shapestore.open(toy_store)
        real = store.index
        told = {"source_sha256": lambda row: "0" * 64, "source": lambda row: "scans.h5" if many else f"{row}.h5"}
        store.index = lambda name: (  # type: ignore[method-assign]
            np.array([told[name](row) for row in range(len(real(name)))], object) if name in told else real(name)
        )
        return store

    run = Run.create(tmp_path / "run", CONFIG, [TrainedOn(of_one_hash(then), rows[:3])])
    judged = of_one_hash(now)
    groups = judged.index("group")
    assert run.seen(judged, rows).tolist() == [groups[row] in set(groups[rows[:3]]) for row in rows]
    assert not run.seen(judged, rows).all()
