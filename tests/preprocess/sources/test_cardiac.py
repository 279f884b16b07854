"""Label maps as a source: what is found, what is read against nibabel's answers, and what is refused."""

from __future__ import annotations

import builtins
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from demo.raw import write_hearts, write_structure_folders
from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.raw import RawLabelMap
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import LINK_OUT, SourceItem, load_source
from shapestore.preprocess.sources.cardiac import Cardiac
from shapestore.schemas.recipe import HEART_10, Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import MAX_ID_BYTES, ShapeRecord

SMALL = {
    "surface": {"count": 600, "per_class_minimum": 20},
    "volume": {"count": 600, "per_class_minimum": 20},
    "near": {"count": 600},
}
HEART = {"scheme": "heart-10"}
SINGLE = {"scheme": "single"}
AORTA = {"scheme": "mapping", "classes": {"aorta": 52}}
CHAMBERS = {
    "scheme": "mapping",
    "layout": "folder",
    "classes": {"LAA": "atrial_appendage_left", "PA": "Pulmonary_Artery", "Heart": "heart"},
    "undeclared": "background",
}


def recipe(labels: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"input": ["label_map"], "labels": labels, **SMALL})


def item_at(path: str) -> SourceItem:
    return SourceItem(shape_id="case", path=path, group="case")


def read(root: Path, path: str, labels: dict[str, Any]) -> RawLabelMap:
    return Cardiac().read(root, item_at(path), recipe(labels))


def refusal(root: Path, path: str, labels: dict[str, Any]) -> InputRefused:
    with pytest.raises(InputRefused) as refused:
        read(root, path, labels)
    return refused.value


def record(root: Path, path: str, labels: dict[str, Any]) -> ShapeRecord:
    """A record that passed every rule."""
    made_by = recipe(labels)
    return build_record(
        Cardiac().read(root, item_at(path), made_by), item_at(path), "0" * 64, made_by, schema_of(made_by)
    )


def write(path: Path, voxels: Any, affine: NDArray[np.float64] | None = None) -> None:
    """A NIfTI file in millimetres with an s-form."""
    kind = nib.Nifti1Pair if path.suffix in (".img", ".hdr") else nib.Nifti1Image
    image = kind(np.asarray(voxels), np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def cube(value: int = 1, dtype: str = "uint8") -> NDArray[Any]:
    voxels = np.zeros((8, 8, 8), dtype)
    voxels[2:6, 2:6, 2:6] = value
    return voxels


def stored(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """What nibabel reads."""
    image = nib.load(path)
    return np.asarray(image.dataobj), np.asarray(image.affine)


# ---------------------------------------------------------------------------------------------------- discovery


def test_it_is_installed_and_reads_label_maps(tmp_path: Path) -> None:
    source = load_source("cardiac")
    assert isinstance(source, Cardiac)
    assert source.inputs(tmp_path) == {"label_map"}


def test_every_file_is_a_case_in_layout_file(tmp_path: Path) -> None:
    for name in ("1.nii.img.nii.gz", "a/B.NII", "a/c.d.nii.gz", "p/x.img", "p/x.hdr", "p/lone.hdr", "p/alone.img"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("notes.txt", "a/scan.dcm", "a/README", ".hidden.nii"):
        (tmp_path / name).touch()
    found = Cardiac().discover(tmp_path, recipe(HEART))
    assert {item.shape_id: item.path for item in found.items} == {
        "1.nii.img": "1.nii.img.nii.gz",
        "a/B": "a/B.NII",
        "a/c.d": "a/c.d.nii.gz",
        "p/x.img": "p/x.img",
        "p/lone.hdr": "p/lone.hdr",
        "p/alone.img": "p/alone.img",
    }
    assert all((item.group, item.category, item.split) == (item.shape_id, "", "") for item in found.items)
    assert found.ignored == {".dcm": 1, ".txt": 1, "no suffix": 1, "hidden file": 1}


def test_every_folder_with_masks_is_a_case_in_layout_folder(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    for name in ("a/heart.nii.gz", "a/aorta.nii", "b/deep/heart.img", "b/deep/heart.hdr", "c/report.pdf"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    found = Cardiac().discover(root, recipe(CHAMBERS))
    assert [(item.shape_id, item.path) for item in found.items] == [("a", "a"), ("b/deep", "b/deep")]
    assert found.ignored == {".pdf": 1}
    inside = Cardiac().discover(root / "a", recipe(CHAMBERS))
    assert [(item.shape_id, item.path) for item in inside.items] == [("a", ".")]


@given(st.sets(st.text("aB1 é\x07.", min_size=1), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_discovery_depends_on_names_alone(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], random: Any
) -> None:
    order = sorted(names)
    random.shuffle(order)
    root = tmp_path_factory.mktemp("raw")
    for name in order:
        (root / f"x{name}.nii").touch()
    found = Cardiac().discover(root, recipe(HEART))
    listed = os.scandir

    def reversed_scan(path: Any) -> Any:
        with listed(path) as entries:
            backwards = list(entries)[::-1]
        return _Entries(backwards)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", reversed_scan)
        assert Cardiac().discover(root, recipe(HEART)) == found
    assert len({item.shape_id for item in found.items}) == len(names)
    for item in found.items:
        assert item.path in {f"x{name}.nii" for name in names}
        assert len(item.shape_id.encode()) <= MAX_ID_BYTES
        assert not any(unicodedata.category(char)[0] == "C" for char in item.shape_id)


class _Entries(list[Any]):
    """A listing that can be closed, as that of `os.scandir`."""

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()


def test_discovery_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_structure_folders(tmp_path, cases=1, size=16)

    def refuse(*given: Any, **named: Any) -> Any:
        raise AssertionError(f"opened {given}")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert len(Cardiac().discover(root, recipe(CHAMBERS)).items) == 1


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    write(outside / "secret.nii", cube())
    write(outside / "pair.img", cube())
    root.mkdir()
    (root / "pair.img").symlink_to(outside / "pair.img")
    (root / "link.nii").symlink_to(outside / "secret.nii")
    (root / "folder").symlink_to(outside)
    shutil.copy(outside / "secret.nii", root / "own.nii")
    found = Cardiac().discover(root, recipe(HEART))
    assert [item.shape_id for item in found.items] == ["own"]
    assert found.ignored == {LINK_OUT: 3}
    (root / "pair.img").unlink()
    shutil.copy(outside / "pair.img", root / "pair.img")
    (root / "pair.hdr").symlink_to(outside / "pair.hdr")
    assert refusal(root, "pair.img", HEART).reason is Reason.MISSING


def test_two_files_of_one_case_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", cube())
    write(tmp_path / "a.nii.gz", cube())
    with pytest.raises(UsageError, match=r"'a'.*a\.nii.*a\.nii\.gz"):
        Cardiac().discover(tmp_path, recipe(HEART))


@pytest.mark.parametrize(
    ("labels", "expected"), [(HEART, "a NIfTI label map for each case"), (CHAMBERS, "a folder of NIfTI masks")]
)
def test_another_folder_is_an_error_that_says_what_is_there(
    tmp_path: Path, labels: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=f"expected {expected}.*found no files"):
        Cardiac().discover(tmp_path, recipe(labels))
    for name in ("a.obj", "b.obj", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"found 2 \.obj, 1 \.txt"):
        Cardiac().discover(tmp_path, recipe(labels))
    with pytest.raises(UsageError, match="expected a folder"):
        Cardiac().discover(tmp_path / "absent", recipe(labels))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (HEART | {"layout": "folder"}, "labels.scheme=mapping"),
        ({"scheme": "mapping", "layout": "folder", "classes": {"a": "Heart", "b": "heart"}}, "names heart twice"),
    ],
)
def test_classes_that_cannot_tell_masks_apart_are_an_error(
    tmp_path: Path, labels: dict[str, Any], expected: str
) -> None:
    write(tmp_path / "case" / "heart.nii", cube())
    with pytest.raises(UsageError, match=expected):
        Cardiac().discover(tmp_path, recipe(labels))


def test_a_recipe_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says nothing about labels"):
        Cardiac().discover(tmp_path, Recipe.model_validate({"name": "points", "input": ["mesh"], "points": {}}))


# -------------------------------------------------------------------------------------------------- single files


def test_demo_hearts_are_what_nibabel_reads(tmp_path: Path) -> None:
    root = write_hearts(tmp_path, cases=3, size=32)
    found = Cardiac().discover(root, recipe(HEART))
    assert sorted(item.shape_id for item in found.items) == ["1.nii.img", "2.nii.img", "3.nii.img"]
    for item in found.items:
        raw = Cardiac().read(root, item, recipe(HEART))
        voxels, affine = stored(root / item.path)
        assert raw.codes.dtype == np.uint8
        assert np.array_equal(raw.codes, voxels)
        assert np.allclose(raw.affine, affine, atol=1e-5)


def test_an_absent_class_is_a_note_of_the_record(tmp_path: Path) -> None:
    root = write_hearts(tmp_path, cases=2, size=48)
    voxels, _ = stored(root / "2.nii.img.nii.gz")
    whole, lacking = (record(root, f"{n}.nii.img.nii.gz", HEART) for n in (1, 2))
    assert not [note for note in whole.notes if note.startswith("class absent")]
    assert "class absent: LAA" in lacking.notes
    assert lacking.arrays["class_voxels"].tolist() == [np.count_nonzero(voxels == v) for v in HEART_10.values()]
    assert set(lacking.arrays["surface_labels"].tolist()) == set(range(1, 11)) - {8}


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6, unique=True), st.sampled_from(["u2", "i4", ">i2", "f4"]))
@settings(max_examples=25, deadline=None)
def test_values_become_the_positions_of_their_classes(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], dtype: str
) -> None:
    root = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(len(values))
    voxels = rng.choice([0, *values, 999], (5, 6, 7))
    voxels[0, 0, 0], voxels[0, 0, 1] = values[0], 999
    write(root / "map.nii", voxels.astype(dtype))
    labels = {"scheme": "mapping", "classes": {f"c{v}": v for v in values}}
    raw = read(root, "map.nii", labels | {"undeclared": "background"})
    known = {value: code for code, value in enumerate(values, start=1)}
    assert raw.codes.tolist() == [[[known.get(v, 0) for v in row] for row in plane] for plane in voxels.tolist()]
    refused = refusal(root, "map.nii", labels)
    assert refused.reason is Reason.NOT_LABELS
    assert "the values 999:" in refused.detail


def test_a_single_structure_is_all_that_is_not_zero(tmp_path: Path) -> None:
    voxels = np.arange(27).reshape(3, 3, 3) % 5
    write(tmp_path / "map.nii.gz", voxels.astype("int16"))
    assert np.array_equal(read(tmp_path, "map.nii.gz", SINGLE).codes, (voxels != 0).astype(np.uint8))


def test_a_pair_is_one_case(tmp_path: Path) -> None:
    write(tmp_path / "map.img", cube(3), np.diag([1.0, 2.0, 3.0, 1.0]))
    (found,) = Cardiac().discover(tmp_path, recipe(HEART)).items
    raw = Cardiac().read(tmp_path, found, recipe(HEART))
    assert np.array_equal(raw.codes, cube(3))
    assert np.allclose(raw.affine, np.diag([1, 2, 3, 1]))
    for name, kept in (("half.img", "map.img"), ("other.hdr", "map.hdr")):
        shutil.copy(tmp_path / kept, tmp_path / name)
        refused = refusal(tmp_path, name, HEART)
        assert refused.reason is Reason.MISSING
        assert "beside it" in refused.detail


@pytest.mark.parametrize(
    ("voxels", "labels", "reason", "detail"),
    [
        (cube(11), HEART, Reason.NOT_LABELS, "no class declares the values 11:"),
        (np.arange(64).reshape(4, 4, 4), HEART, Reason.NOT_LABELS, "the values 11, 12, 13, 14, 15 and 48 more:"),
        (cube(-1, "int16"), HEART, Reason.NOT_LABELS, "map.nii holds negative values, such as -1"),
        (cube(-1, "int16"), SINGLE, Reason.NOT_LABELS, "negative"),
        (cube(-1, "int16"), AORTA | {"undeclared": "background"}, Reason.NOT_LABELS, "negative"),
        (cube(0), HEART, Reason.EMPTY_LABELS, "the map holds no Myocardium, LA, LV, RA, RV and 5 more"),
        (cube(0), SINGLE, Reason.EMPTY_LABELS, "the map holds no structure"),
        (cube(51), AORTA | {"undeclared": "background"}, Reason.EMPTY_LABELS, "the map holds no aorta"),
        (cube(1).astype("f4") / 3, HEART, Reason.NOT_LABELS, ""),
        (np.stack([cube()] * 2, axis=-1), HEART, Reason.NOT_LABELS, ""),
    ],
)
def test_what_is_no_label_map_is_refused(
    tmp_path: Path, voxels: NDArray[Any], labels: dict[str, Any], reason: Reason, detail: str
) -> None:
    write(tmp_path / "map.nii", voxels.astype("int32") if voxels.dtype == np.int64 else voxels)
    refused = refusal(tmp_path, "map.nii", labels)
    assert refused.reason is reason
    assert detail in refused.detail


def test_a_lost_file_or_folder_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path, "gone.nii", HEART).reason is Reason.MISSING
    assert refusal(tmp_path, "gone", CHAMBERS).reason is Reason.MISSING


# ------------------------------------------------------------------------------------------------ folders of masks


def folder_labels(*classes: str, **options: str) -> dict[str, Any]:
    """Classes named as their files."""
    return {"scheme": "mapping", "layout": "folder", "classes": {name: name for name in classes}, **options}


def test_demo_folders_are_laid_together_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    root = write_structure_folders(tmp_path, cases=2, size=40)
    heart, affine = stored(root / "case_b" / "heart.nii.gz")
    artery, cropped = stored(root / "case_b" / "pulmonary_artery.nii.gz")
    appendage, _ = stored(root / "case_b" / "atrial_appendage_left.nii.gz")
    raw = read(root, "case_b", CHAMBERS)
    start = np.rint(np.linalg.inv(affine) @ cropped[:, 3])[:3].astype(int)
    expected = heart * 3
    box = tuple(slice(a, a + n) for a, n in zip(start, artery.shape, strict=True))
    expected[box][artery != 0] = 2
    expected[appendage != 0] = 1
    assert np.array_equal(raw.codes, expected)
    assert np.allclose(raw.affine, affine)
    assert raw.notes == ("1 of 3 masks brought onto a common grid of 40x40x40 voxels",)


def test_an_empty_mask_is_recorded(tmp_path: Path) -> None:
    root = write_structure_folders(tmp_path, cases=1, size=40)
    made = record(root, "case_a", CHAMBERS)
    assert "atrial_appendage_left.nii.gz: the mask is empty" in made.notes
    assert "class absent: LAA" in made.notes
    assert made.arrays["class_voxels"][0] == 0


def test_a_class_without_file_is_absent(tmp_path: Path) -> None:
    write(tmp_path / "case" / "heart.nii", cube())
    assert "class absent: LAA" in record(tmp_path, "case", CHAMBERS).notes


def test_the_first_class_keeps_what_two_masks_claim(tmp_path: Path) -> None:
    inner, outer = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    inner[4:6, 4:6, 4:6] = 1
    outer[2:8, 2:8, 2:8] = 255
    write(tmp_path / "inner.nii", inner)
    write(tmp_path / "outer.nii.gz", outer)
    first = read(tmp_path, ".", folder_labels("inner", "outer"))
    assert np.bincount(first.codes.ravel()).tolist() == [1000 - 216, 8, 208]
    assert first.notes == ("overlap: 8 voxels of outer stay with classes declared before it",)
    second = read(tmp_path, ".", folder_labels("outer", "inner"))
    assert np.bincount(second.codes.ravel()).tolist() == [1000 - 216, 216]
    assert second.notes == ("overlap: 8 voxels of inner stay with classes declared before it",)
    assert "class absent: inner" in record(tmp_path, ".", folder_labels("outer", "inner")).notes


def test_a_single_structure_is_the_union_of_all_masks(tmp_path: Path) -> None:
    one, two = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6, 4), np.uint8)
    one[1:3], two[2:4] = 1, 7
    shifted = np.eye(4)
    shifted[2, 3] = 2.0
    write(tmp_path / "one.nii", one)
    write(tmp_path / "two.nii", two, shifted)
    write(tmp_path / "nothing.nii", np.zeros((3, 3, 3), np.uint8), np.diag([9.0, 9.0, 9.0, 1.0]))
    raw = read(tmp_path, ".", SINGLE | {"layout": "folder"})
    expected = one.copy()
    expected[2:4, :, 2:] = 1
    assert np.array_equal(raw.codes, expected)
    assert np.allclose(raw.affine, np.eye(4))


def test_masks_that_no_class_declares(tmp_path: Path) -> None:
    for name in "abcdefg":
        write(tmp_path / f"{name}.nii", cube())
    refused = refusal(tmp_path, ".", folder_labels("a"))
    assert refused.reason is Reason.NOT_LABELS
    assert "the masks b.nii, c.nii, d.nii, e.nii, f.nii and 1 more:" in refused.detail
    (tmp_path / "b.nii").write_bytes(b"not read at all")
    assert np.array_equal(read(tmp_path, ".", folder_labels("A", undeclared="background")).codes, cube())


def test_masks_that_are_none_are_refused(tmp_path: Path) -> None:
    two_values = cube()
    two_values[3, 3, 3] = 2
    write(tmp_path / "many" / "a.nii", two_values)
    refused = refusal(tmp_path, "many", folder_labels("a"))
    assert refused.reason is Reason.NOT_LABELS
    assert "a.nii is no mask of one structure: it holds 1, 2" in refused.detail
    write(tmp_path / "twice" / "a.nii", cube())
    write(tmp_path / "twice" / "A.nii.gz", cube())
    assert "A.nii.gz and a.nii are masks of one structure" in refusal(tmp_path, "twice", folder_labels("a")).detail
    write(tmp_path / "empty" / "a.nii", cube(0))
    assert refusal(tmp_path, "empty", folder_labels("a")).reason is Reason.EMPTY_LABELS
    assert refusal(tmp_path, "empty", folder_labels("b", undeclared="background")).reason is Reason.EMPTY_LABELS


def test_masks_of_two_worlds_are_refused_by_name(tmp_path: Path) -> None:
    far = np.eye(4)
    far[:3, 3] = 500
    write(tmp_path / "a.nii", cube())
    write(tmp_path / "b.nii", cube(), far)
    refused = refusal(tmp_path, ".", folder_labels("a", "b"))
    assert refused.reason is Reason.GRID_MISMATCH
    assert "a.nii, b.nii" in refused.detail


# ----------------------------------------------------------------------------------------------------- real files


def test_a_real_atrium(shared_data: Path) -> None:
    root = shared_data / "cardiac" / "heart-segmentation-monai"
    voxels, affine = stored(root / "la_003_0.nii.gz")
    raw = read(root, "la_003_0.nii.gz", SINGLE)
    assert np.array_equal(raw.codes, voxels)
    assert np.allclose(raw.affine, affine, atol=1e-4)
    made = record(root, "la_003_0.nii.gz", SINGLE)
    assert made.arrays["class_voxels"].tolist() == [np.count_nonzero(voxels)]
    # The label of each volume sample is that of its voxel, but for those near the smoothed surface.
    world = made.arrays["vol_points"] / made.provenance.scale + made.provenance.shift
    index = np.rint((world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    inside = ((index >= 0) & (index < voxels.shape)).all(axis=1)
    expected = np.zeros(len(world), np.int8)
    expected[inside] = voxels[tuple(index[inside].T)]
    assert (made.arrays["vol_labels"] == expected).mean() > 0.95


def test_a_real_folder_on_two_grids(shared_data: Path) -> None:
    root = shared_data / "cardiac" / "TotalSegmentator"
    names = ("pul_annulus", "pulmonary_artery", "heart")
    made = record(root, "totalsegmentator_case_a", folder_labels(*names))
    voxels = {name: stored(root / "totalsegmentator_case_a" / f"{name}.nii.gz") for name in names}
    volumes = [np.count_nonzero(v) * abs(np.linalg.det(affine[:3, :3])) for v, affine in voxels.values()]
    finest = min(abs(np.linalg.det(affine[:3, :3])) for _, affine in voxels.values())
    found = made.arrays["class_voxels"] * finest
    # The first class keeps all of its volume; others lose what classes before it claim, which the notes count.
    assert found[0] == pytest.approx(volumes[0], rel=0.05)
    assert (found[1:] <= np.array(volumes[1:]) * 1.01).all()
    assert (found > 0).all()


def test_folders_of_masks_are_not_taken_for_label_maps(tmp_path: Path) -> None:
    write_structure_folders(tmp_path, cases=2, size=24)
    with pytest.raises(UsageError, match=r"labels\.layout=folder"):
        Cardiac().discover(tmp_path, load_recipe("cardiac-sdf"))


def test_a_real_folder_with_empty_masks(shared_data: Path) -> None:
    root = shared_data / "cardiac" / "TotalSegmentator"
    labels = folder_labels("heart", "atrial_appendage_left", "aorta")
    made = record(root, "example_seg_fast", labels)
    assert {"class absent: heart", "class absent: atrial_appendage_left"} <= set(made.notes)
    assert made.arrays["class_voxels"].tolist() == [0, 0, 1174]
    assert set(made.arrays["surface_labels"].tolist()) == {3}


def test_one_class_of_a_real_map_of_many(shared_data: Path) -> None:
    root, name = shared_data / "cardiac" / "TotalSegmentator", "example_seg_fast_force_split.nii.gz"
    voxels, _ = stored(root / name)
    assert f"and {len(np.unique(voxels)) - 2 - 5} more" in refusal(root, name, AORTA).detail
    made = record(root, name, AORTA | {"undeclared": "background"})
    assert made.arrays["class_voxels"].tolist() == [np.count_nonzero(voxels == 52)]
