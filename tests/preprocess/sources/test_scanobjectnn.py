from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from demo.raw import SCANOBJECTNN, write_scanobjectnn
from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess import source as source_module
from shapestore.preprocess.raw import RawCloud
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import Discovery, load_source
from shapestore.preprocess.sources.scan_variants import CLASSES
from shapestore.preprocess.sources.scanobjectnn import FOLD, NAMELESS, UNKNOWN, ScanObjectNN
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import ShapeId

POINTS = 64
RECIPE = load_recipe("nepa-scanobjectnn")
SMALL = load_recipe(
    "nepa-scanobjectnn", ["points.count=64", "points.fps_order=64", "queries.count=100", "queries.fps_order=32"]
)
Arrays = dict[str, np.ndarray]


def asking(*variants: str) -> Recipe:
    return load_recipe("nepa-scanobjectnn", [f"source.variants=[{', '.join(variants)}]"])


def discover(root: Path, recipe: Recipe = RECIPE) -> Discovery:
    return ScanObjectNN().discover(root, recipe)


def write(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    return path


def scans(rows: int = 3, **changes: Any) -> Arrays:
    rng = np.random.default_rng(rows)
    arrays: Arrays = {
        "data": rng.normal(size=(rows, POINTS, 3)).astype("f4"),
        "label": (np.arange(rows) % 15).astype("i4"),
        "mask": np.where(rng.random((rows, POINTS)) < 0.3, -1, rng.integers(0, 40, (rows, POINTS))).astype("i4"),
    }
    return {name: value for name, value in (arrays | changes).items() if value is not None}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scans")
    for variant in ("OBJ-BG", "OBJ-ONLY", "PB-T25", "PB-T25-R", "PB-T50-R", "PB-T50-RS"):
        write_scanobjectnn(root, variant, objects=8, points=POINTS)
    return root / "h5_files"


def rows_of(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file["label"].shape[0])


def test_it_is_installed_under_its_kind() -> None:
    assert isinstance(load_source("scanobjectnn"), ScanObjectNN)
    assert load_recipe(ScanObjectNN.recipe).input == ("cloud",)
    assert ScanObjectNN().inputs(Path()) == {"cloud"}


def test_classes_are_those_of_the_data_set(shared_data: Path) -> None:
    names = (shared_data / "scanobjectnn" / "scanobjectnn" / "shape_names_ext.txt").read_text().split()
    assert tuple(names) == CLASSES == SCANOBJECTNN


def test_rows_become_items_of_the_variant_that_is_there(tmp_path: Path) -> None:
    root = write_scanobjectnn(tmp_path, "OBJ-ONLY", objects=8, points=POINTS)
    found = discover(root)
    assert len(found.items) == 8 + 2
    last = next(item for item in found.items if item.shape_id == "training_objectdataset_000007")
    with h5py.File(root / last.path) as file:
        assert last.category == SCANOBJECTNN[int(file["label"][7])]
    assert (last.split, last.position, last.group) == ("train", 7, "train/7")
    assert last.path == "main_split_nobg/training_objectdataset.h5"
    assert {item.split for item in found.items} == {"train", "test"}
    assert any("OBJ-ONLY" in note for note in found.notes)


def test_read_gives_the_row_of_the_file(everything: Path) -> None:
    recipe = asking("PB-T50-RS")
    for item in random.Random(0).sample(discover(everything, recipe).items, 12):
        raw = ScanObjectNN().read(everything, item, recipe)
        with h5py.File(everything / item.path) as file:
            np.testing.assert_array_equal(raw.points, file["data"][()][item.position].astype("f8"))
            background = file["mask"][()][item.position] == -1
        assert raw.points.dtype == np.float64
        assert raw.mask is not None
        assert raw.mask.dtype == np.int8
        np.testing.assert_array_equal(raw.mask == -1, background)
        np.testing.assert_array_equal(raw.mask == 1, ~background)


@pytest.mark.parametrize("variant", ["OBJ-BG", "PB-T50-RS"])
def test_records_are_valid(everything: Path, variant: str) -> None:
    recipe = SMALL.model_copy(update={"source": asking(variant).source})
    for item in discover(everything, recipe).items[:3]:
        raw = ScanObjectNN().read(everything, item, recipe)
        record = build_record(raw, item, "0" * 64, recipe, schema_of(recipe))
        assert record.arrays["pc_mask"].shape == (POINTS,)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.sets(st.sampled_from(["OBJ-BG", "OBJ-ONLY", "PB-T25", "PB-T25-R", "PB-T50-R", "PB-T50-RS"]), min_size=1)
)
def test_any_choice_of_variants_gives_exactly_its_rows_under_unique_ids(everything: Path, chosen: set[str]) -> None:
    found = discover(everything, asking(*sorted(chosen)))
    paths = {item.path for item in found.items}
    assert len(paths) == 2 * len(chosen)
    assert len(found.items) == sum(rows_of(everything / path) for path in paths)
    ids = [item.shape_id for item in found.items]
    assert len(set(ids)) == len(ids)
    for shape_id in ids:
        TypeAdapter(ShapeId).validate_python(shape_id)
    assert all(("/" in shape_id) == (len(chosen) > 1) for shape_id in ids)


def objects_of(item: Any) -> tuple[str, int]:
    """The demo's truth: one row an object in OBJ files, five consecutive rows in PB files."""
    assert item.position is not None
    return item.split, item.position // (5 if "augmented" in item.path else 1)


@pytest.mark.parametrize(
    "variants",
    [("OBJ-BG",), ("OBJ-BG", "OBJ-ONLY"), ("PB-T25",), ("OBJ-BG", "PB-T50-RS"), ("PB-T25", "PB-T25-R", "PB-T50-R")],
)
def test_a_group_never_parts_an_object_and_never_crosses_the_split(everything: Path, variants: tuple[str, ...]) -> None:
    groups: dict[tuple[str, int], set[str]] = {}
    splits: dict[str, set[str]] = {}
    for item in discover(everything, asking(*variants)).items:
        groups.setdefault(objects_of(item), set()).add(item.group)
        splits.setdefault(item.group, set()).add(item.split)
    assert all(len(keys) == 1 for keys in groups.values())
    assert all(len(names) == 1 for names in splits.values())


def test_aligned_variants_are_grouped_by_object(everything: Path) -> None:
    items = discover(everything, asking("OBJ-BG", "OBJ-ONLY")).items
    assert len({item.group for item in items}) == 8 + 2


def test_rows_with_other_labels_are_not_taken_for_the_same_objects(tmp_path: Path) -> None:
    write(tmp_path / "main_split" / "training_objectdataset.h5", **scans())
    write(tmp_path / "main_split_nobg" / "training_objectdataset.h5", **scans(label=np.array([2, 1, 0])))
    found = discover(tmp_path, asking("OBJ-BG", "OBJ-ONLY"))
    assert {item.group for item in found.items} == {"train/bag", "train/bin", "train/box"}
    assert any("split and class" in note for note in found.notes)


def test_several_variants_must_be_chosen_from(everything: Path) -> None:
    with pytest.raises(UsageError, match=r"OBJ-BG, OBJ-ONLY, PB-T25, .*--set source\.variants=\[OBJ-BG\]"):
        discover(everything)


def test_a_chosen_variant_must_be_there(tmp_path: Path) -> None:
    root = write_scanobjectnn(tmp_path, "OBJ-BG", objects=4, points=POINTS)
    with pytest.raises(UsageError, match="PB-T25, found OBJ-BG"):
        discover(root, asking("OBJ-BG", "PB-T25"))


def test_two_files_of_one_variant_and_split_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "main_split" / "training_objectdataset.h5", **scans())
    with pytest.raises(UsageError, match=r"a/main_split/training_objectdataset\.h5, b/main_split"):
        discover(tmp_path)


def test_what_is_not_chosen_is_counted(tmp_path: Path) -> None:
    for path in (
        "main_split/training_objectdataset.h5",
        "split1/training_objectdataset.h5",
        "split4_nobg/test_objectdataset.h5",
        "main_split_nobg/training_objectdataset_augmentedrot.h5",
        "main_split/extra.h5",
    ):
        write(tmp_path / path, **scans())
    (tmp_path / "README.md").write_text("read me")
    (tmp_path / ".hidden").write_text("")
    found = discover(tmp_path)
    assert {item.path for item in found.items} == {"main_split/training_objectdataset.h5"}
    assert found.ignored == {FOLD: 2, NAMELESS: 1, UNKNOWN: 1, ".md": 1, "hidden file": 1}
    assert any("no test file" in note for note in found.notes)


@pytest.mark.parametrize(
    ("folder", "variant"), [("split2", "OBJ-BG"), ("split2_nobg", "OBJ-ONLY"), ("main_split", "OBJ-BG")]
)
def test_the_root_may_be_exactly_one_split_folder(tmp_path: Path, folder: str, variant: str) -> None:
    write(tmp_path / folder / "training_objectdataset.h5", **scans())
    found = discover(tmp_path / folder)
    assert len(found.items) == 3
    assert found.notes[0] == f"variant: {variant}"


def test_a_folder_of_another_name_needs_the_users_word(tmp_path: Path) -> None:
    write(tmp_path / "scans" / "training_objectdataset.h5", **scans())
    write(tmp_path / "scans" / "training_objectdataset_augmentedrot.h5", **scans())
    with pytest.raises(UsageError, match="OBJ-BG or OBJ-ONLY"):
        discover(tmp_path)
    assert discover(tmp_path, asking("OBJ-ONLY")).notes[0] == "variant: OBJ-ONLY"
    assert discover(tmp_path, asking("PB-T50-R")).notes[0] == "variant: PB-T50-R"
    with pytest.raises(UsageError, match="OBJ-BG or OBJ-ONLY"):
        discover(tmp_path, asking("OBJ-BG", "OBJ-ONLY"))


def test_a_wrong_folder_says_what_was_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(UsageError, match=r"expected ScanObjectNN files such as .* found 1 x \.obj"):
        discover(tmp_path)
    with pytest.raises(UsageError, match="folder"):
        discover(tmp_path / "nothing")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "test_objectdataset.h5", **scans())
    inside = write(tmp_path / "root" / "main_split" / "training_objectdataset.h5", **scans())
    (inside.parent / "test_objectdataset.h5").symlink_to(outside)
    found = discover(tmp_path / "root")
    assert {item.split for item in found.items} == {"train"}
    assert found.ignored == {source_module.LINK_OUT: 1}


def test_discovery_does_not_depend_on_the_listing_order(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = asking("OBJ-BG", "PB-T25")
    expected = discover(everything, recipe)
    entries = source_module._entries
    monkeypatch.setattr(source_module, "_entries", lambda folder: entries(folder)[::-1])
    assert discover(everything, recipe) == expected


def test_discovery_reads_labels_only(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    getitem = h5py.Dataset.__getitem__

    def watched(self: h5py.Dataset, *args: Any, **kwargs: Any) -> Any:
        read.add(self.name)
        return getitem(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    discover(everything, asking("OBJ-BG"))
    assert read == {"/label"}


def refusal(root: Path, path: Path) -> InputRefused:
    """The one item of a file that cannot be listed, refused."""
    items = [item for item in discover(root).items if item.path == path.relative_to(root).as_posix()]
    assert [(item.shape_id, item.position) for item in items] == [(path.stem, None)]
    with pytest.raises(InputRefused) as caught:
        ScanObjectNN().read(root, items[0], RECIPE)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "no dataset 'data'"),
        ({"label": None}, "no dataset 'label'"),
        ({"data": np.zeros((3, POINTS, 2), "f4")}, r"expected floats of shape \(n, n, 3\)"),
        ({"data": np.zeros((3, POINTS, 3), "i4")}, "got int32"),
        ({"label": np.zeros(4, "i4")}, r"expected .*integers of shape \(3\), got int32 \(4,\)"),
        ({"label": np.zeros((3, 2), "i4")}, "'label'"),
        ({"label": np.zeros(3, "f4")}, "got float32"),
        ({"mask": np.zeros((3, POINTS + 1), "i4")}, "'mask'"),
        ({"mask": np.zeros((3, POINTS), "u1")}, "got uint8"),
    ],
)
def test_a_file_of_another_form_is_one_refused_item(tmp_path: Path, changes: Any, words: str) -> None:
    path = write(tmp_path / "main_split" / "training_objectdataset.h5", **scans(**changes))
    write(tmp_path / "main_split" / "test_objectdataset.h5", **scans())
    caught = refusal(tmp_path, path)
    assert caught.reason == Reason.MALFORMED
    assert re.search(words, caught.detail)


def external_link(path: Path) -> None:
    other = write(path.with_name("other.h5"), **scans())
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(other, "/data")


def soft_link(path: Path) -> None:
    write(path, **scans(data=None), far=scans()["data"])
    with h5py.File(path, "a") as file:
        file["data"] = h5py.SoftLink("/far")


def virtual(path: Path) -> None:
    other = write(path.with_name("other.h5"), **scans())
    write(path, **scans(data=None))
    layout = h5py.VirtualLayout((3, POINTS, 3), "f4")
    layout[:] = h5py.VirtualSource(other, "data", (3, POINTS, 3))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("data", layout)


def external_storage(path: Path) -> None:
    raw = path.with_name("raw.bin")
    raw.write_bytes(scans()["data"].tobytes())
    write(path, **scans(data=None))
    with h5py.File(path, "a") as file:
        file.create_dataset("data", (3, POINTS, 3), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def group(path: Path) -> None:
    write(path, **scans(data=None))
    with h5py.File(path, "a") as file:
        file.create_group("data")


def never_written(path: Path) -> None:
    write(path, **scans(data=None))
    with h5py.File(path, "a") as file:
        file.create_dataset("data", (3, POINTS, 3), "f4")


def half_written(path: Path) -> None:
    write(path, **scans(data=None))
    with h5py.File(path, "a") as file:
        file.create_dataset("data", (3, POINTS, 3), "f4", chunks=(1, POINTS, 3), compression="gzip")[1] = 1.0


def cut_short(path: Path) -> None:
    write(path, **scans())
    os.truncate(path, path.stat().st_size // 2)


def lfs(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (external_link, Reason.MALFORMED),
        (soft_link, Reason.MALFORMED),
        (virtual, Reason.MALFORMED),
        (external_storage, Reason.MALFORMED),
        (group, Reason.MALFORMED),
        (never_written, Reason.TRUNCATED),
        (half_written, Reason.TRUNCATED),
        (cut_short, Reason.TRUNCATED),
        (lfs, Reason.LFS_POINTER),
        (Path.touch, Reason.EMPTY),
        (lambda path: path.write_text("no h5 file"), Reason.MALFORMED),
        (lambda path: write(path, **scans(0)), Reason.EMPTY),
    ],
)
def test_a_damaged_file_is_one_refused_item(tmp_path: Path, damage: Callable[[Path], Any], reason: Reason) -> None:
    path = tmp_path / "main_split" / "training_objectdataset.h5"
    path.parent.mkdir()
    damage(path)
    assert refusal(tmp_path, path).reason == reason


def test_a_file_that_is_repaired_after_it_was_listed_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "main_split" / "training_objectdataset.h5"
    path.parent.mkdir()
    path.write_text("no h5 file")
    item = discover(tmp_path).items[0]
    write(path, **scans())
    with pytest.raises(InputRefused, match="ingest again"):
        ScanObjectNN().read(tmp_path, item, RECIPE)


def test_an_undeclared_label_costs_its_row_only(tmp_path: Path) -> None:
    write(tmp_path / "main_split" / "training_objectdataset.h5", **scans(label=np.array([[3], [15], [-1]])))
    first, *others = discover(tmp_path).items
    assert first.category == "cabinet"
    assert isinstance(ScanObjectNN().read(tmp_path, first, RECIPE), RawCloud)
    for item in others:
        with pytest.raises(InputRefused, match="is none of 0 to 14") as caught:
            ScanObjectNN().read(tmp_path, item, RECIPE)
        assert (item.category, caught.value.reason) == ("", Reason.MALFORMED)


def test_a_file_without_mask_gives_none(tmp_path: Path) -> None:
    write(tmp_path / "main_split" / "training_objectdataset.h5", **scans(mask=None))
    item = discover(tmp_path).items[0]
    assert ScanObjectNN().read(tmp_path, item, RECIPE).mask is None


def test_a_mask_of_floats_is_read_unless_it_is_not_finite(tmp_path: Path) -> None:
    mask = np.full((2, POINTS), 4.0)
    mask[0, :5], mask[1, 0] = -1, np.nan
    write(tmp_path / "main_split" / "training_objectdataset.h5", **scans(2, mask=mask))
    first, second = discover(tmp_path).items
    np.testing.assert_array_equal(ScanObjectNN().read(tmp_path, first, RECIPE).mask, np.where(mask[0] == -1, -1, 1))
    with pytest.raises(InputRefused, match="mask of row 1"):
        ScanObjectNN().read(tmp_path, second, RECIPE)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "main_split" / "training_objectdataset.h5", **scans())
    item = discover(tmp_path).items[2]
    before = ScanObjectNN().read(tmp_path, item, RECIPE).points
    replacement = write(tmp_path / "new.h5", **scans(data=scans()["data"] + 1))
    shutil.move(replacement, path)
    np.testing.assert_allclose(ScanObjectNN().read(tmp_path, item, RECIPE).points, before + 1, rtol=1e-5)
    path.write_bytes(write(tmp_path / "other.h5", **scans(data=scans()["data"] + 2)).read_bytes())
    np.testing.assert_allclose(ScanObjectNN().read(tmp_path, item, RECIPE).points, before + 2, rtol=1e-5)
    write(tmp_path / "short.h5", **scans(2))
    shutil.move(tmp_path / "short.h5", path)
    with pytest.raises(InputRefused, match="no row 2"):
        ScanObjectNN().read(tmp_path, item, RECIPE)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), cut=st.booleans())
def test_damage_anywhere_gives_a_cloud_or_a_refusal(tmp_path: Path, at: float, byte: int, cut: bool) -> None:
    path = tmp_path / "main_split" / "training_objectdataset.h5"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in scans(6).items():
            file.create_dataset(name, data=values, compression="gzip", fletcher32=True)
    content = bytearray(path.read_bytes())
    offset = int(at * len(content))
    content[offset] ^= byte
    path.write_bytes(content[:offset] if cut else content)
    for item in discover(tmp_path).items[:50]:
        try:
            raw = ScanObjectNN().read(tmp_path, item, RECIPE)
        except InputRefused:
            continue
        assert raw.points.shape[1] == 3
