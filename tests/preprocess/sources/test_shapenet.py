"""ShapeNetCore: layouts, official and hashed splits, groups, and what is wrong with real copies."""

from __future__ import annotations

import csv
import hashlib
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from demo.raw import write_shapenet
from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess import source as source_module
from shapestore.preprocess.raw import RawMesh
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import LINK_OUT, Discovery, load_source
from shapestore.preprocess.sources.hash_split import hash_split
from shapestore.preprocess.sources.shapenet import ShapeNet
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of

RECIPE = load_recipe("nepa-shapenet")
SMALL = load_recipe("points", ["points.count=64", "points.fps_order=16"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapenet(tmp_path_factory.mktemp("shapenet"), official_split=True)


@pytest.fixture
def home(written: Path, tmp_path: Path) -> Path:
    """A copy of its own, without the official split."""
    copy = tmp_path / "raw" / "ShapeNetCore.v2"
    shutil.copytree(written, copy)
    (copy / "all.csv").unlink()
    return copy


def discover(root: Path, *settings: str) -> Discovery:
    return ShapeNet().discover(root, load_recipe("nepa-shapenet", settings))


def models(home: Path) -> list[tuple[str, str]]:
    return sorted((path.parts[-4], path.parts[-3]) for path in home.glob("*/*/models/*.obj"))


# ------------------------------------------------------------------------------------------ discovery


def test_every_model_is_an_item(home: Path) -> None:
    found = discover(home)
    assert sorted((item.category, item.group) for item in found.items) == models(home)
    for item in found.items:
        assert item.shape_id == f"{item.category}/{item.group}"
        assert (home / item.path).is_file()
        assert item.position is None
    assert found.ignored == {}
    assert load_source("shapenet").inputs(home) == {"mesh"}
    assert load_recipe(ShapeNet.recipe) == RECIPE


def test_a_folder_around_the_release_gives_the_same_items(home: Path) -> None:
    inside, around = discover(home), discover(home.parent)
    assert [item.shape_id for item in around.items] == [item.shape_id for item in inside.items]
    assert [item.split for item in around.items] == [item.split for item in inside.items]
    assert [item.path for item in around.items] == [f"ShapeNetCore.v2/{item.path}" for item in inside.items]


def test_version_1_has_the_same_ids(home: Path) -> None:
    before = discover(home)
    for mesh in sorted(home.glob("*/*/models/*.obj")):
        shutil.move(mesh, mesh.parents[1] / "model.obj")
        shutil.rmtree(mesh.parent)
    (home / before.items[0].path).parents[1].joinpath("model.obj").unlink()
    after = discover(home)
    assert [item.shape_id for item in after.items] == [item.shape_id for item in before.items]
    assert {item.path.split("/", 2)[2] for item in after.items} == {"model.obj"}


def test_discovery_reads_no_mesh_and_depends_on_no_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = discover(home)
    for mesh in home.glob("*/*/models/*.obj"):
        mesh.write_bytes(b"")
    assert discover(home) == expected
    entries = source_module._entries
    for seed in range(3):
        shuffle = random.Random(seed)
        monkeypatch.setattr(
            source_module, "_entries", lambda path, r=shuffle: r.sample(list_ := entries(path), len(list_))
        )
        assert discover(home) == expected


def test_all_that_is_no_model_is_counted(home: Path, tmp_path: Path) -> None:
    (home / "taxonomy.json").write_text("[]")
    (home / "03001627" / "list.TXT").write_text("")
    (home / "02958343.zip").write_bytes(b"PK")
    (home / "screenshots").mkdir()
    (home.parent / "README").write_text("")
    (home / ".cache").mkdir()
    outside = tmp_path / "outside" / "models"
    outside.mkdir(parents=True)
    (outside / "model_normalized.obj").write_text("v 0 0 0")
    (home / "03001627" / "linked").symlink_to(outside.parent)
    (home / "03001627" / "linked_mesh").mkdir()
    (home / "03001627" / "linked_mesh" / "models").symlink_to(outside)
    found = discover(home.parent)
    assert len(found.items) == 16
    assert found.ignored == {
        ".json": 1,
        ".txt": 1,
        ".zip": 1,
        "folder that is no synset": 1,
        "hidden folder": 1,
        "no suffix": 1,
        LINK_OUT: 2,
    }


def test_wrong_folders_are_named_with_what_was_expected(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected synset folders.*found models"):
        discover(min(home.glob("*/*/models")).parent)
    with pytest.raises(UsageError, match="found no folder"):
        discover(min(home.glob("*/*/models")))
    with pytest.raises(UsageError, match="expected a folder"):
        discover(tmp_path / "nowhere")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "03001627").symlink_to(home / "03001627")
    with pytest.raises(UsageError, match="links out of the folder are not followed"):
        discover(tmp_path / "links")
    shutil.copytree(home, home.with_name("ShapeNetCore.v1"))
    with pytest.raises(UsageError, match="give one of them"):
        discover(home.parent)
    (tmp_path / "empty" / "03001627").mkdir(parents=True)
    with pytest.raises(UsageError, match="synset folders are empty"):
        discover(tmp_path / "empty")


def test_names_that_cannot_be_ids_are_items_all_the_same(home: Path) -> None:
    mesh = min(home.glob("03001627/*/models/*.obj"))
    for name in ("a\nb", "\u200dc"):
        folder = home / "03001627" / name / "models"
        folder.mkdir(parents=True)
        shutil.copy(mesh, folder / mesh.name)
    found = discover(home)
    assert len(found.items) == 18
    assert len({item.shape_id for item in found.items}) == 18
    (odd,) = (item for item in found.items if "a\nb" in item.path)
    assert build_record(ShapeNet().read(home, odd, SMALL), odd, "0" * 64, SMALL, schema_of(SMALL)).group == odd.group


# -------------------------------------------------------------------------------------------- splits


def test_the_official_split_is_used_in_the_release_or_beside_it(written: Path, home: Path) -> None:
    with (written / "all.csv").open() as file:
        official = {f"{row['synsetId']}/{row['modelId']}": row["split"] for row in csv.DictReader(file)}
    for place in (home, home.parent):
        shutil.copy(written / "all.csv", place)
        for root in (home, home.parent):
            found = discover(root)
            assert {item.shape_id: item.split for item in found.items} == official
            assert found.notes == ("split: official all.csv",)
        (place / "all.csv").unlink()
    assert set(official.values()) == {"train", "val", "test"}


def test_models_and_lines_without_partner_are_counted(written: Path, home: Path) -> None:
    lines = (written / "all.csv").read_text().splitlines()
    # A spreadsheet has dropped leading zeros, and saved a byte order mark.
    rows = [line.split(",", 3) for line in [lines[0], *lines[3:]]]
    kept = [",".join([*(cell.lstrip("0") for cell in row[:3]), row[3]]) for row in rows]
    (home / "all.csv").write_text("\n".join([*kept, "9,3001627,3001627,f00,train"]), encoding="utf-8-sig")
    found = discover(home)
    assert sum(item.split == "" for item in found.items) == 2
    assert "2 of 16 models are not in it" in found.notes[0]
    assert "1 of its 15 models are not in the folder" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("id,synset,model\n", "expected the columns synsetId, modelId, split, got id, synset, model"),
        ("id,synsetId,subSynsetId,modelId,split\n1,2,3\n", "line 2: .* is missing"),
        ("synsetId,modelId,split\n1,a,train\n1,a,test\n", "line 3: a second split for 00000001/a"),
        ('synsetId,modelId,split\n1,"a"b,train\n', "cannot be read as CSV"),
        ("synsetId,modelId,split\n1,\udcff,train\n", "cannot be read as CSV"),
    ],
)
def test_a_damaged_official_split_is_no_reason_to_make_another(home: Path, text: str, message: str) -> None:
    (home / "all.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError, match=message):
        discover(home)


def by_definition(synset: str, names: list[str], share: float, seed: int) -> list[str]:
    """The test models, from the words of the definition: an independent writing of it."""
    keyed = [(int(hashlib.md5(f"{synset}/{n}:{seed}".encode()).hexdigest(), 16) >> 96, n) for n in names]  # noqa: S324
    whole, rest = divmod(share * len(names), 1)
    count = int(whole) + (rest > 0.5 or (rest == 0.5 and whole % 2 == 1))
    if len(names) >= 10 and share:
        count = max(count, 1)
    return sorted(name for _, name in sorted(keyed)[:count])


@given(
    st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), max_size=60, unique=True),
    st.floats(0, 1),
    st.integers(0, 2**40),
)
def test_the_hash_split_is_that_of_its_definition(names: list[str], share: float, seed: int) -> None:
    split = hash_split("03001627", names, share, seed)
    assert sorted(split) == list(split) == sorted(names)
    assert [name for name, s in split.items() if s == "test"] == by_definition("03001627", names, share, seed)
    assert hash_split("03001627", names[::-1], share, seed) == split


def test_sizes_of_the_hash_split() -> None:
    for total, expected in ((0, 0), (4, 0), (5, 0), (6, 1), (9, 1), (10, 1), (14, 1), (25, 2), (35, 4), (1000, 100)):
        split = hash_split("s", [str(n) for n in range(total)], 0.1, 0)
        assert list(split.values()).count("test") == expected
    assert set(hash_split("s", [str(n) for n in range(20)], 0.01, 0).values()) == {"train", "test"}
    assert set(hash_split("s", [str(n) for n in range(20)], 0.0, 0).values()) == {"train"}


def test_a_hash_split_that_was_worked_out_elsewhere() -> None:
    # printf %s 's/m0:0' | md5sum, and so on: 8 digits each, the smallest two are those of m4 and m3.
    split = hash_split("s", [f"m{k}" for k in range(5)], 0.4, 0)
    assert {name for name, s in split.items() if s == "test"} == {"m3", "m4"}
    # These two agree in the first seven digits, 38b54ee, and differ in the eighth.
    assert hash_split("s", ["m30193", "m51004"], 0.5, 0)["m51004"] == "test"


def test_the_recipe_sets_the_hash_split_and_the_notes_say_so(home: Path) -> None:
    found = discover(home, "source.test_share=0.5", "source.split_seed=7")
    for synset in {item.category for item in found.items}:
        names = [item.group for item in found.items if item.category == synset]
        test = sorted(item.group for item in found.items if item.category == synset and item.split == "test")
        assert test == by_definition(synset, names, 0.5, 7)
        assert len(test) == 2
    assert found.notes == ("split: hash split with a test share of 0.5 and seed 7; no official all.csv was found",)


def test_a_model_without_mesh_takes_no_place_in_the_hash_split(home: Path) -> None:
    synset, lost = models(home)[0]
    shutil.rmtree(home / synset / lost)
    before = {item.shape_id: item.split for item in discover(home, "source.test_share=0.5").items}
    (home / synset / lost / "models").mkdir(parents=True)
    found = discover(home, "source.test_share=0.5")
    assert {item.shape_id: item.split for item in found.items} == before | {f"{synset}/{lost}": ""}
    assert "1 model folders hold no OBJ" in found.notes


def test_a_model_in_two_synsets_is_one_group_and_torn_groups_are_counted(home: Path) -> None:
    synset, model = models(home)[0]
    shutil.copytree(home / synset / model, home / "99999999" / model)
    (home / "all.csv").write_text(f"synsetId,modelId,split\n{synset},{model},train\n99999999,{model},test\n")
    found = discover(home)
    twins = [item for item in found.items if item.group == model]
    assert {item.category for item in twins} == {synset, "99999999"}
    assert len({item.shape_id for item in found.items}) == len(found.items)
    assert any("1 models lie in several synsets whose splits differ" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------- read


def test_meshes_are_those_of_an_independent_reader_and_make_valid_records(home: Path) -> None:
    for item in discover(home).items[::5]:
        raw = ShapeNet().read(home, item, SMALL)
        assert isinstance(raw, RawMesh)
        other = trimesh.load(home / item.path, process=False, force="mesh")
        ours = trimesh.Trimesh(raw.mesh.vertices, raw.mesh.faces, process=False)
        assert ours.area == pytest.approx(other.area, rel=1e-9)
        np.testing.assert_allclose(ours.bounds, other.bounds, atol=1e-9)
        record = build_record(raw, item, "0" * 64, SMALL, schema_of(SMALL))
        assert (record.shape_id, record.category, record.group) == (item.shape_id, item.category, item.group)
        assert record.provenance.source == item.path


def test_bad_models_are_refused_with_a_reason(home: Path, tmp_path: Path) -> None:
    for item, content, reason in zip(
        discover(home).items,
        (None, b"", b"version https://git-lfs.github.com/spec/v1\n", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"),
        (Reason.MISSING, Reason.EMPTY, Reason.LFS_POINTER, Reason.NO_FACES),
        strict=False,
    ):
        mesh = home / item.path
        if content is None:
            shutil.rmtree(mesh.parents[1])
            mesh.parents[1].mkdir()
        else:
            mesh.write_bytes(content)
        (again,) = (other for other in discover(home).items if other.shape_id == item.shape_id)
        assert again.path == item.path
        with pytest.raises(InputRefused) as caught:
            ShapeNet().read(home, again, SMALL)
        assert caught.value.reason is reason
