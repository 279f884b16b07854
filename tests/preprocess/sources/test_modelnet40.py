"""ModelNet40: three layouts of the same models, and what is wrong with copies of them."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import trimesh

from demo.raw import MODELNET40, write_modelnet
from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess import source as source_module
from shapestore.preprocess.raw import RawCloud, RawMesh
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import LINK_OUT, Discovery, SourceItem, load_source
from shapestore.preprocess.sources.modelnet40 import ModelNet40
from shapestore.preprocess.sources.modelnet40_h5 import CLASSES
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of

RECIPE = load_recipe("nepa-modelnet40")
SMALL = load_recipe("points", ["points.count=64", "points.fps_order=16"])
LAYOUTS = ("off", "txt", "h5")
POINTS = 96


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("modelnet")
    for layout in LAYOUTS:
        write_modelnet(root / layout, layout, points=POINTS)
    return root


@pytest.fixture
def home(written: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of one layout."""

    def copy(layout: str) -> Path:
        (source,) = (written / layout).iterdir()
        return Path(shutil.copytree(source, tmp_path / "raw" / source.name))

    return copy


Home = Callable[[str], Path]


def discover(root: Path) -> Discovery:
    return ModelNet40().discover(root, RECIPE)


def read(root: Path, item: SourceItem) -> RawMesh | RawCloud:
    return ModelNet40().read(root, item, RECIPE)


def refusal(root: Path, item: SourceItem) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        read(root, item)
    return caught.value


def identity(item: SourceItem) -> tuple[str, str, str, str]:
    return item.shape_id, item.group, item.category, item.split


# ---------------------------------------------------------------------------------------- all layouts


def test_one_model_is_the_same_item_in_all_layouts(home: Home) -> None:
    off, text, h5 = (sorted(map(identity, discover(home(layout)).items)) for layout in LAYOUTS)
    assert off == text == h5
    assert len(off) == 25
    assert ("chair/chair_0001", "chair/chair_0001", "chair", "train") in off
    assert Counter(split for *_, split in off) == {"train": 15, "test": 10}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_discovery_depends_on_no_order(home: Home, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = home(layout)
    expected = discover(root)
    entries = source_module._entries
    for seed in range(3):
        shuffle = random.Random(seed)
        monkeypatch.setattr(
            source_module, "_entries", lambda path, r=shuffle: r.sample(list_ := entries(path), len(list_))
        )
        assert discover(root) == expected


@pytest.mark.parametrize("layout", ["off", "txt"])
def test_discovery_reads_no_shape(home: Home, layout: str) -> None:
    root = home(layout)
    expected = discover(root)
    for item in expected.items:
        (root / item.path).write_bytes(b"")
    assert discover(root) == expected


def test_discovery_reads_no_clouds_of_h5(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    get = h5py.Dataset.__getitem__

    def spy(dataset: h5py.Dataset, *args: Any) -> Any:
        seen.append(dataset.name)
        return get(dataset, *args)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    discover(home("h5"))
    assert set(seen) == {"/label"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_items_become_valid_records(home: Home, layout: str) -> None:
    root = home(layout)
    kinds = load_source("modelnet40").inputs(root)
    assert kinds == ({"mesh"} if layout == "off" else {"cloud"})
    for item in discover(root).items[::6]:
        raw = read(root, item)
        assert isinstance(raw, RawMesh if layout == "off" else RawCloud)
        record = build_record(raw, item, "0" * 64, SMALL, schema_of(SMALL))
        assert (record.shape_id, record.category, record.split) == (item.shape_id, item.category, item.split)


def test_the_recipe_of_the_source_takes_meshes() -> None:
    assert load_recipe(ModelNet40.recipe) == RECIPE
    assert RECIPE.input == ("mesh",)


def test_wrong_folders_are_named_with_what_was_expected(home: Home, tmp_path: Path) -> None:
    roots = [home(layout) for layout in LAYOUTS]
    with pytest.raises(UsageError, match=r"expected one layout of ModelNet40 .*found ModelNet40/, modelnet40_normal"):
        discover(roots[0].parent)
    with pytest.raises(UsageError, match="expected a folder"):
        ModelNet40().inputs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found nothing"):
        discover(tmp_path / "empty")
    shutil.copy(roots[2] / "train_files.txt", roots[1])
    with pytest.raises(UsageError, match=r"found several layouts \(text, h5\)"):
        discover(roots[1])


@pytest.mark.parametrize(("layout", "list_"), [("txt", "modelnet40_test.txt"), ("h5", "test_files.txt")])
@pytest.mark.parametrize("name", ["/etc/passwd", "../chair_0001.h5", "a/../../chair_0001.h5", "..\\x.h5", "C:x.h5"])
def test_names_that_lead_away_are_not_followed(home: Home, layout: str, list_: str, name: str) -> None:
    root = home(layout)
    with (root / list_).open("a") as file:
        file.write(f"{name}\n")
    with pytest.raises(UsageError, match=rf"{list_}, line \d+: expected a relative name"):
        discover(root)


@pytest.mark.parametrize(("layout", "list_"), [("txt", "modelnet40_test.txt"), ("h5", "test_files.txt")])
def test_a_list_that_is_no_text_is_a_usage_error(home: Home, layout: str, list_: str) -> None:
    root = home(layout)
    (root / list_).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read as a list of names"):
        discover(root)


# --------------------------------------------------------------------------------------------- meshes


def test_meshes_are_those_of_an_independent_reader(home: Home) -> None:
    root = home("off")
    for item in discover(root).items:
        raw = read(root, item)
        assert isinstance(raw, RawMesh)
        lines = (root / item.path).read_text().replace("OFF", "OFF\n", 1).splitlines()
        plain = "\n".join(line for line in lines if line and not line.startswith("#"))
        other = trimesh.load(trimesh.util.wrap_as_stream(plain), file_type="off", process=False)
        np.testing.assert_allclose(raw.mesh.vertices, other.vertices, rtol=1e-12)
        np.testing.assert_array_equal(raw.mesh.faces, other.faces)


def test_files_of_the_tree_that_are_no_models_are_counted(home: Home) -> None:
    root = home("off")
    (root / "README.txt").write_text("")
    (root / "chair" / ".DS_Store").write_text("")
    (root / "chair" / "train" / "chair_0001.ply").write_text("")
    (root / "chair" / "chair_0009.off").write_text("")
    (root / "chair" / "val").mkdir()
    (root / "chair" / "val" / "chair_0010.OFF").write_text("")
    found = discover(root)
    assert len(found.items) == 25
    assert found.ignored == {
        ".off outside of <class>/train and <class>/test": 2,
        ".ply": 1,
        ".txt": 1,
        "hidden file": 1,
    }


def test_one_model_in_both_splits_is_an_error(home: Home) -> None:
    root = home("off")
    shutil.copy(root / "chair/train/chair_0001.off", root / "chair/test/chair_0001.off")
    with pytest.raises(UsageError, match=r"'chair/chair_0001' is given twice, by .*test.* and by .*train"):
        discover(root)


def test_class_folders_without_meshes_are_an_error(home: Home) -> None:
    root = home("off")
    for path in root.rglob("*.off"):
        path.unlink()
    with pytest.raises(UsageError, match="no OFF file"):
        discover(root)


# ----------------------------------------------------------------------------------------------- text


def test_text_clouds_are_those_of_an_independent_reader(home: Home) -> None:
    root = home("txt")
    for item in discover(root).items:
        raw = read(root, item)
        assert isinstance(raw, RawCloud)
        other = np.loadtxt(root / item.path, delimiter=",")
        assert raw.normals is not None
        np.testing.assert_array_equal(np.hstack([raw.points, raw.normals]), other)
        assert raw.points.flags.c_contiguous
        assert raw.mask is None


def test_the_lists_decide(home: Home) -> None:
    root = home("txt")
    (root / "chair" / "chair_0001.txt").unlink()
    (root / "chair" / "chair_0777.txt").write_text("0,0,0,0,0,1")
    (root / "old.dat").write_bytes(b"")
    (root / "modelnet10_train.txt").write_text("chair_0777")
    found = discover(root)
    assert found.ignored == {".dat": 1, ".txt": 2, "not in the lists": 1}
    assert found.notes == (
        "split: modelnet40_train.txt and modelnet40_test.txt",
        "1 of 25 listed files are not there",
    )
    (lost,) = (item for item in found.items if item.shape_id == "chair/chair_0001")
    assert refusal(root, lost).reason is Reason.MISSING
    for name in ("modelnet40_train.txt", "modelnet40_test.txt"):
        (root / name).unlink()
    ten = discover(root)
    assert [identity(item) for item in ten.items] == [("chair/chair_0777", "chair/chair_0777", "chair", "train")]
    assert "there is no modelnet10_test.txt: no shape is test" in ten.notes


def test_class_names_with_underscores_and_untidy_lists(home: Home) -> None:
    root = home("txt")
    (root / "modelnet40_train.txt").write_text("night_stand_0001\r\n\r\n  tv_stand_0268  \r\n", encoding="utf-8-sig")
    items = [item for item in discover(root).items if item.split == "train"]
    assert [(item.category, item.path) for item in items] == [
        ("night_stand", "night_stand/night_stand_0001.txt"),
        ("tv_stand", "tv_stand/tv_stand_0268.txt"),
    ]


@pytest.mark.parametrize("name", ["chair", "chair/chair_0001", "chair_0001.txt", "a chair_0001", "_1"])
def test_names_of_another_form_are_an_error_with_their_line(home: Home, name: str) -> None:
    root = home("txt")
    (root / "modelnet40_test.txt").write_text(f"chair_0004\n{name}\n")
    with pytest.raises(UsageError, match="line 2: expected a name such as night_stand_0001"):
        discover(root)


def test_a_name_in_both_lists_is_an_error(home: Home) -> None:
    root = home("txt")
    with (root / "modelnet40_test.txt").open("a") as file:
        file.write("chair_0001\n")
    with pytest.raises(UsageError, match="'chair/chair_0001' is given twice"):
        discover(root)


GOOD = "0.1,0.2,0.3,0,0,1\n"


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("", Reason.EMPTY, "zero bytes"),
        ("\n \n", Reason.TOO_FEW_POINTS, "no point"),
        (GOOD + "\n1,2,3,0,0\n", Reason.MALFORMED, "line 3: 5 values"),
        (GOOD + "1,2,3,0,0,1,\n", Reason.MALFORMED, "line 2: 7 values"),
        ("0.1 0.2 0.3 0 0 1\n", Reason.MALFORMED, "line 1: 1 values"),
        (GOOD + "1 2,,3,0,0,1\n", Reason.MALFORMED, "line 2"),
        (GOOD + "1,2,x,0,0,1\n", Reason.MALFORMED, "line 2: 'x'"),
        (GOOD + "1,nan,3,0,0,1\n" + GOOD, Reason.NOT_FINITE, "line 2"),
        (GOOD + GOOD + "1,2,3,0,-inf,1\n", Reason.NOT_FINITE, "line 3"),
        (GOOD + "1e999,2,3,0,0,1\n", Reason.NOT_FINITE, "line 2"),
        ("version https://git-lfs.github.com/spec/v1\n", Reason.LFS_POINTER, "git lfs pull"),
        ("0,0,0\0,0,0,1\n", Reason.MALFORMED, "binary"),
    ],
)
def test_bad_text_clouds_are_refused_with_their_line(home: Home, text: str, reason: Reason, detail: str) -> None:
    root = home("txt")
    item = discover(root).items[0]
    (root / item.path).write_text(text)
    refused = refusal(root, item)
    assert refused.reason is reason
    assert detail in refused.detail


def test_spaces_and_blank_lines_do_no_harm(home: Home) -> None:
    root = home("txt")
    item = discover(root).items[0]
    (root / item.path).write_bytes(b"\xef\xbb\xbf 1, 2,3 ,0,0,1\r\n\r\n4,5,6,0,0,1")
    raw = read(root, item)
    assert isinstance(raw, RawCloud)
    assert raw.points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_the_published_lists(shared_data: Path) -> None:
    root = shared_data / "modelnet" / "modelnet40_normal_resampled"
    found = discover(root)
    assert Counter(item.split for item in found.items) == {"train": 9843, "test": 2468}
    assert "12311 of 12311 listed files are not there" in found.notes
    assert {item.path for item in found.items} == set((root / "filelist.txt").read_text().split())
    names = tuple((root / "modelnet40_shape_names.txt").read_text().split())
    assert sorted({item.category for item in found.items}) == sorted(names)
    assert names == CLASSES == MODELNET40
    assert refusal(root, found.items[0]).reason is Reason.MISSING


# ----------------------------------------------------------------------------------------------- hdf5


def test_rows_are_those_of_an_independent_reader(home: Home) -> None:
    root = home("h5")
    for item in discover(root).items:
        raw = read(root, item)
        assert isinstance(raw, RawCloud)
        assert raw.normals is not None
        with h5py.File(root / item.path) as file:
            np.testing.assert_array_equal(raw.points, file["data"][item.position])
            np.testing.assert_array_equal(raw.normals, file["normal"][item.position])
            assert MODELNET40[int(file["label"][item.position, 0])] == item.category


def edit(path: Path, **datasets: Any) -> None:
    """Replace datasets of an HDF5 file; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in datasets.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value


def test_without_names_of_models_rows_are_counted(home: Home) -> None:
    root = home("h5")
    for path in root.glob("*.json"):
        path.unlink()
    edit(root / "ply_data_train0.h5", normal=None)
    (root / "shape_names.txt").unlink()
    items = discover(root).items
    assert identity(items[3]) == ("ply_data_train0_000003", "ply_data_train0_000003", "bottle", "train")
    raw = read(root, items[3])
    assert isinstance(raw, RawCloud)
    assert raw.normals is None


def test_files_without_lists_are_told_apart_by_name(home: Home) -> None:
    root = home("h5")
    expected = discover(root)
    (root / "test_files.txt").unlink()
    assert discover(root).items == expected.items
    (root / "train_files.txt").unlink()
    found = discover(root)
    assert found.items == expected.items
    assert found.notes == ("split: the names of the HDF5 files; there are no lists",)


def test_unlisted_files_are_counted_and_lost_ones_are_items(home: Home, tmp_path: Path) -> None:
    root = home("h5")
    shutil.copy(root / "ply_data_test0.h5", root / "ply_data_test1.h5")
    (root / "ply_data_test0.h5").unlink()
    found = discover(root)
    assert found.ignored == {".h5 not in the lists": 1}
    assert found.notes[1] == "1 HDF5 files are lost or damaged; how many shapes each held is not known"
    (lost,) = (item for item in found.items if item.split == "test")
    assert (lost.shape_id, lost.position) == ("ply_data_test0", None)
    assert refusal(root, lost).reason is Reason.MISSING
    shutil.move(root / "ply_data_test1.h5", tmp_path / "away.h5")
    (root / "ply_data_test0.h5").symlink_to(tmp_path / "away.h5")
    linked = discover(root)
    assert linked.items == found.items
    assert linked.ignored == {LINK_OUT: 1}
    assert "leads out" in refusal(root, lost).detail


def test_a_repeated_model_keeps_its_group(home: Home) -> None:
    root = home("h5")
    path = root / "ply_data_train_0_id2file.json"
    names = json.loads(path.read_text())
    names[1] = names[0]
    path.write_text(json.dumps(names))
    found = discover(root)
    twins = [item for item in found.items if item.group == names[0].removesuffix(".ply")]
    assert [item.shape_id for item in twins] == ["ply_data_train0_000000", "ply_data_train0_000001"]
    assert found.notes[1] == "1 models have several rows, which are told apart by file and row"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names[:-1], "expected a list of 15 names"),
        (lambda names: [*names[:-1], "../x/y.ply"], "expected a list of 15 names"),
        (lambda names: [*names[:-1], 3], "expected a list of 15 names"),
        (lambda names: {"names": names}, "expected a list of 15 names"),
        (lambda names: names[::-1], "row 0 is table/table_0003, but a bookshelf in ply_data_train0.h5"),
    ],
)
def test_names_that_do_not_fit_the_rows_are_an_error(home: Home, change: Callable[[Any], Any], message: str) -> None:
    root = home("h5")
    path = root / "ply_data_train_0_id2file.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UsageError, match=message):
        discover(root)
    path.write_text("[")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        discover(root)


def test_lists_with_other_or_repeated_files_are_an_error(home: Home) -> None:
    root = home("h5")
    (root / "test_files.txt").write_text("data/modelnet40_ply_hdf5_2048/ply_data_train0.h5\n")
    with pytest.raises(UsageError, match=r"every \.h5 file once"):
        discover(root)
    (root / "test_files.txt").write_text("clouds.txt\n")
    with pytest.raises(UsageError, match=r"every \.h5 file once"):
        discover(root)
    for split in ("train", "test"):
        (root / f"{split}_files.txt").write_text("\n")
    with pytest.raises(UsageError, match="are empty"):
        discover(root)


def test_class_names_of_the_folder_are_used_and_checked(home: Home) -> None:
    root = home("h5")
    for path in root.glob("*.json"):
        path.unlink()
    (root / "shape_names.txt").write_text("\n".join(MODELNET40[::-1]))
    assert discover(root).items[0].category == MODELNET40[::-1][MODELNET40.index("bookshelf")]
    (root / "shape_names.txt").write_text("chair\nchair\n")
    with pytest.raises(UsageError, match="expected every class name once"):
        discover(root)


def test_a_label_of_no_class_refuses_its_row_only(home: Home) -> None:
    root = home("h5")
    labels = np.zeros((15, 1), np.int64)
    labels[[2, 4]] = [[40], [-1]]
    (root / "ply_data_train_0_id2file.json").unlink()
    edit(root / "ply_data_train0.h5", label=labels)
    items = discover(root).items[:15]
    assert [item.position for item in items if not item.category] == [2, 4]
    assert refusal(root, items[2]).reason is Reason.MALFORMED
    assert "row 2: its label is that of no class" in refusal(root, items[2]).detail
    assert isinstance(read(root, items[3]), RawCloud)


def hollow(path: Path) -> None:
    """Declare a terabyte of points and labels, and write none of them."""
    edit(path, data=None, label=None, normal=None)
    with h5py.File(path, "r+") as file:
        file.create_dataset("data", (10**8, 1000, 3), "f4", chunks=(1, 1000, 3))
        file.create_dataset("label", (10**8, 1), "u1", chunks=(1000, 1))


def external(path: Path) -> None:
    """Take the points from another file, byte by byte."""
    edit(path, data=None)
    (path.parent / "secret.bin").write_bytes(bytes(15 * 4 * 3 * 4))
    with h5py.File(path, "r+") as file:
        file.create_dataset("data", (15, 4, 3), "f4", external=[(str(path.parent / "secret.bin"), 0, 15 * 48)])


def linked(path: Path) -> None:
    shutil.copy(path, path.with_name("other.h5"))
    edit(path, data=h5py.ExternalLink("other.h5", "data"))


def virtual(path: Path) -> None:
    edit(path, data=None)
    layout = h5py.VirtualLayout((15, POINTS, 3), "f4")
    layout[:10] = h5py.VirtualSource("ply_data_test0.h5", "data", (10, POINTS, 3))
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("data", layout)


DAMAGE: dict[str, tuple[Callable[[Path], object], Reason]] = {
    "empty": (lambda path: path.write_bytes(b""), Reason.EMPTY),
    "pointer": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), Reason.LFS_POINTER),
    "text": (lambda path: path.write_text("no HDF5"), Reason.MALFORMED),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-100]), Reason.TRUNCATED),
    "hollow": (hollow, Reason.TRUNCATED),
    "external": (external, Reason.MALFORMED),
    "linked": (linked, Reason.MALFORMED),
    "virtual": (virtual, Reason.MALFORMED),
    "no data": (lambda path: edit(path, data=None), Reason.MALFORMED),
    "no label": (lambda path: edit(path, label=None), Reason.MALFORMED),
    "text labels": (lambda path: edit(path, label=["chair"] * 15), Reason.MALFORMED),
    "whole points": (lambda path: edit(path, data=np.zeros((15, 8, 3), int)), Reason.MALFORMED),
    "flat points": (lambda path: edit(path, data=np.zeros((15, 8, 2))), Reason.MALFORMED),
    "other counts": (lambda path: edit(path, label=np.zeros(14, int)), Reason.MALFORMED),
    "group": (lambda path: edit(path, data=None, **{"data/inner": np.zeros(3)}), Reason.MALFORMED),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_item_that_is_refused(home: Home, kind: str) -> None:
    root = home("h5")
    damage, reason = DAMAGE[kind]
    damage(root / "ply_data_train0.h5")
    items = discover(root).items
    assert len(items) == 11
    (whole,) = (item for item in items if item.split == "train")
    assert identity(whole) == ("ply_data_train0", "ply_data_train0", "", "train")
    assert refusal(root, whole).reason is reason


def test_a_file_that_changed_after_discovery_is_refused(home: Home) -> None:
    root = home("h5")
    last = discover(root).items[14]
    path = root / last.path
    edit(path, normal=np.zeros((15, POINTS - 1, 3)))
    assert "normals of" in refusal(root, last).detail
    edit(path, data=np.zeros((3, POINTS, 3)), normal=None)
    assert "row 14 is not there" in refusal(root, last).detail


def test_a_compressed_file_is_read_alike(home: Home) -> None:
    root = home("h5")
    plain = [read(root, item) for item in discover(root).items]
    for path in root.glob("*.h5"):
        with h5py.File(path) as file:
            arrays = {name: file[name][()] for name in file}
        if "test" in path.name:
            arrays["data"][:] = 0  # deflate makes almost nothing of it, and it is no hollow file all the same
            for raw in plain[15:]:
                raw.points[:] = 0  # type: ignore[union-attr]
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file.create_dataset(name, data=value, compression="gzip")
    for item, expected in zip(discover(root).items, plain, strict=True):
        raw = read(root, item)
        assert isinstance(raw, RawCloud)
        assert isinstance(expected, RawCloud)
        np.testing.assert_array_equal(raw.points, expected.points)
