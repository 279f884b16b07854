"""Any folder of meshes: nothing is skipped in silence, and what is read is right."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import trimesh

from demo.raw import write_modelnet, write_shapenet
from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess import source as source_module
from shapestore.preprocess.formats.mesh_file import MESH_SUFFIXES
from shapestore.preprocess.raw import RawMesh
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import LINK_OUT, Discovery, SourceItem, load_source
from shapestore.preprocess.sources.meshes import REMEDIES, Meshes
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of

RECIPE = load_recipe("points", ["points.count=64", "points.fps_order=16"])
BOX = trimesh.creation.box((1.0, 2.0, 3.0))


def discover(root: Path) -> Discovery:
    return Meshes().discover(root, RECIPE)


def paths(found: Discovery) -> set[str]:
    return {item.path for item in found.items}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One box in every format, under names that people give."""
    root = tmp_path / "raw"
    for name in ("box.obj", "box.stl", "deep/er/BOX.PLY", "deep/Box 2.off", "büx.glb"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        BOX.export(path, file_type=path.suffix[1:].lower())
    return root


# ------------------------------------------------------------------------------------------ discovery


def test_every_mesh_file_is_an_item_by_its_path(root: Path) -> None:
    found = discover(root)
    assert [item.path for item in found.items] == sorted(paths(found))
    assert paths(found) == {"box.obj", "box.stl", "deep/er/BOX.PLY", "deep/Box 2.off", "büx.glb"}
    for item in found.items:
        assert item == SourceItem(shape_id=item.path, path=item.path, group=item.path)
    assert found.ignored == {}
    assert load_source("meshes").inputs(root) == {"mesh"}
    assert "mesh" in load_recipe(Meshes.recipe).input


def test_discovery_reads_no_mesh_and_depends_on_no_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = discover(root)
    for path in paths(expected):
        (root / path).write_bytes(b"")
    entries = source_module._entries
    for seed in range(3):
        shuffle = random.Random(seed)
        monkeypatch.setattr(
            source_module, "_entries", lambda path, r=shuffle: r.sample(list_ := entries(path), len(list_))
        )
        assert discover(root) == expected


def test_every_file_is_an_item_or_counted(root: Path, tmp_path: Path) -> None:
    for name in ("box.mtl", "a.PNG", "b.png", "notes", ".DS_Store", "x.xyz", "deep/all.zip", "part.STEP"):
        (root / name).write_text("x")
    (tmp_path / "away.obj").write_text("x")
    (root / "away.obj").symlink_to(tmp_path / "away.obj")
    found = discover(root)
    assert found.ignored == {".mtl": 1, ".png": 2, "hidden file": 1, LINK_OUT: 1, "no suffix": 1}
    assert {"x.xyz", "deep/all.zip", "part.STEP"} <= paths(found)
    everything = sum(not path.is_dir() for path in root.rglob("*"))
    assert len(found.items) + sum(found.ignored.values()) == everything


def test_readable_and_refused_formats_are_told_apart() -> None:
    assert not set(MESH_SUFFIXES) & set(REMEDIES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in REMEDIES)


def test_a_single_file_is_a_root_too(root: Path) -> None:
    for name in ("box.obj", "deep/er/BOX.PLY"):
        (item,) = discover(root / name).items
        assert item.shape_id == item.group == Path(name).name
        assert (root / name / item.path).samefile(root / name)
        raw = Meshes().read(root / name, item, RECIPE)
        assert len(raw.mesh.faces) == 12
        assert build_record(raw, item, "0" * 64, RECIPE, schema_of(RECIPE)).provenance.source == "."


def test_wrong_roots_are_named_with_what_was_found(root: Path) -> None:
    for path in [*root.rglob("*.*")]:
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(UsageError, match=r"expected mesh files \(.*\.obj.*\), found [45] \.txt"):
        discover(root)
    with pytest.raises(UsageError, match=r"expected a mesh file .* found \.txt"):
        discover(root / "box.txt")
    (root.parent / "empty").mkdir()
    with pytest.raises(UsageError, match="found no file"):
        discover(root.parent / "empty")
    with pytest.raises(UsageError, match="expected a folder"):
        discover(root / "nowhere")


def test_names_that_cannot_be_ids_are_items_all_the_same(root: Path) -> None:
    deep = root / "/".join(["d" * 200] * 3)
    deep.mkdir(parents=True)
    names = [root / "tab\t.obj", root / "line\n.obj", root / "bidi\u202e.obj", deep / "1.obj", deep / "2.obj"]
    for path in names:
        shutil.copy(root / "box.obj", path)
    found = discover(root)
    assert len({item.shape_id for item in found.items}) == len(found.items) == 5 + len(names)
    for item in found.items:
        raw = Meshes().read(root, item, RECIPE)
        assert build_record(raw, item, "0" * 64, RECIPE, schema_of(RECIPE)).shape_id == item.shape_id


# ----------------------------------------------------------------------------------------------- read


def test_meshes_are_those_of_an_independent_reader_and_make_valid_records(root: Path) -> None:
    write_shapenet(root, 1)
    write_modelnet(root, "off", 1, 0)
    items = discover(root).items
    assert len(items) == 5 + 4 + 5
    for item in items:
        raw = Meshes().read(root, item, RECIPE)
        assert isinstance(raw, RawMesh)
        ours = trimesh.Trimesh(raw.mesh.vertices, raw.mesh.faces, process=False)
        if item.path.startswith("ModelNet40"):  # whose glued counts trimesh does not read
            continue
        other = trimesh.load(root / item.path, process=False, force="mesh", file_type=item.path[-3:].lower())
        assert ours.area == pytest.approx(other.area, rel=1e-6)
        assert ours.volume == pytest.approx(other.volume, rel=1e-6)
        record = build_record(raw, item, "0" * 64, RECIPE, schema_of(RECIPE))
        assert record.provenance.source == item.path


@pytest.mark.parametrize("suffix", [*REMEDIES, ".ZIP", ".Nii.GZ"])
def test_geometry_that_is_not_read_is_refused_with_a_remedy(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text("x")
    (item,) = discover(tmp_path).items
    with pytest.raises(InputRefused) as caught:
        Meshes().read(tmp_path, item, RECIPE)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert caught.value.detail == f"a{suffix} is {REMEDIES[suffix.lower()]}"
    assert any(word in caught.value.detail for word in ("unpack", "convert", "export", "reconstruct", "pack", "ingest"))


def test_bad_files_are_refused_with_the_reason_of_their_format(root: Path) -> None:
    (root / "lost.obj").symlink_to("nowhere.obj")
    (root / "empty.stl").write_bytes(b"")
    (root / "points.obj").write_text("v 0 0 0\nv 1 0 0\n")
    (root / "text.off").write_text("hello")
    reasons = {"lost.obj": Reason.MISSING, "empty.stl": Reason.EMPTY, "points.obj": Reason.NO_FACES}
    for item in discover(root).items:
        if item.path in {**reasons, "text.off": Reason.MALFORMED}:
            with pytest.raises(InputRefused) as caught:
                Meshes().read(root, item, RECIPE)
            assert caught.value.reason is {**reasons, "text.off": Reason.MALFORMED}[item.path]


def test_a_file_that_became_a_link_out_is_refused(root: Path, tmp_path: Path) -> None:
    (item, *_) = discover(root).items
    shutil.move(root / item.path, tmp_path / "away.obj")
    (root / item.path).symlink_to(tmp_path / "away.obj")
    with pytest.raises(InputRefused, match="leads out of the raw folder"):
        Meshes().read(root, item, RECIPE)


def test_the_real_files(shared_data: Path) -> None:
    found = discover(shared_data / "mesh")
    on_disk = [path for path in (shared_data / "mesh").rglob("*") if path.is_file()]
    assert len(found.items) + sum(found.ignored.values()) == len(on_disk)
    meshes = [item for item in found.items if Path(item.path).suffix.lower() in MESH_SUFFIXES]
    assert len(meshes) == sum(path.suffix.lower() in MESH_SUFFIXES for path in on_disk)
    small = [item for item in meshes if (shared_data / "mesh" / item.path).stat().st_size < 200_000]
    assert len(small) > 10
    refused = {}
    for item in small:
        try:
            raw = Meshes().read(shared_data / "mesh", item, RECIPE)
            build_record(raw, item, "0" * 64, RECIPE, schema_of(RECIPE))
        except InputRefused as refusal:
            refused[item.path] = refusal.reason
    clouds = ("trimesh/points_ascii.ply", "trimesh/points_emptyface.ply")
    assert refused == dict.fromkeys(clouds, Reason.NO_FACES)
