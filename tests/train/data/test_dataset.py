"""`ShapeDataset` and `MixedDataset`: a sample is a function of its visit, whoever reads it and beside what."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import shapestore
from shapestore import api
from shapestore.errors import RowEmpty, StoreDamaged, UsageError
from shapestore.train.data.batched import Gathered, collate
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import PrefixDraw, RandomDraw, StratifiedDraw
from shapestore.train.data.mixed import MixedDataset
from shapestore.train.data.visit import Visit
from tests.train.data.stores import ALL_OUTSIDE, CATEGORIES, FAILED, ROWS, row_arrays, row_entry, write_store

DRAWS = (
    RandomDraw(arrays=("near_points", "near_sdf"), count=9),
    PrefixDraw(arrays=("pc_n",), order="pc_fps_order", count=6),
    StratifiedDraw(
        arrays=("vol_points", "vol_labels"), by="vol_sdf", counts={"inside": 5, "outside": 7}, missing="others"
    ),
)
FIELDS = ("pc_xyz", "category", "shift", "near_count")


@pytest.fixture(scope="module")
def dataset(path: Path) -> ShapeDataset:
    return ShapeDataset(path, FIELDS, draws=DRAWS, seed=3)


@pytest.fixture(scope="module")
def mixed(dataset: ShapeDataset, other_path: Path) -> MixedDataset:
    return MixedDataset([(dataset, 1), (ShapeDataset(other_path, FIELDS, draws=DRAWS, seed=4), 3)])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


visits = st.builds(Visit, st.integers(0, 10**4), st.integers(0, 3), st.integers(0, 2))


def test_fields_come_as_they_are_stored(dataset: ShapeDataset) -> None:
    assert len(dataset) == ROWS - 1
    for index, row in enumerate(row for row in range(ROWS) if row not in FAILED):
        found, pools = dataset[index], row_arrays(row)
        assert found["row"].item() == row
        assert found["pc_xyz"].numpy().tobytes() == pools["pc_xyz"].tobytes()
        assert found["category"].item() == int(row % 5 == 0)
        assert found["shift"].dtype == torch.float64
        assert found["near_count"].item() == row_entry(row, "").declared["near_count"]
        assert found["pc_n"].numpy().tobytes() == pools["pc_n"][pools["pc_fps_order"][:6]].tobytes()


@settings(max_examples=40)
@given(asked=st.lists(visits, min_size=1, max_size=9))
def test_a_sample_is_the_same_in_any_batch(dataset: ShapeDataset, mixed: MixedDataset, asked: list[Visit]) -> None:
    for source in (dataset, mixed):
        batch = [visit._replace(index=visit.index % len(source)) for visit in asked]
        gathered = source.__getitems__(batch)
        assert len(gathered) == len(batch)
        assert all(values.is_contiguous() for values in gathered.batch.values())
        for position, visit in enumerate(batch):
            alone = source[visit]
            assert same(gathered[position], alone)
            assert {name: (tuple(v.shape), v.numpy().dtype) for name, v in alone.items()} == dict(source.layout)


def test_an_int_is_the_first_visit(dataset: ShapeDataset) -> None:
    assert same(dataset[5], dataset[Visit(5, 0, 0)])
    assert same(dataset[np.int64(5)], dataset[5])
    assert not same(dataset[Visit(5, 1)], dataset[5])


def test_a_sample_depends_on_no_row_number_and_no_other_shape(dataset: ShapeDataset, path: Path) -> None:
    """A shape that lies elsewhere, in a store with fewer others, gives the same sample."""
    alone = ShapeDataset(path, FIELDS, draws=DRAWS, seed=3, rows=[20])
    index = dataset.rows.tolist().index(20)
    assert same(alone[Visit(0, 2, 1)], dataset[Visit(index, 2, 1)])


def test_known_samples_never_change(dataset: ShapeDataset) -> None:
    """Runs that were stopped go on with these."""
    assert dataset[Visit(0, 1, 2)]["near_sdf"].numpy().tobytes().hex() == KNOWN


KNOWN = "9ea9bf3df645bb3d9b1d6a3d91ec02bcd89d833cbef8b03dc70275bc590b843deb16b53d"


@pytest.mark.parametrize("used", [False, True])
def test_a_pickled_dataset_is_small_and_the_same(dataset: ShapeDataset, mixed: MixedDataset, used: bool) -> None:
    for source in (dataset, mixed):
        before = source.__getitems__([1, 2, 3]).batch if used else None
        data = pickle.dumps(source)
        members = source.members if isinstance(source, MixedDataset) else [source]
        stores = sum(len(pickle.dumps(member.store)) for member in members)
        assert len(data) < stores + 8 * len(source) + 6_000 * len(members), "the root, row numbers, and settings"
        again = pickle.loads(data)
        assert len(again) == len(source)
        assert same(again.__getitems__([1, 2, 3]).batch, before or source.__getitems__([1, 2, 3]).batch)
        assert again.identity() == source.identity()


@pytest.mark.parametrize("index", [-1, ROWS - 1, 2**40])
def test_a_sample_that_is_not_there_is_an_index_error(dataset: ShapeDataset, index: int) -> None:
    with pytest.raises(IndexError):
        dataset[index]
    with pytest.raises(IndexError):
        dataset.__getitems__([0, Visit(index, 1)])


def test_rows_and_splits(path: Path) -> None:
    store = shapestore.open(path)
    test = [row for row in range(ROWS) if row % 4 == 0 and row not in FAILED]
    assert ShapeDataset(store, ["shift"], split="test").rows.tolist() == test
    assert ShapeDataset(store, ["shift"], rows=[9, 2]).rows.tolist() == [9, 2]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a missing field": ({"fields": ["pc_xzy", "shift"]}, r"no pc_xzy\. The store has: category, .*pc_xyz"),
    "one name": ({"fields": "pc_xyz"}, r"a list such as \['pc_xyz'\]"),
    "one draw": ({"draws": DRAWS[0]}, r"a list such as \[RandomDraw"),
    "a draw as a mapping": ({"draws": [DRAWS[0].model_dump()]}, r"a list such as \[RandomDraw"),
    "text": ({"fields": ["shape_id"]}, "is text"),
    "twice": ({"fields": ["vol_points"], "draws": DRAWS}, "vol_points would be twice"),
    "the row": ({"fields": ["row"]}, "no row"),
    "nothing": ({}, "without fields"),
    "rows and a split": ({"fields": ["shift"], "rows": [1], "split": "train"}, "not by both"),
    "no rows": ({"fields": ["shift"], "rows": np.empty(0, int)}, "at least one"),
    "a row twice": ({"fields": ["shift"], "rows": [1, 1]}, "different rows"),
    "an unknown split": ({"fields": ["shift"], "split": "tset"}, "train, test"),
    "a mask": ({"fields": ["shift"], "rows": np.ones(3, bool)}, "must be integers"),
}


@pytest.mark.parametrize(("options", "why"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_asked_for_is_refused(path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ShapeDataset(path, **options)


def test_an_empty_row_is_refused(path: Path) -> None:
    with pytest.raises(RowEmpty, match="no faces"):
        ShapeDataset(path, ["shift"], rows=[1, *FAILED])


def test_a_damaged_sample_is_an_error_and_never_another_one(tmp_path: Path) -> None:
    broken = write_store(tmp_path / "broken.zarr", rows=9, failed=())
    file = broken / "vol_points" / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[3 * (60 * 12 + 4) + 7] ^= 1
    file.write_bytes(content)
    dataset = ShapeDataset(broken, draws=DRAWS)
    with pytest.raises(StoreDamaged, match=r"vol_points, row 3"):
        dataset.__getitems__(range(9))
    with pytest.raises(StoreDamaged, match=r"vol_points, row 3"):
        list(DataLoader(dataset, batch_size=3, collate_fn=collate))
    assert len(dataset.__getitems__([0, 1, 2, 4])) == 4


def test_identity_names_what_differs(dataset: ShapeDataset, path: Path, tmp_path: Path) -> None:
    def differing(other: ShapeDataset) -> set[str]:
        now, then = dataset.identity(), other.identity()
        return {name for name in now if now[name] != then[name]}

    options: dict[str, Any] = {"fields": FIELDS, "draws": DRAWS, "seed": 3}
    assert differing(ShapeDataset(path, **options)) == set()
    assert differing(ShapeDataset(write_store(tmp_path / "same.zarr"), **options)) == set(), "wherever it lies"
    assert differing(ShapeDataset(path, **{**options, "seed": 4})) == {"dataset seed"}
    assert differing(ShapeDataset(path, **{**options, "rows": dataset.rows[::-1]})) >= {"shapes"}
    assert differing(ShapeDataset(path, **{**options, "draws": DRAWS[::-1]})) == {"draws"}
    assert differing(ShapeDataset(write_store(tmp_path / "salt.zarr", salt=2), **options)) == {"content"}
    assert differing(ShapeDataset(write_store(tmp_path / "ids.zarr", prefix="s"), **options)) == {"shapes"}


def test_balanced_weights_are_even_over_the_values(dataset: ShapeDataset, mixed: MixedDataset) -> None:
    weights, lamps = dataset.balanced("category"), dataset.rows % 5 == 0
    assert weights[lamps].sum() == pytest.approx(0.5)
    assert weights[~lamps].sum() == pytest.approx(0.5)
    assert len(set(weights[lamps].tolist())) == len(set(weights[~lamps].tolist())) == 1
    both = mixed.balanced("category")
    assert both[: len(dataset)] == pytest.approx(weights / 4)
    assert both.sum() == pytest.approx(1)
    for column in ("colour", "shift", "quarantine/row"):
        with pytest.raises(UsageError, match=f"{column}', but: .*category"):
            dataset.balanced(column)


def test_shapes_without_a_category_cannot_be_balanced(tmp_path: Path) -> None:
    store = write_store(tmp_path / "none.zarr", rows=6, failed=(), nameless=(2, 5))
    with pytest.raises(UsageError, match=r"2 shapes, such as 'shapes/002-ü', have no category"):
        ShapeDataset(store, ["shift"]).balanced("category")
    assert ShapeDataset(store, ["shift"], rows=[0, 1, 3]).balanced("category").tolist() == [0.5, 0.25, 0.25]


def test_a_mixture_is_its_members_one_after_another(dataset: ShapeDataset, mixed: MixedDataset) -> None:
    other = mixed.members[1]
    assert len(mixed) == len(dataset) + len(other)
    for index in (0, len(dataset) - 1, len(dataset), len(mixed) - 1):
        member = int(index >= len(dataset))
        found = mixed[Visit(index, 2, 1)]
        assert found.pop("member").item() == member
        assert same(found, mixed.members[member][Visit(index - member * len(dataset), 2, 1)])
    assert mixed.weights[: len(dataset)].sum() == pytest.approx(1 / 4)
    assert mixed.weights.sum() == pytest.approx(1)
    assert len(set(mixed.ids.tolist())) == len(mixed), "though the stores have shapes of the same name"


def test_a_mixture_of_unlike_samples_is_refused(dataset: ShapeDataset, other_path: Path) -> None:
    with pytest.raises(UsageError, match="dataset 1 of a mixture"):
        MixedDataset([(dataset, 1), (ShapeDataset(other_path, FIELDS, draws=DRAWS[:2]), 1)])
    for weight in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="weight"):
            MixedDataset([(dataset, weight)])
    for members in ([], [dataset], [dataset, dataset]):
        with pytest.raises(UsageError, match="has datasets, each with a weight"):
            MixedDataset(members)  # type: ignore[arg-type]


def test_a_mixture_of_codes_that_mean_different_things_is_refused(path: Path, other_path: Path) -> None:
    def mix(field: str, names: tuple[str, ...]) -> MixedDataset:
        other = api.open(other_path)
        other.root = other.root.model_copy(update={"codes": {**other.root.codes, "category": names}})
        return MixedDataset([(ShapeDataset(path, [field]), 1), (ShapeDataset(other, [field]), 1)])

    mix("category", CATEGORIES)
    mix("category", (*CATEGORIES, "one more"))
    mix("pc_xyz", CATEGORIES[::-1])
    with pytest.raises(UsageError, match=r"code 0 of category is 'chair' in .* and 'lamp' in .*Leave category"):
        mix("category", CATEGORIES[::-1])


def test_collate_refuses_single_samples(dataset: ShapeDataset) -> None:
    with pytest.raises(UsageError, match="default collate_fn"):
        collate([dataset[0], dataset[1]])


def test_a_gathered_batch_is_a_sequence_of_samples(dataset: ShapeDataset) -> None:
    gathered = dataset.__getitems__([3, 1])
    assert isinstance(gathered, Gathered)
    assert [int(sample["row"]) for sample in gathered] == [3, 1]
    with pytest.raises(IndexError):
        gathered[2]


def test_the_shape_without_an_inside_is_among_them(dataset: ShapeDataset) -> None:
    assert (dataset[dataset.rows.tolist().index(ALL_OUTSIDE)]["vol_labels"] == 0).all()
