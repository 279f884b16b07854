"""Draws: what they pick, from which strata, how often, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from shapestore.errors import UsageError
from shapestore.schemas.array import ArraySpec, Code
from shapestore.schemas.seeding import generator
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import Draw, PrefixDraw, RandomDraw, StratifiedDraw
from shapestore.train.data.picks import FEW, choose, choose_members, count_members, shuffled_start
from shapestore.train.data.visit import Visit
from tests.test_imports import loaded_after
from tests.train.data.stores import ALL_OUTSIDE, CLOUD, ORDER, filled_near, row_arrays

LABELS = ArraySpec(
    name="l",
    dims=("point",),
    shape=(50,),
    dtype="int8",
    long_name="l",
    role="labels",
    codes=tuple(Code(value=value, name=name) for value, name in [(-1, "background"), (0, "rim"), (3, "object")]),
)


def shuffle_start(uniform: np.ndarray, entries: int) -> list[int]:
    """The start of a shuffle, as the book has it."""
    deck = list(range(entries))
    for i, u in enumerate(uniform):
        j = i + int(u * (entries - i))
        deck[i], deck[j] = deck[j], deck[i]
    return deck[: len(uniform)]


@given(entries=st.integers(1, 60) | st.integers(1, 5000), data=st.data(), seed=st.integers(0, 2**32))
def test_without_replacement_is_a_part_of_a_shuffle(entries: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, entries) | st.integers(0, entries // FEW))
    picks = choose(np.random.default_rng(seed), entries, count, replace=False)
    assert picks.dtype == np.intp
    assert len(set(picks.tolist())) == len(picks) == count
    assert all(0 <= pick < entries for pick in picks)
    assert picks.tolist() == shuffle_start(np.random.default_rng(seed).random(count), entries)


@given(
    size=st.integers(1, 300),
    wanted=st.lists(st.integers(0, 12), min_size=3, max_size=3),
    share=st.sampled_from([0.02, 0.3, 0.9]),
    contiguous=st.booleans(),
    replace=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_picks_of_strata_are_those_of_lists_of_their_members(
    size: int, wanted: list[int], share: float, contiguous: bool, replace: bool, seed: int
) -> None:
    keys = np.random.default_rng(seed).choice(np.array([-1, 0, 3], np.int8), size, p=[share, 1 - share, 0])
    keys[size // 2] = 3
    if contiguous:
        keys.sort()
    codes = np.array([3, -1, 0], np.int8)
    lists = [np.flatnonzero(keys == code) for code in codes]
    counts = np.array([count if len(found) else 0 for count, found in zip(wanted, lists, strict=True)])
    members = count_members(keys, codes)
    assert members[:, -1].tolist() == [len(found) for found in lists]
    picks = choose_members(np.random.default_rng(seed).random(counts.sum()), keys, codes, members, counts, replace)
    rng, wanted_picks = np.random.default_rng(seed), []
    for found, count in zip(lists, counts.tolist(), strict=True):
        uniform = rng.random(count)
        again = replace or count > len(found)
        ranks = [int(u * len(found)) for u in uniform] if again else shuffle_start(uniform, len(found))
        wanted_picks += found[ranks].tolist()
    assert picks.dtype == np.intp
    assert picks.tolist() == wanted_picks


@pytest.mark.parametrize("replace", [False, True])
def test_every_entry_is_equally_likely_at_every_place(replace: bool) -> None:
    rng = np.random.default_rng(5)
    found = np.array([choose(rng, 7, 3, replace) for _ in range(7000)])
    for place in range(3):
        assert stats.chisquare(np.bincount(found[:, place], minlength=7)).pvalue > 1e-3
    pairs = Counter(map(tuple, found[:, :2].tolist()))
    assert len(pairs) == (49 if replace else 42)
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-3


def test_the_largest_uniform_number_picks_the_last_entry() -> None:
    most = np.nextafter(1.0, 0.0)
    for entries in (1, 3, 2**10, 50_000, 2**20 + 1):
        assert shuffled_start(np.array([most]), entries).tolist() == [entries - 1]
        assert int(most * entries) == entries - 1


def sample(path: Path, draw: Any, row: int, **options: Any) -> dict[str, np.ndarray]:
    dataset = ShapeDataset(path, draws=[draw], rows=[row], **options)
    return {name: values.numpy() for name, values in dataset[0].items()}


def places(found: np.ndarray, pool: np.ndarray) -> list[int]:
    """Which entries of the pool these are: all entries of the test stores differ."""
    where = {entry.tobytes(): i for i, entry in enumerate(pool)}
    assert len(where) == len(pool)
    return [where[entry.tobytes()] for entry in found]


def test_arrays_of_one_draw_have_the_same_entries(path: Path) -> None:
    found = sample(path, RandomDraw(arrays=("vol_points", "vol_sdf", "vol_labels"), count=25), 9)
    pools = row_arrays(9)
    picks = places(found["vol_points"], pools["vol_points"])
    assert len(set(picks)) == 25
    assert picks != sorted(picks)
    for name in ("vol_sdf", "vol_labels"):
        assert np.array_equal(found[name], pools[name][picks])


def test_a_prefix_is_the_start_of_the_order(path: Path) -> None:
    found = sample(path, PrefixDraw(arrays=("pc_xyz", "pc_n"), order="pc_fps_order", count=8), 9)
    pools = row_arrays(9)
    for name in ("pc_xyz", "pc_n"):
        assert np.array_equal(found[name], pools[name][pools["pc_fps_order"][:8]])


@settings(max_examples=30)
@given(row=st.sampled_from([0, 1, 2, 3, 9, 29]), replace=st.booleans(), seed=st.integers(0, 99))
def test_only_filled_entries_are_drawn(path: Path, row: int, replace: bool, seed: int) -> None:
    draw = RandomDraw(arrays=("near_points",), count=10, replace=replace)
    found = sample(path, draw, row, seed=seed)["near_points"]
    picks = places(found, row_arrays(row)["near_points"][: filled_near(row)])
    assert replace or len(set(picks)) == 10


@settings(max_examples=60)
@given(
    inside=st.integers(1, 50), outside=st.integers(1, 50), replace=st.booleans(), seed=st.integers(0, 99),
    row=st.sampled_from([0, 3, 9]),
)  # fmt: skip
def test_strata_by_sign_hold_their_counts(
    path: Path, inside: int, outside: int, replace: bool, seed: int, row: int
) -> None:
    draw = StratifiedDraw(
        arrays=("vol_points", "vol_sdf"), by="vol_sdf", counts={"outside": outside, "inside": inside}, replace=replace
    )
    found, pools = sample(path, draw, row, seed=seed), row_arrays(row)
    assert (found["vol_sdf"] < 0).tolist() == [True] * inside + [False] * outside
    picks = places(found["vol_points"], pools["vol_points"])
    assert np.array_equal(found["vol_sdf"], pools["vol_sdf"][picks])
    for part, members in ((picks[:inside], pools["vol_sdf"] < 0), (picks[inside:], pools["vol_sdf"] >= 0)):
        enough = len(part) <= members.sum()
        assert replace or not enough or len(set(part)) == len(part), "twice, though there were enough"


@example(labels=[0, 3, 3], counts={"background": 5, "rim": 2, "object": 1}, seed=0)
@given(
    labels=st.lists(st.sampled_from([-1, 0, 3]), min_size=1, max_size=50),
    counts=st.dictionaries(st.sampled_from(["background", "rim", "object"]), st.integers(1, 9), min_size=1),
    seed=st.integers(0, 9),
)
def test_strata_by_label_hold_their_counts_and_others_fill_up(
    labels: list[int], counts: dict[str, int], seed: int
) -> None:
    codes = {code.name: code.value for code in LABELS.codes}
    guide = np.array(labels, np.int8)
    draw = StratifiedDraw(arrays=("x",), by="l", counts=counts, missing="others")
    present = [name for name in codes if name in counts and codes[name] in labels]
    strict = draw.model_copy(update={"missing": "error"})
    if len(present) < len(counts):
        with pytest.raises(UsageError, match="no entry is"):
            strict.pick(lambda: generator(seed, "x"), len(guide), guide, LABELS)
    if not present:
        with pytest.raises(UsageError, match="no entry is"):
            draw.pick(lambda: generator(seed, "x"), len(guide), guide, LABELS)
        return
    picks = draw.pick(lambda: generator(seed, "x"), len(guide), guide, LABELS)
    found = Counter(guide[picks].tolist())
    assert len(picks) == draw.size == sum(counts.values())
    lacking = sum(count for name, count in counts.items() if name not in present)
    extra = [found[codes[name]] - counts[name] for name in present]
    assert sum(extra) == lacking
    assert extra[1:] == [lacking // len(present)] * (len(present) - 1)
    if not lacking:
        assert picks.tolist() == strict.pick(lambda: generator(seed, "x"), len(guide), guide, LABELS).tolist()


@pytest.mark.parametrize("replace", [False, True])
def test_with_replacement_an_entry_may_come_twice_and_else_not(replace: bool) -> None:
    guide = np.zeros(50, np.int8)
    draw = StratifiedDraw(arrays=("x",), by="l", counts={"rim": 50}, replace=replace)
    picks = draw.pick(lambda: generator(0, "x"), 50, guide, LABELS)
    assert (len(set(picks.tolist())) < 50) == replace


@given(seed=st.integers(0, 99), row=st.sampled_from([0, 3, 9]))
def test_strata_are_of_filled_entries(path: Path, seed: int, row: int) -> None:
    draw = StratifiedDraw(arrays=("near_points",), by="near_sdf", counts={"outside": 20})
    found = sample(path, draw, row, seed=seed)["near_points"]
    pools = row_arrays(row)
    picks = places(found, pools["near_points"][: filled_near(row)])
    assert (pools["near_sdf"][picks] >= 0).all()


def test_an_order_that_names_what_is_not_filled_is_refused() -> None:
    draw = PrefixDraw(arrays=("x",), order="o", count=3)
    assert draw.pick(lambda: generator(0, "x"), 10, np.array([9, 0, 4, 12], np.int32), None).tolist() == [9, 0, 4]
    with pytest.raises(UsageError, match="names entry 9 of a pool of which 9 are filled"):
        draw.pick(lambda: generator(0, "x"), 9, np.array([9, 0, 4, 12], np.int32), None)


def test_an_empty_stratum_names_the_shape(path: Path) -> None:
    draw = StratifiedDraw(arrays=("vol_sdf",), by="vol_sdf", counts={"inside": 2, "outside": 3})
    with pytest.raises(UsageError, match=rf"shapes/{ALL_OUTSIDE:03d}-ü.*no entry is inside.*missing: others"):
        sample(path, draw, ALL_OUTSIDE)
    filled = sample(path, draw.model_copy(update={"missing": "others"}), ALL_OUTSIDE)["vol_sdf"]
    assert (filled >= 0).sum() == 5


def test_strata_may_pick_by_an_array_that_the_batch_does_not_get(path: Path) -> None:
    draw = StratifiedDraw(arrays=("vol_points",), by="vol_labels", counts={"aorta": 4})
    found, pools = sample(path, draw, 9), row_arrays(9)
    assert set(found) == {"vol_points", "row"}
    assert (pools["vol_labels"][places(found["vol_points"], pools["vol_points"])] == 2).all()


def test_draws_of_seeds_epochs_repeats_shapes_and_arrays_differ(path: Path) -> None:
    draws = [RandomDraw(arrays=(name,), count=20) for name in ("vol_sdf", "vol_points")]
    picks = set()
    for seed in (0, 1):
        dataset = ShapeDataset(path, draws=draws, rows=[5, 6], seed=seed)
        for visit in (Visit(0), Visit(1), Visit(0, 1), Visit(0, 0, 1)):
            found, pools = dataset[visit], row_arrays([5, 6][visit.index])
            picks |= {tuple(places(found[name].numpy(), pools[name])) for name in ("vol_sdf", "vol_points")}
    assert len(picks) == 16


WRONG = {
    "too many": (RandomDraw(arrays=("pc_xyz",), count=CLOUD + 1), "replace: true"),
    "too many filled": (RandomDraw(arrays=("near_points",), count=13), "fewer than 13 entries of near_points filled"),
    "an unknown pool": (RandomDraw(arrays=("pc_xzy",), count=1), "no pool pc_xzy.*pc_xyz"),
    "an index array": (RandomDraw(arrays=("category",), count=1), "no pool category"),
    "two pools": (RandomDraw(arrays=("pc_xyz", "vol_points"), count=1), "vol_points has vol_point"),
    "no order": (PrefixDraw(arrays=("pc_xyz",), order="vol_labels", count=1), "no farthest-point order"),
    "an unknown order": (PrefixDraw(arrays=("pc_xyz",), order="fps", count=1), "no pool fps"),
    "the order of another pool": (PrefixDraw(arrays=("vol_sdf",), order="pc_fps_order", count=1), "orders pc_xyz"),
    "a short order": (PrefixDraw(arrays=("pc_xyz",), order="pc_fps_order", count=ORDER + 1), f"{ORDER} entries"),
    "an unknown stratum": (
        StratifiedDraw(arrays=("vol_sdf",), by="vol_labels", counts={"left atrium": 1, "left_atrium": 1}),
        "'left_atrium'; it has: outside, left atrium, aorta",
    ),
    "strata of points": (StratifiedDraw(arrays=("vol_sdf",), by="vol_points", counts={"inside": 1}), "one value"),
    "strata of others": (StratifiedDraw(arrays=("pc_xyz",), by="vol_sdf", counts={"inside": 1}), "one value"),
}


@pytest.mark.parametrize(("draw", "why"), WRONG.values(), ids=WRONG)
def test_a_draw_that_does_not_fit_the_store_is_refused(path: Path, draw: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ShapeDataset(path, draws=[draw])


def test_settings_are_read_without_anything_heavy() -> None:
    assert loaded_after("import shapestore.train.data.draw") == set()


def test_settings_are_told_apart_and_closed() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Draw)
    for draw, _ in WRONG.values():
        assert adapter.validate_python(draw.model_dump(mode="json")) == draw
    wrong: list[dict[str, Any]] = [
        {"how": "random", "arrays": ["a"], "count": 0},
        {"how": "random", "arrays": [], "count": 1},
        {"how": "random", "arrays": ["a"], "count": 1, "repalce": True},
        {"how": "stratified", "arrays": ["a"], "by": "a", "counts": {}},
        {"how": "stratified", "arrays": ["a"], "by": "a", "counts": {"inside": 0}},
        {"how": "poisson", "arrays": ["a"], "count": 1},
    ]
    for setting in wrong:
        with pytest.raises(ValidationError):
            adapter.validate_python(setting)
