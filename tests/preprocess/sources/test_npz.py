from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pydantic import TypeAdapter

from demo.raw import write_nepa_cache, write_vecsetx_cache
from shapestore.errors import InputRefused, Reason, RecordInvalid, UsageError
from shapestore.preprocess import source as source_module
from shapestore.preprocess.raw import RawArrays
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import LINK_OUT, Discovery, load_source
from shapestore.preprocess.sources.npz import Npz
from shapestore.preprocess.sources.npz_arrays import codes_of_one_hot, exactly
from shapestore.preprocess.sources.npz_file import NpzFile, open_npz
from shapestore.schemas.recipe import CachePart, Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import ShapeId, ShapeRecord

RECIPE = load_recipe("npz")
SMALL: dict[str, Any] = {"points": 64, "pool": 100, "grid": 8, "views": 2, "rays_per_view": 16}
Arrays = dict[str, np.ndarray]
RAYS = {f"ray_{what}_pool" for what in ("o", "d", "hit", "t", "n")}


def complete(root: Path, recipe: Recipe = RECIPE) -> Recipe:
    return Npz().complete(root, recipe)


def cache(recipe: Recipe) -> CachePart:
    assert recipe.cache is not None
    return recipe.cache


def discover(root: Path, recipe: Recipe = RECIPE) -> Discovery:
    return Npz().discover(root, complete(root, recipe))


def load(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


def change(path: Path, **changes: Any) -> None:
    """Rewrite a file with arrays added, changed by a function, or (None) taken out."""
    held = load(path)
    changed = {key: value(held[key]) if callable(value) else value for key, value in changes.items()}
    np.savez_compressed(path, **{key: value for key, value in (held | changed).items() if value is not None})


def read(root: Path, path: str, recipe: Recipe | None = None) -> RawArrays:
    recipe = complete(root) if recipe is None else recipe
    (item,) = [item for item in Npz().discover(root, recipe).items if item.path == path]
    return Npz().read(root, item, recipe)


def record(root: Path, path: str, recipe: Recipe | None = None) -> ShapeRecord:
    recipe = complete(root) if recipe is None else recipe
    (item,) = [item for item in Npz().discover(root, recipe).items if item.path == path]
    return build_record(Npz().read(root, item, recipe), item, "0" * 64, recipe, schema_of(recipe))


def refusal(root: Path, path: str, recipe: Recipe | None = None) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        read(root, path, recipe)
    return caught.value


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("caches")
    write_nepa_cache(home / "mesh", "mesh", **SMALL)
    write_nepa_cache(home / "scan", "scan", **SMALL)
    write_vecsetx_cache(home / "vecsetx", surface=200, volume=100)
    return home


@pytest.fixture
def mesh(caches: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(caches / "mesh", tmp_path / "mesh"))


@pytest.fixture
def scan(caches: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(caches / "scan", tmp_path / "scan"))


@pytest.fixture
def vecsetx(caches: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(caches / "vecsetx", tmp_path / "vecsetx"))


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.npz"))


def test_it_is_installed_under_its_kind() -> None:
    assert isinstance(load_source("npz"), Npz)
    assert load_recipe(Npz.recipe).input == ("cache",)
    assert Npz().inputs(Path()) == {"cache"}


# ------------------------------------------------------------------------------------------------------- adoption


@pytest.mark.parametrize("kind", ["mesh", "scan"])
def test_arrays_are_adopted_value_for_value(caches: Path, kind: str) -> None:
    root, recipe = caches / kind, complete(caches / kind)
    schema = schema_of(recipe)
    assert cache(recipe).layout == f"nepa-{kind}"
    left = {"df_grid", "df_dilate"} if kind == "mesh" else {"pc_n", *RAYS}
    for item in Npz().discover(root, recipe).items:
        held = load(root / item.path)
        made = build_record(Npz().read(root, item, recipe), item, "0" * 64, recipe, schema)
        assert set(made.arrays) == held.keys() - left
        for name, value in made.arrays.items():
            np.testing.assert_array_equal(value, held[name])
            assert value.dtype == schema.by_name[name].numpy_dtype


def test_vecsetx_samples_are_padded_to_the_largest_count(caches: Path) -> None:
    root, recipe = caches / "vecsetx", complete(caches / "vecsetx")
    schema = schema_of(recipe)
    items = Npz().discover(root, recipe).items
    held = {item.shape_id: load(root / item.path) for item in items}
    assert {item.shape_id for item in items} == {f"{n}.nii.img" for n in (1, 2, 3)}
    for tag in ("surface", "near"):
        assert cache(recipe).shapes[f"{tag}_points"][0] == max(len(each[f"{tag}_points"]) for each in held.values())
    for item in items:
        raw = held[item.shape_id]
        row = build_record(Npz().read(root, item, recipe), item, "0" * 64, recipe, schema).arrays
        for tag in ("surface", "near"):
            count = int(row[f"{tag}_count"])
            assert count == len(raw[f"{tag}_points"])
            np.testing.assert_array_equal(row[f"{tag}_points"][:count], raw[f"{tag}_points"])
            assert not any(row[key][count:].any() for key in row if key.startswith(f"{tag}_") and row[key].ndim)
        codes = row["surface_labels"][: int(row["surface_count"])]
        np.testing.assert_array_equal(np.eye(10)[codes - 1], raw["surface_labels"])
        np.testing.assert_array_equal(row["near_sdf"][: int(row["near_count"])], raw["near_sdf"][:, 0])
        np.testing.assert_array_equal(row["vol_sdf"], raw["vol_sdf"][:, 0])
        np.testing.assert_array_equal(row["vol_labels"], raw["vol_labels"])
        assert (item.group, item.category, item.split) == (item.shape_id, "", "")


def test_half_grids_are_kept_or_widened(mesh: Path) -> None:
    path = files(mesh)[0]
    part = CachePart(layout="nepa-mesh", shapes={}, half_grids="widened")
    wide = record(mesh, path, complete(mesh, RECIPE.model_copy(update={"cache": part}))).arrays["udf_grid"]
    half = record(mesh, path).arrays["udf_grid"]
    assert (half.dtype, wide.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(half.astype(np.float32), wide)


def test_grids_of_full_precision_stay_so(mesh: Path) -> None:
    for path in files(mesh):
        change(mesh / path, udf_grid=lambda grid: (grid + np.float32(1e-6)).astype("f4"))
    assert record(mesh, files(mesh)[0]).arrays["udf_grid"].dtype == np.float32


def test_placeholder_grids_and_what_copies_them_are_not_adopted(mesh: Path) -> None:
    for path in files(mesh):
        change(
            mesh / path,
            udf_grid=np.zeros((1, 1, 1), "f2"),
            occ_grid=np.zeros((1, 1, 1), "u1"),
            pt_dist_udf_pool=load(mesh / path)["pt_dist_pool"],
        )
    found = discover(mesh)
    made = record(mesh, files(mesh)[0]).arrays
    assert not {"udf_grid", "occ_grid", "pt_dist_udf_pool"} & made.keys()
    notes = " | ".join(found.notes)
    assert "not adopted: udf_grid (8 files): a placeholder of one cell" in notes
    assert "not adopted: pt_dist_udf_pool (8 files): it needs udf_grid" in notes


def test_unknown_keys_are_noted_once(mesh: Path) -> None:
    for path in files(mesh)[:3]:
        change(mesh / path, extra=np.arange(4))
    notes = [note for note in discover(mesh).notes if "extra" in note]
    assert notes == ["not adopted: extra (3 files): an unknown key"]
    assert "extra" not in record(mesh, files(mesh)[0]).arrays


def test_a_key_of_few_files_is_not_adopted_and_one_of_most_is(mesh: Path) -> None:
    paths = files(mesh)
    for path in paths[:5]:
        change(mesh / path, pt_fps_order=None)
    assert any(note.startswith("not adopted: pt_fps_order (3 files): most files") for note in discover(mesh).notes)
    change(mesh / paths[-1], pt_dist_pc_pool=None)
    assert refusal(mesh, paths[-1]).reason == Reason.MALFORMED
    assert "pt_dist_pc_pool" in str(refusal(mesh, paths[-1]))


def test_given_shapes_are_kept(vecsetx: Path) -> None:
    first = complete(vecsetx)
    shapes = {
        key: (3000, *shape[1:]) if key.startswith("near_") else shape for key, shape in cache(first).shapes.items()
    }
    given_part = cache(first).model_copy(update={"shapes": shapes})
    recipe = complete(vecsetx, RECIPE.model_copy(update={"cache": given_part}))
    assert cache(recipe) == given_part
    assert record(vecsetx, files(vecsetx)[0], recipe).arrays["near_points"].shape == (3000, 3)


def test_completing_twice_changes_nothing(caches: Path) -> None:
    for kind in ("mesh", "scan", "vecsetx"):
        recipe = complete(caches / kind)
        assert complete(caches / kind, recipe) == recipe
        assert Recipe.model_validate(recipe.model_dump()).digest == recipe.digest


# ------------------------------------------------------------------------------------------------------ discovery


def test_ids_splits_and_groups_of_a_mesh_cache(caches: Path) -> None:
    found = discover(caches / "mesh")
    assert len(found.items) == 8
    for item in found.items:
        split, synset, model = Path(item.path).with_suffix("").parts
        assert (item.shape_id, item.split, item.category, item.group) == (f"{synset}/{model}", split, synset, model)
    assert found.ignored == {".txt": 2}


def test_ids_splits_and_groups_of_a_scan_cache(caches: Path) -> None:
    found = discover(caches / "scan")
    first = min(found.items, key=lambda item: item.path)
    assert first.shape_id == first.group == "class_000/test_objectdataset_000000"
    assert (first.split, first.category) == ("test", "class_000")
    assert len({item.group for item in found.items}) == len(found.items)


def test_scans_of_perturbed_variants_share_their_group_whatever_folder_they_are_in(scan: Path) -> None:
    folder = scan / "train" / "class_000"
    source = folder / "training_objectdataset_000000.npz"
    (scan / "val" / "class_000").mkdir(parents=True)
    source.rename(scan / "val" / "class_000" / "training_objectdataset_augmentedrot_000003.npz")
    groups = {item.path: item.group for item in discover(scan).items}
    assert groups["val/class_000/training_objectdataset_augmentedrot_000003.npz"] == "train/class_000"
    assert groups["train/class_000/training_objectdataset_000001.npz"] == "train/class_000"
    assert groups["test/class_000/test_objectdataset_000000.npz"] == "test/class_000"


def test_ids_are_printable_and_unique_whatever_the_names(mesh: Path) -> None:
    source = mesh / files(mesh)[0]
    for name in ("new\nline", "tab\t", "x" * 200, "blank name", "ünïcode", "a~0123456789abcdef"):
        shutil.copy(source, mesh / "train" / f"{name}.npz")
    shutil.copytree(mesh / "train" / "02880940", mesh / "train" / "02880940\x07")
    ids = [item.shape_id for item in discover(mesh).items]
    assert len(set(ids)) == len(ids) == 8 + 6 + 3
    for shape_id in ids:
        TypeAdapter(ShapeId).validate_python(shape_id)


def test_links_inside_the_folder_are_followed(mesh: Path) -> None:
    path = files(mesh)[0]
    target = mesh / "store.bin"
    (mesh / path).rename(target)
    (mesh / path).symlink_to(target)
    assert record(mesh, path).arrays.keys() == complete(mesh).cache.shapes.keys()  # type: ignore[union-attr]


def test_links_out_of_the_folder_are_not_followed(mesh: Path) -> None:
    path = files(mesh)[0]
    target = shutil.move(mesh / path, mesh.parent / "outside.npz")
    (mesh / path).symlink_to(target)
    found = discover(mesh)
    assert path not in {item.path for item in found.items}
    assert found.ignored[LINK_OUT] == 1


def test_two_links_to_one_file_are_refused(mesh: Path) -> None:
    for folder in ("train_mesh", "train_pc"):
        (mesh / folder / "02880940").mkdir(parents=True)
        (mesh / folder / "02880940" / f"{folder}.npz").symlink_to(mesh / files(mesh)[0])
    with pytest.raises(UsageError, match=r"test/02880940/\w+\.npz, train_mesh/.*train_pc/.*are links to one file"):
        discover(mesh)


def test_one_model_in_two_splits_is_refused(mesh: Path) -> None:
    path = files(mesh)[0]
    shutil.copytree(mesh / "test", mesh / "val")
    with pytest.raises(UsageError, match=rf"{path}, val/.*would have the same id \(and 1 more"):
        discover(mesh)


def test_a_folder_of_caches_is_told_that_its_splits_are_not_at_the_top(mesh: Path) -> None:
    notes = discover(mesh.parent).notes
    assert any("test, train below the top" in note for note in notes)


def test_a_wrong_folder_says_what_was_expected_and_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected npz files .* found nothing"):
        complete(tmp_path)
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(UsageError, match=r"found 1 x \.obj"):
        Npz().discover(tmp_path, RECIPE)
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(UsageError, match=r"no known layout: .* found x"):
        complete(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match=r"none of 1 can: a\.npz: malformed file"):
        complete(tmp_path)
    with pytest.raises(UsageError, match="no recipe but `npz`"):
        complete(tmp_path, load_recipe("points"))


def test_arrays_that_contradict_each_other_are_refused_at_once(mesh: Path) -> None:
    for path in files(mesh):
        change(mesh / path, pc_n=lambda normals: normals[:10])
    with pytest.raises(UsageError, match=r"pc_n: expected \(64, 3\) as its points say, got \(10, 3\)"):
        complete(mesh)
    for path in files(mesh):
        change(mesh / path, pc_n=None, pc_fps_order=np.zeros(65, "i4"))
    with pytest.raises(UsageError, match="65 indices into 64 points"):
        complete(mesh)
    for path in files(mesh):
        change(mesh / path, pc_fps_order=np.int32(3))
    with pytest.raises(UsageError, match="a single number as pc_fps_order"):
        complete(mesh)


def test_discovery_does_not_depend_on_the_listing_order(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [(complete(caches / kind), discover(caches / kind)) for kind in ("mesh", "scan", "vecsetx")]
    entries = source_module._entries
    monkeypatch.setattr(source_module, "_entries", lambda folder: entries(folder)[::-1])
    assert [(complete(caches / kind), discover(caches / kind)) for kind in ("mesh", "scan", "vecsetx")] == expected


def test_discovery_reads_headers_only(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(self: NpzFile, key: str) -> Iterator[bytes]:
        raise AssertionError(f"{key} was read")

    monkeypatch.setattr(NpzFile, "_blocks", blocks)
    for kind in ("mesh", "scan", "vecsetx"):
        discover(caches / kind)
    with pytest.raises(AssertionError):
        read(caches / "mesh", files(caches / "mesh")[0])


# ------------------------------------------------------------------------------------- files that deviate or lie


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"pc_xyz": None}, Reason.MALFORMED, "missing: pc_xyz"),
        (
            {"pc_xyz": np.zeros((63, 3), "f4")},
            Reason.MALFORMED,
            "pc_xyz: expected float32 (64, 3), got float32 (63, 3)",
        ),
        ({"udf_grid": np.zeros((1, 1, 1), "f2")}, Reason.MALFORMED, "udf_grid: expected float16 (8, 8, 8)"),
        ({"pc_xyz": np.full((64, 3), 0.1)}, Reason.MALFORMED, "192 values of float64"),
        ({"pc_fps_order": np.arange(64) + 2.0**31}, Reason.MALFORMED, "64 values of float64"),
        ({"ray_hit_pool": np.full(32, 0.5)}, Reason.MALFORMED, "ray_hit_pool: expected values that uint8"),
        ({"ray_hit_pool": np.full(32, np.nan)}, Reason.MALFORMED, "ray_hit_pool"),
        ({"pc_n": np.full((64, 3), "x")}, Reason.UNSUPPORTED, "'pc_n' is <U1"),
        ({"pc_n": np.zeros((64, 3), "c8")}, Reason.UNSUPPORTED, "complex64"),
        ({"pc_n": np.full((64, 3), None)}, Reason.UNSUPPORTED, "pickled"),
    ],
)
def test_a_deviating_file_is_refused_with_key_expected_and_got(
    mesh: Path, changes: Arrays, reason: Reason, words: str
) -> None:
    path = files(mesh)[0]
    change(mesh / path, **changes)
    caught = refusal(mesh, path)
    assert caught.reason == reason
    assert words in caught.detail
    assert record(mesh, files(mesh)[1])


@pytest.mark.parametrize("dtype", ["bool", "u1", "i8", "f8"])
def test_hits_of_any_dtype_are_adopted_if_they_are_0_and_1(mesh: Path, dtype: str) -> None:
    path = files(mesh)[0]
    hits = load(mesh / path)["ray_hit_pool"]
    change(mesh / path, ray_hit_pool=hits.astype(dtype))
    adopted = record(mesh, path).arrays["ray_hit_pool"]
    assert adopted.dtype == np.uint8
    np.testing.assert_array_equal(adopted, hits)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"pt_dist_pc_pool": np.full(100, -1, "f4")}, "non-negative"),
        ({"ray_hit_pool": np.full(32, 2, "u1")}, "declared-codes"),
        ({"pc_xyz": np.full((64, 3), 2, "f4")}, "within-cube"),
        ({"pc_n": np.zeros((64, 3), "f4")}, "unit-vectors"),
    ],
)
def test_values_that_break_a_rule_are_refused_by_its_name(mesh: Path, changes: Arrays, rule: str) -> None:
    path = files(mesh)[0]
    change(mesh / path, **changes)
    with pytest.raises(RecordInvalid, match=rf"\[{rule}\]"):
        record(mesh, path)


@pytest.mark.parametrize("key", ["pc_n", *sorted(RAYS)])
def test_a_scan_that_has_what_scans_do_not_have_is_refused(scan: Path, key: str) -> None:
    path = files(scan)[0]

    def last_set(values: np.ndarray) -> np.ndarray:
        values.reshape(-1)[-1] = 1
        return values

    change(scan / path, **{key: last_set})
    caught = refusal(scan, path)
    assert (caught.reason, caught.detail.split(":")[0]) == (Reason.RULE, key)


def test_a_mesh_cache_without_grids_can_be_declared_one(mesh: Path) -> None:
    for path in files(mesh):
        gone = [key for key in load(mesh / path) if key.endswith(("_grid", "udf_pool", "_pc_pool")) and key[:2] != "pt"]
        change(mesh / path, pt_dist_udf_pool=None, **dict.fromkeys(gone))
    assert "cache.layout=nepa-mesh" in str(refusal(mesh, files(mesh)[0]))
    declared = load_recipe("npz", ["cache.layout=nepa-mesh", "cache.shapes={}"])
    made = record(mesh, files(mesh)[0], complete(mesh, declared)).arrays
    assert made.keys() >= {"pc_n", *RAYS}


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"surface_labels": lambda rows: rows * 0.5}, Reason.RULE, "exactly one 1 a row"),
        ({"surface_labels": lambda rows: rows[:, :9]}, Reason.MALFORMED, "surface_labels: expected int8"),
        ({"surface_labels": lambda rows: rows[:-1]}, Reason.MALFORMED, "surface_labels"),
        ({"near_sdf": lambda sdf: sdf[:-1]}, Reason.MALFORMED, "near_sdf"),
        ({"near_points": np.zeros(())}, Reason.MALFORMED, "near_"),
        ({"vol_points": lambda points: points[:-1]}, Reason.MALFORMED, "vol_points: expected float32 (100, 3)"),
    ],
)
def test_samples_that_do_not_belong_together_are_refused(
    vecsetx: Path, changes: Arrays, reason: Reason, words: str
) -> None:
    path = files(vecsetx)[0]
    change(vecsetx / path, **changes)
    caught = refusal(vecsetx, path)
    assert caught.reason == reason
    assert words in caught.detail


def test_more_samples_than_the_store_has_room_for_are_refused(vecsetx: Path) -> None:
    recipe, path = complete(vecsetx), files(vecsetx)[0]
    grown = {key: lambda values: np.repeat(values, 2, axis=0) for key in load(vecsetx / path) if key.startswith("near")}
    change(vecsetx / path, **grown)
    assert refusal(vecsetx, path, recipe).reason == Reason.OVER_CAPACITY
    assert record(vecsetx, path)


def test_labels_that_contradict_the_distance_are_refused_by_rule(vecsetx: Path) -> None:
    path = files(vecsetx)[0]
    change(vecsetx / path, vol_labels=lambda labels: labels * 0)
    with pytest.raises(RecordInvalid, match="labelled-where-inside"):
        record(vecsetx, path)


def npy_bytes(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values)
    return stream.getvalue()


def add(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(name, content)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_appended_member_that_repeats_a_key_is_refused(mesh: Path) -> None:
    path = files(mesh)[0]
    add(mesh / path, "pc_xyz.npy", npy_bytes(np.zeros((64, 3), "f4")))
    caught = refusal(mesh, path)
    assert (caught.reason, "pc_xyz.npy" in caught.detail) == (Reason.MALFORMED, True)


def huge(declared: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {declared}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 64


@pytest.mark.parametrize(
    ("name", "content", "method", "reason"),
    [
        ("../up.npy", npy_bytes(np.zeros(3)), zipfile.ZIP_STORED, Reason.MALFORMED),
        ("/etc/up.npy", npy_bytes(np.zeros(3)), zipfile.ZIP_STORED, Reason.MALFORMED),
        ("notes.txt", b"text", zipfile.ZIP_STORED, Reason.MALFORMED),
        ("x.npy", b"not npy at all", zipfile.ZIP_STORED, Reason.MALFORMED),
        ("x.npy", b"", zipfile.ZIP_STORED, Reason.MALFORMED),
        ("x.npy", b"\x93NUMPY\x03\x00" + b"\0" * 80, zipfile.ZIP_STORED, Reason.UNSUPPORTED),
        ("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", zipfile.ZIP_STORED, Reason.MALFORMED),
        ("x.npy", huge((10**9, 10**9)), zipfile.ZIP_DEFLATED, Reason.TRUNCATED),
        ("x.npy", huge((-1,)), zipfile.ZIP_STORED, Reason.MALFORMED),
        ("x.npy", huge((2,)), zipfile.ZIP_STORED, Reason.MALFORMED),
        ("x.npy", npy_bytes(np.zeros(3)), zipfile.ZIP_BZIP2, Reason.UNSUPPORTED),
    ],
)
def test_members_that_are_no_plain_arrays_are_refused(
    mesh: Path, name: str, content: bytes, method: int, reason: Reason
) -> None:
    path = files(mesh)[0]
    add(mesh / path, name, content, method)
    assert refusal(mesh, path).reason == reason


def test_a_member_that_declares_more_than_deflate_can_hold_is_refused(mesh: Path) -> None:
    path = mesh / files(mesh)[0]
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 24, 2**31)  # uncompressed size in the last entry of the directory
    path.write_bytes(content)
    caught = refusal(mesh, files(mesh)[0])
    assert (caught.reason, "declared 2147483648 bytes" in caught.detail) == (Reason.TRUNCATED, True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: os.truncate(path, path.stat().st_size - 30), Reason.TRUNCATED),
        (lambda path: os.truncate(path, 1000), Reason.TRUNCATED),
        (lambda path: os.truncate(path, 0), Reason.EMPTY),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), Reason.LFS_POINTER),
        (lambda path: path.write_bytes(npy_bytes(np.zeros(3))), Reason.MALFORMED),
        (lambda path: (path.unlink(), path.symlink_to("gone.npz")), Reason.MISSING),
    ],
)
def test_a_damaged_file_is_refused_and_the_others_are_not(
    mesh: Path, damage: Callable[[Path], Any], reason: Reason
) -> None:
    path = files(mesh)[0]
    damage(mesh / path)
    assert refusal(mesh, path).reason == reason
    assert record(mesh, files(mesh)[1])


def test_a_flipped_byte_of_data_is_noticed(tmp_path: Path) -> None:
    root = write_nepa_cache(tmp_path, "scan", **SMALL)
    path = root / files(root)[0]
    np.savez(path, **load(path))  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    content[content.index(b"pt_dist_pool.npy") + 300] ^= 1
    path.write_bytes(content)
    caught = refusal(root, files(root)[0])
    assert (caught.reason, "CRC" in caught.detail) == (Reason.MALFORMED, True)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), cut=st.booleans(), stored=st.booleans())
def test_damage_anywhere_gives_arrays_or_a_refusal(
    caches: Path, tmp_path: Path, at: float, byte: int, cut: bool, stored: bool
) -> None:
    recipe = complete(caches / "scan")
    item = Npz().discover(caches / "scan", recipe).items[0]
    target = tmp_path / item.path
    target.parent.mkdir(parents=True, exist_ok=True)
    (np.savez if stored else np.savez_compressed)(target, **load(caches / "scan" / item.path))  # type: ignore[arg-type]
    content = bytearray(target.read_bytes())
    offset = int(at * len(content))
    content[offset] ^= byte
    target.write_bytes(content[:offset] if cut else content)
    try:
        raw = Npz().read(tmp_path, item, recipe)
    except InputRefused:
        return
    assert raw.arrays.keys() == cache(recipe).shapes.keys()


# ---------------------------------------------------------------------------------------------------------- parts


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.sampled_from(["?", "<i1", ">i4", "<u2", "<f2", ">f4", "<f8"]).flatmap(
        lambda dtype: arrays(np.dtype(dtype), array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    fortran=st.booleans(),
    compressed=st.booleans(),
)
def test_what_numpy_writes_is_read_back(tmp_path: Path, values: np.ndarray, fortran: bool, compressed: bool) -> None:
    values = np.asfortranarray(values) if fortran else values
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x=values)
    with open_npz(tmp_path / "a.npz") as file:
        assert (file.headers["x"].shape, file.headers["x"].dtype) == (values.shape, values.dtype)
        np.testing.assert_array_equal(file.array("x"), values, strict=True)
        assert file.is_zero("x") == (not values.any())


@given(values=arrays(np.float64, st.integers(0, 20), elements=st.floats(allow_nan=True)))
def test_exactly_keeps_every_value_or_refuses(values: np.ndarray) -> None:
    for dtype in (np.float32, np.int32, np.uint8, np.float16):
        fits = all(
            np.isnan(v) if np.issubdtype(dtype, np.floating) and np.isnan(v) else holds(v, dtype) for v in values
        )
        if fits:
            np.testing.assert_array_equal(exactly(values, np.dtype(dtype), "x").astype("f8"), values)
        else:
            with pytest.raises(InputRefused, match="that it cannot"):
                exactly(values, np.dtype(dtype), "x")


def holds(value: float, dtype: Any) -> bool:
    """Whether a dtype has the value, by exact integers or by the bits of IEEE formats."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return bool(np.isfinite(value)) and value == int(value) and limits.min <= value <= limits.max
    try:
        code = "<f" if dtype is np.float32 else "<e"
        return bool(struct.unpack(code, struct.pack(code, value))[0] == value)
    except OverflowError:
        return False


@given(codes=arrays(np.int64, st.integers(0, 30), elements=st.integers(1, 10)))
def test_one_hot_is_the_inverse_of_the_unit_matrix(codes: np.ndarray) -> None:
    np.testing.assert_array_equal(codes_of_one_hot(np.eye(10, dtype="f4")[codes - 1], "x"), codes)


@pytest.mark.parametrize(
    "row", [np.zeros(10), np.ones(10), np.full(10, np.nan), np.eye(10)[0] * 2, np.eye(10)[0] + np.eye(10)[1] * -1]
)
def test_rows_that_are_not_one_hot_are_refused(row: np.ndarray) -> None:
    with pytest.raises(InputRefused, match="got 1 other rows") as caught:
        codes_of_one_hot(np.stack([np.eye(10)[3], row]), "surface_labels")
    assert caught.value.reason == Reason.RULE
