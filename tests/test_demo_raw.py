"""The sample inputs: real layouts, readable by others, reproducible, and true to their definitions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import trimesh
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial import cKDTree

from demo import raw
from demo.heart import CLASSES, Ellipsoid, Structure, rasterise, tube
from demo.solids import OBJECTS, bounds, sample_surface, triangulate

SCAN_VARIANTS = ("OBJ-BG", "OBJ-ONLY", "PB-T25", "PB-T25-R", "PB-T50-R", "PB-T50-RS")
Writer = Callable[..., Path]
WRITERS: dict[str, Writer] = {
    "shapenet": partial(raw.write_shapenet, models_per_class=2, official_split=True),
    "modelnet-off": partial(raw.write_modelnet, layout="off"),
    "modelnet-txt": partial(raw.write_modelnet, layout="txt", points=128),
    "modelnet-h5": partial(raw.write_modelnet, layout="h5", points=128),
    **{v: partial(raw.write_scanobjectnn, variant=v, objects=2, points=128) for v in SCAN_VARIANTS},
    "hearts": partial(raw.write_hearts, size=40),
    "structures": partial(raw.write_structure_folders, size=40),
    "nepa-mesh": raw.write_nepa_cache,
    "nepa-scan": partial(raw.write_nepa_cache, kind="scan"),
    "vecsetx": raw.write_vecsetx_cache,
}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_follow_the_seed_alone(name: str, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        home = WRITERS[name](tmp_path / folder, seed=seed)
        assert home.is_dir()
        assert home.is_relative_to(tmp_path / folder)
    first = contents(tmp_path / "a")
    assert first
    assert first == contents(tmp_path / "b")
    assert first != contents(tmp_path / "c")


def test_no_file_carries_the_time(tmp_path: Path) -> None:
    # Two writes within one second would not show it.
    (masks,) = raw.write_hearts(tmp_path, cases=1, size=16).glob("*.gz")
    assert masks.read_bytes()[4:8] == bytes(4)
    scans = raw.write_scanobjectnn(tmp_path, objects=1, points=64)
    clouds = raw.write_modelnet(tmp_path, "h5", points=16)
    for path in (*scans.glob("*/*.h5"), *clouds.glob("*.h5")):
        with h5py.File(path) as file:
            for name in file:
                assert h5py.h5g.get_objinfo(file.id, name.encode()).mtime == 0


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    for writer, argument in (
        (raw.write_modelnet, "layout"),
        (raw.write_scanobjectnn, "variant"),
        (raw.write_nepa_cache, "kind"),
    ):
        with pytest.raises(ValueError, match="not 'other'"):
            writer(tmp_path, **{argument: "other"})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ solids


@pytest.mark.parametrize("name", OBJECTS)
def test_every_solid_is_closed_oriented_and_stands_on_the_floor(name: str) -> None:
    for seed in range(8):
        solids = OBJECTS[name](np.random.default_rng(seed))
        assert bounds(solids)[0, 1] == pytest.approx(0, abs=0.06)
        for solid in solids:
            vertices, triangles, _ = triangulate([solid])
            mesh = trimesh.Trimesh(vertices, triangles)
            assert mesh.is_watertight, solid.name
            assert mesh.is_winding_consistent, solid.name
            assert mesh.volume > 0, solid.name


def test_a_mug_is_open_at_the_top_and_a_bin_too() -> None:
    for name in ("mug", "bin"):
        solid = OBJECTS[name](np.random.default_rng(0))[0]
        mesh = trimesh.Trimesh(*triangulate([solid])[:2])
        assert mesh.volume < 0.5 * mesh.convex_hull.volume


def test_surface_samples_are_spread_by_area() -> None:
    solids = OBJECTS["chair"](np.random.default_rng(3))
    points, normals, owner = sample_surface(solids, 40_000, np.random.default_rng(0))
    area = np.array([trimesh.Trimesh(*triangulate([s])[:2]).area for s in solids])
    expected = area / area.sum()
    assert np.abs(np.bincount(owner) / len(owner) - expected).max() < 0.02
    whole = trimesh.Trimesh(*triangulate(solids)[:2], process=False)
    # Halves of one face, of which a biased barycentric map would favour one corner.
    seat = points[(owner == 0) & (normals[:, 1] > 0.5)]
    assert np.abs(seat[:, [0, 2]].mean(axis=0)).max() < 0.01
    _, distance, face = trimesh.proximity.closest_point_naive(whole, points[:200])
    assert distance.max() < 1e-9
    aligned = np.abs(np.einsum("ij,ij->i", whole.face_normals[face], normals[:200]))
    assert (aligned > 0.999).mean() > 0.95  # the rest lies where solids touch


# ---------------------------------------------------------------------------------------------- ShapeNet


def test_shapenet_layout_and_official_split(tmp_path: Path) -> None:
    home = raw.write_shapenet(tmp_path, official_split=True)
    models = sorted(home.glob("*/*/models/model_normalized.obj"))
    assert len(models) == 16
    assert {"03001627", "04379243", "03797390"} <= {p.parts[-4] for p in models}
    assert all(len(p.parts[-3]) == 32 and int(p.parts[-3], 16) >= 0 for p in models)
    assert sum(not p.with_suffix(".mtl").exists() for p in models) == 1
    with (home / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["synsetId"], r["modelId"]) for r in rows} == {(p.parts[-4], p.parts[-3]) for p in models}
    assert {r["split"] for r in rows} == {"train", "val", "test"}
    assert not list(raw.write_shapenet(tmp_path / "plain").glob("all.csv"))


def test_shapenet_models_have_unit_diagonal_and_the_known_quirks(tmp_path: Path) -> None:
    seen = dict.fromkeys(("l ", "g ", "usemtl ", "vt ", "vn "), 0)
    n_gons = doubled = 0
    for path in sorted(raw.write_shapenet(tmp_path).glob("*/*/models/*.obj")):
        lines = path.read_text().splitlines()
        for key in seen:
            seen[key] += any(line.startswith(key) for line in lines)
        n_gons += any(line.startswith("f ") and line.count(" ") > 4 for line in lines)
        mesh = trimesh.load(path, force="mesh", process=False)
        low, high = mesh.bounds
        assert np.linalg.norm(high - low) == pytest.approx(1, abs=1e-5)
        assert np.abs(low + high).max() < 1e-5
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        faces = np.sort(mesh.faces, axis=1)
        doubled += len(np.unique(faces, axis=0)) < len(faces)
    assert seen == {"l ": 8, "g ": 16, "usemtl ": 16, "vt ": 16, "vn ": 16}
    assert n_gons >= 8
    assert doubled == 4


# ---------------------------------------------------------------------------------------------- ModelNet


def test_modelnet_off_is_read_by_trimesh_and_has_its_quirks(tmp_path: Path) -> None:
    home = raw.write_modelnet(tmp_path, "off", train=3, test=2)
    heads = []
    for path in sorted(home.glob("*/*/*.off")):
        name, split = path.parts[-3:-1]
        assert path.stem.rsplit("_", 1)[0] == name
        assert split == ("train" if int(path.stem[-4:]) <= 3 else "test")
        lines = path.read_text().splitlines()
        heads.append(lines[0])
        counts = next(line.removeprefix("OFF") for line in lines if line not in ("OFF",) and line[0] != "#")
        vertices, faces, _ = map(int, counts.split())
        mesh = trimesh.load(path, process=False)
        assert (len(mesh.vertices), len(mesh.faces)) == (vertices, faces)
        assert 5 < mesh.extents.max() < 200
    assert len(heads) == 25
    assert sum(head != "OFF" for head in heads) == 5
    assert sum("# vertices" in p.read_text() for p in home.glob("*/*/*.off")) == 5


def test_modelnet_txt_lists_match_the_files(tmp_path: Path, shared_data: Path) -> None:
    home = raw.write_modelnet(tmp_path, "txt", points=300)
    names = (home / "modelnet40_shape_names.txt").read_text()
    real = shared_data / "modelnet" / home.name / "modelnet40_shape_names.txt"
    assert names.split() == real.read_text().split()
    listed = [item for s in ("train", "test") for item in (home / f"modelnet40_{s}.txt").read_text().split()]
    assert sorted(listed) == sorted(p.stem for p in home.glob("*/*.txt"))
    for item in listed:
        rows = np.loadtxt(home / item.rsplit("_", 1)[0] / f"{item}.txt", delimiter=",")
        assert rows.shape == (300, 6)
        assert np.linalg.norm(rows[:, :3], axis=1).max() == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(rows[:, 3:], axis=1) == pytest.approx(1, abs=1e-5)


def test_modelnet_h5_labels_name_the_classes(tmp_path: Path) -> None:
    home = raw.write_modelnet(tmp_path, "h5", points=64)
    for split, count in (("train", 15), ("test", 10)):
        (listed,) = (home / f"{split}_files.txt").read_text().split()
        with h5py.File(home / Path(listed).name) as file:
            assert file["data"].shape == (count, 64, 3)
            assert file["data"].dtype == np.float32
            assert file["label"].shape == (count, 1)
            assert file["label"].dtype == np.uint8
            label = file["label"][:, 0]
        files = json.loads((home / f"ply_data_{split}_0_id2file.json").read_text())
        assert [raw.MODELNET40[k] for k in label] == [name.split("/")[0] for name in files]


# ------------------------------------------------------------------------------------------ ScanObjectNN


def read_scans(path: Path) -> tuple[Any, Any, Any]:
    with h5py.File(path) as file:
        return file["data"][:], file["label"][:], file["mask"][:]


def test_class_names_are_those_of_the_real_list(shared_data: Path) -> None:
    real = (shared_data / "scanobjectnn/scanobjectnn/shape_names_ext.txt").read_text().split()
    assert list(raw.SCANOBJECTNN) == real


@pytest.mark.parametrize("variant", SCAN_VARIANTS)
def test_scan_files(variant: str, tmp_path: Path) -> None:
    home = raw.write_scanobjectnn(tmp_path, variant, objects=8, points=256)
    files = sorted(home.glob("*/*.h5"))
    assert {p.name.split("_")[0] for p in files} == {"training", "test"}
    assert len(files) == 2
    assert (files[0].parent.name == "main_split_nobg") == (variant == "OBJ-ONLY")
    for path in files:
        data, label, mask = read_scans(path)
        copies = 5 if variant.startswith("PB") else 1
        assert data.shape == (copies * (8 if path.name.startswith("training") else 2), 256, 3)
        assert data.dtype == np.float32
        assert label.shape == (len(data),)
        assert mask.shape == data.shape[:2]
        assert np.isfinite(data).all()
        assert all(len(np.unique(scan, axis=0)) == 256 for scan in data)
        assert mask.min() == (0 if variant == "OBJ-ONLY" else -1) or (variant == "OBJ-ONLY" and mask.min() >= 0)
        assert (mask >= 0).any(axis=1).all()


def test_variants_of_a_seed_show_the_same_objects(tmp_path: Path) -> None:
    raw.write_scanobjectnn(tmp_path, "OBJ-BG", objects=4)
    home = raw.write_scanobjectnn(tmp_path, "OBJ-ONLY", objects=4)
    with_room = read_scans(home / "main_split/training_objectdataset.h5")
    alone = read_scans(home / "main_split_nobg/training_objectdataset.h5")
    np.testing.assert_array_equal(with_room[1], alone[1])
    for k in range(4):
        extent = np.ptp(with_room[0][k][with_room[2][k] >= 0], axis=0)
        np.testing.assert_allclose(extent, np.ptp(alone[0][k], axis=0), atol=0.05)


def test_scans_show_the_near_side_only(tmp_path: Path) -> None:
    home = raw.write_scanobjectnn(tmp_path, "OBJ-ONLY", objects=6)
    data, label, _ = read_scans(home / "main_split_nobg/training_objectdataset.h5")
    cabinet = data[list(label).index(raw.SCANOBJECTNN.index("cabinet"))]
    depth = np.ptp(cabinet[:, 2])
    front = (cabinet[:, 2] > cabinet[:, 2].max() - 0.3 * depth).mean()
    rear_wall = (cabinet[:, 2] < cabinet[:, 2].min() + 0.05 * depth).mean()
    assert front > 0.3
    assert rear_wall < 0.05


def test_background_is_floor_and_wall(tmp_path: Path) -> None:
    home = raw.write_scanobjectnn(tmp_path, "PB-T25", objects=7)
    data, _, mask = read_scans(home / "main_split/training_objectdataset_augmented25_norot.h5")
    for scan, labels in zip(data, mask, strict=True):
        room = scan[labels == -1]
        if len(room):
            on_wall = np.abs(room[:, 2] - room[:, 2].min()) < 0.03
            assert ((np.abs(room[:, 1]) < 0.02) | on_wall).all()


# ----------------------------------------------------------------------------------------- label maps


def test_rasterised_volumes_agree_with_analytic_ones() -> None:
    frame = np.diag([0.01, 0.01, 0.02, 1.0])
    ball = Ellipsoid(np.full(3, 0.5), np.eye(3), np.array([0.2, 0.3, 0.4]))
    rod = tube([[0.3, 0.5, 0.5], [0.7, 0.5, 0.5]], 0.1, 0.1)
    labels = rasterise([Structure(1, (ball,), (0,)), Structure(2, rod, (0,))], frame, (100, 100, 50))
    cell = 0.01 * 0.01 * 0.02
    assert (labels == 1).sum() * cell == pytest.approx(4 / 3 * np.pi * 0.2 * 0.3 * 0.4, rel=0.01)
    alone = rasterise([Structure(2, rod, (0,))], frame, (100, 100, 50))
    assert (alone == 2).sum() * cell == pytest.approx(np.pi * 0.1**2 * (0.4 + 0.4 / 3), rel=0.02)
    assert ((labels == 2) <= (alone == 2)).all()
    np.testing.assert_array_equal(labels == 2, (alone == 2) & (labels != 1))


def test_regions_lie_in_their_bounds() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for region in (
        Ellipsoid(np.zeros(3), axes, np.array([0.3, 0.5, 0.9])),
        *tube(rng.normal(size=(2, 3)), 0.1, 0.4),
    ):
        points = rng.uniform(-4, 4, (200_000, 3))
        low, high = region.bounds()
        inside = points[region.contains(points)]
        assert len(inside) > 50
        assert ((inside >= low) & (inside <= high)).all()


def test_hearts_hold_the_ten_classes_in_one_piece_each(tmp_path: Path) -> None:
    home = raw.write_hearts(tmp_path)
    assert sorted(p.name for p in home.iterdir()) == [f"{n}.nii.img.nii.gz" for n in (1, 2, 3)]
    for n in (1, 2, 3):
        image = nib.load(home / f"{n}.nii.img.nii.gz")
        labels = np.asarray(image.dataobj)
        assert labels.shape == (96, 96, 96)
        assert labels.dtype == np.uint8
        assert (labels == 0).mean() > 0.7
        absent = {CLASSES["LAA"]} if n == 2 else set()
        assert set(np.unique(labels)) == set(range(11)) - absent
        for name in ("Myocardium", "LA", "LV", "RA", "RV", "Aorta"):
            pieces, _ = ndimage.label(labels == CLASSES[name])
            assert np.bincount(pieces.ravel())[1:].max() > 0.9 * (labels == CLASSES[name]).sum(), (n, name)
        assert 0.0003 < (labels == CLASSES["Coronary"]).mean() < 0.003


def test_coronaries_are_thin(tmp_path: Path) -> None:
    labels = np.asarray(nib.load(raw.write_hearts(tmp_path, cases=1) / "1.nii.img.nii.gz").dataobj)
    depth = ndimage.distance_transform_edt(labels == CLASSES["Coronary"])
    assert 1.0 <= depth.max() < 2.5


def test_the_third_heart_is_oblique_and_flipped(tmp_path: Path) -> None:
    home = raw.write_hearts(tmp_path, size=24, spacing=(0.8, 0.8, 1.0))
    first, third = (nib.load(home / f"{n}.nii.img.nii.gz") for n in (1, 3))
    assert nib.aff2axcodes(first.affine) == ("R", "A", "S")
    assert nib.aff2axcodes(third.affine) == ("L", "P", "S")
    np.testing.assert_allclose(third.header.get_zooms(), (0.8, 0.8, 1.5), rtol=1e-5)
    assert (np.abs(third.affine[:3, :3]) > 0.05).sum() > 3
    for image in (first, third):
        assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)


def test_anatomy_is_where_it_belongs_in_the_world_frame(tmp_path: Path) -> None:
    for path in sorted(raw.write_hearts(tmp_path).iterdir()):
        image = nib.load(path)
        labels = np.asarray(image.dataobj)

        def centre(name: str, labels: Any = labels, image: Any = image) -> Any:
            return apply_affine(image.affine, np.argwhere(labels == CLASSES[name]).mean(axis=0))

        assert centre("RA")[0] > centre("LV")[0]  # right is +x
        assert centre("RV")[1] > centre("LA")[1]  # anterior is +y
        assert centre("LA")[2] > centre("LV")[2]  # superior is +z


def test_structure_folders_share_a_world_frame(tmp_path: Path) -> None:
    home = raw.write_structure_folders(tmp_path)
    assert sorted(p.name for p in home.iterdir()) == ["case_a", "case_b"]
    for case in sorted(home.iterdir()):
        masks = {p.name.removesuffix(".nii.gz"): nib.load(p) for p in case.iterdir()}
        values = {name: np.asarray(image.dataobj) for name, image in masks.items()}
        empty = {name for name, mask in values.items() if not mask.any()}
        assert empty == ({"atrial_appendage_left"} if case.name == "case_a" else set())
        assert all(set(np.unique(mask)) <= {0, 1} for mask in values.values())
        parts = [mask for name, mask in values.items() if name.startswith("heart_")]
        np.testing.assert_array_equal(values["heart"], np.sum(parts, axis=0))
        heart, artery = masks["heart"], masks["pulmonary_artery"]
        assert (int(heart.header["qform_code"]), int(heart.header["sform_code"])) == (0, 2)
        assert artery.shape != heart.shape
        # Cropping moves the origin by whole voxels, and the artery touches nothing that another mask holds.
        step = np.linalg.inv(heart.affine) @ artery.affine
        np.testing.assert_allclose(step[:3, :3], np.eye(3), atol=1e-5)
        offset = step[:3, 3].round().astype(int)
        np.testing.assert_allclose(step[:3, 3], offset, atol=1e-4)
        place = np.argwhere(values["pulmonary_artery"]) + offset
        assert not values["heart"][tuple(place.T)].any()
        assert not values["aorta"][tuple(place.T)].any()


# ------------------------------------------------------------------------------------------------- caches

MESH_KEYS = {
    "pc_xyz": ((64, 3), "f4"),
    "pc_n": ((64, 3), "f4"),
    "pc_fps_order": ((64,), "i4"),
    "pt_xyz_pool": ((501, 3), "f4"),
    "pt_dist_pool": ((501,), "f4"),
    "pt_dist_pc_pool": ((501,), "f4"),
    "pt_fps_order": ((64,), "i4"),
    "udf_grid": ((12, 12, 12), "f2"),
    "occ_grid": ((12, 12, 12), "u1"),
    "pt_dist_udf_pool": ((501,), "f4"),
    "df_grid": ((1,), "i4"),
    "df_dilate": ((1,), "i4"),
    **{f"ray_{k}_pool": ((48, 3) if k in "odn" else (48,), "f4") for k in ("o", "d", "hit", "t", "n")},
    **{f"ray_{k}_pc_pool": ((48, 3) if k == "n" else (48,), "f4") for k in ("hit", "t", "n")},
}


def nepa(root: Path, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    home = raw.write_nepa_cache(root, kind, points=64, pool=501, grid=12, views=3, rays_per_view=16)  # type: ignore[arg-type]
    return [(p.relative_to(home), dict(np.load(p))) for p in sorted(home.glob("*/*/*.npz"))]


def exact_distance(arrays: dict[str, Any], xyz: Any) -> Any:
    """Signed distance to the torus through the points: its radii are read off their extents."""
    top = np.abs(arrays["pc_n"][:, 2]).argmax()
    minor = arrays["pc_xyz"][top, 2] / arrays["pc_n"][top, 2]
    major = 1 - minor
    ring = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 4000)), np.sin(a), 0 * a], axis=1) * major
    return cKDTree(ring).query(xyz)[0] - minor


def test_mesh_cache_has_every_key_in_its_layout(tmp_path: Path) -> None:
    shapes = nepa(tmp_path, "mesh")
    assert len(shapes) == 8
    assert {p.parts[0] for p, _ in shapes} == {"train", "test"}
    assert all(len(p.parts[1]) == 8 and p.parts[1].isdigit() for p, _ in shapes)
    for split in ("train", "test"):
        listed = {line.split("/")[3] for line in (tmp_path / f"_splits/{split}.txt").read_text().split()}
        assert listed == {p.stem for p, _ in shapes if p.parts[0] == split}
    for _, arrays in shapes:
        assert {k: (v.shape, v.dtype.str[1:]) for k, v in arrays.items()} == MESH_KEYS
        assert all(np.isfinite(v).all() for v in arrays.values())


def test_mesh_cache_distances_and_normals_are_exact(tmp_path: Path) -> None:
    for path, a in nepa(tmp_path, "mesh"):
        assert np.abs(exact_distance(a, a["pc_xyz"])).max() < 1e-4, path
        assert np.linalg.norm(a["pc_n"], axis=1) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(a["pt_dist_pool"], np.abs(exact_distance(a, a["pt_xyz_pool"])), atol=1e-4)
        brute = np.linalg.norm(a["pt_xyz_pool"][:, None] - a["pc_xyz"], axis=-1).min(axis=1)
        np.testing.assert_allclose(a["pt_dist_pc_pool"], brute, atol=1e-6)
        step = a["pc_xyz"] + 0.01 * a["pc_n"]
        np.testing.assert_allclose(exact_distance(a, step), 0.01, atol=1e-4)


def test_orders_are_farthest_first(tmp_path: Path) -> None:
    for _, a in nepa(tmp_path, "mesh"):
        for order, pool in ((a["pc_fps_order"], a["pc_xyz"]), (a["pt_fps_order"], a["pt_xyz_pool"])):
            assert len(np.unique(order)) == len(order)
            assert 0 <= order.min() <= order.max() < len(pool)
            for k in range(1, len(order)):
                gap = np.linalg.norm(pool[:, None] - pool[order[:k]], axis=-1).min(axis=1)
                assert gap[order[k]] >= gap.max() - 1e-6


def test_rays_meet_the_surface_where_they_say(tmp_path: Path) -> None:
    hits = 0
    for _, a in nepa(tmp_path, "mesh"):
        o, d, t = a["ray_o_pool"].astype(float), a["ray_d_pool"].astype(float), a["ray_t_pool"]
        hit = a["ray_hit_pool"] > 0
        hits += hit.sum()
        assert np.linalg.norm(o, axis=1) == pytest.approx(2.2, abs=1e-5)
        assert np.linalg.norm(d, axis=1) == pytest.approx(1, abs=1e-6)
        along = np.linspace(0, 4.5, 200)
        distance = exact_distance(a, o[:, None] + along[:, None] * d[:, None])
        for k in range(len(o)):
            if hit[k]:
                assert abs(exact_distance(a, o[k] + t[k] * d[k])) < 1e-4
                assert (distance[k][along < t[k] - 0.01] > 0).all()
                assert a["ray_n_pool"][k] @ d[k] < 1e-3
            else:
                assert (distance[k] > -1e-4).all()
                assert t[k] == 0
                assert not a["ray_n_pool"][k].any()
    assert hits > 50


def test_grids_follow_their_definition(tmp_path: Path) -> None:
    for _, a in nepa(tmp_path, "mesh"):
        full = np.argwhere(a["occ_grid"])
        cells = np.argwhere(np.ones((12, 12, 12)))
        brute = np.linalg.norm(cells[:, None] - full, axis=-1).min(axis=1).reshape(12, 12, 12) * 2 / 12
        np.testing.assert_allclose(a["udf_grid"], brute, rtol=1e-3, atol=1e-3)
        own = np.floor((a["pc_xyz"].astype(float) + 1) * 6).clip(0, 11).astype(int)
        assert a["occ_grid"][tuple(own.T)].all()
        assert np.abs(full[:, None] - own).sum(axis=-1).min(axis=1).max() == 1  # one dilation over faces
        inner = np.abs(a["pt_xyz_pool"]).max(axis=1) < 1 - 1 / 12
        at = (a["pt_xyz_pool"][inner].astype(float) + 1) * 6 - 0.5
        low = np.floor(at).astype(int)
        read = np.zeros(len(at))
        for corner in np.argwhere(np.ones((2, 2, 2))):
            weight = np.where(corner, at - low, 1 - (at - low)).prod(axis=1)
            read += weight * a["udf_grid"][tuple((low + corner).T)]
        np.testing.assert_allclose(a["pt_dist_udf_pool"][inner], read, atol=1e-5)


def test_occupancy_rays_enter_the_first_full_cell(tmp_path: Path) -> None:
    hits = 0
    for _, a in nepa(tmp_path, "mesh"):
        full = np.argwhere(a["occ_grid"])
        o, d = a["ray_o_pool"][:, None].astype(float), a["ray_d_pool"][:, None].astype(float)
        ends = np.stack([(full / 6 - 1 - o) / d, ((full + 1) / 6 - 1 - o) / d])
        enter, leave = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
        t = np.where(enter < leave, enter, np.inf).min(axis=1)
        np.testing.assert_array_equal(a["ray_hit_pc_pool"] > 0, np.isfinite(t))
        hit = np.isfinite(t)
        hits += hit.sum()
        np.testing.assert_allclose(a["ray_t_pc_pool"][hit], t[hit], atol=1e-5)
        assert not a["ray_t_pc_pool"][~hit].any()
        assert not a["ray_n_pc_pool"][~hit].any()
    assert hits > 50


def test_scan_cache_has_the_reduced_keys(tmp_path: Path) -> None:
    reduced = {"pc_xyz", "pc_n", "pc_fps_order", "pt_xyz_pool", "pt_dist_pool"}
    reduced |= {f"ray_{k}_pool" for k in ("o", "d", "hit", "t", "n")}
    shapes = nepa(tmp_path, "scan")
    assert {p.parts[1] for p, _ in shapes} == {"class_000", "class_001"}
    assert all("_objectdataset_" in p.stem for p, _ in shapes)
    assert (tmp_path / "_meta/scanobjectnn_test_source.txt").is_file()
    for _, a in shapes:
        assert {k: (v.shape, v.dtype.str[1:]) for k, v in a.items()} == {k: MESH_KEYS[k] for k in reduced}
        assert not any(a[key].any() for key in reduced if key.startswith("ray") or key == "pc_n")
        assert np.linalg.norm(a["pc_xyz"], axis=1).max() == pytest.approx(1, abs=1e-6)
        assert np.abs(a["pc_xyz"].mean(axis=0)).max() < 1e-6
        brute = np.linalg.norm(a["pt_xyz_pool"][:, None] - a["pc_xyz"], axis=-1).min(axis=1)
        np.testing.assert_allclose(a["pt_dist_pool"], brute, atol=1e-6)


def test_sdf_cache_obeys_its_definitions(tmp_path: Path) -> None:
    files = sorted(raw.write_vecsetx_cache(tmp_path, cases=8, surface=800, volume=400).iterdir())
    assert [p.name for p in files] == [f"{n}.nii.img.npz" for n in range(1, 9)]
    counts = set()
    for n, path in enumerate(files, start=1):
        a = dict(np.load(path))
        near = len(a["near_points"])
        counts.add(near)
        shapes = {k: (v.shape, v.dtype.str[1:]) for k, v in a.items()}
        assert shapes == {
            "surface_points": ((near, 3), "f4"),
            "surface_labels": ((near, 10), "f4"),
            "near_points": ((near, 3), "f4"),
            "near_sdf": ((near, 1), "f4"),
            "near_labels": ((near,), "i1"),
            "vol_points": ((400, 3), "f4"),
            "vol_sdf": ((400, 1), "f4"),
            "vol_labels": ((400,), "i1"),
        }
        np.testing.assert_array_equal(a["surface_labels"].sum(axis=1), 1)
        present = set(np.flatnonzero(a["surface_labels"].any(axis=0)) + 1)
        assert present == set(range(1, 11)) - ({8} if n == 2 else set())
        assert np.linalg.norm(a["surface_points"], axis=1).max() == pytest.approx(1, abs=1e-6)
        tree = cKDTree(a["surface_points"])
        for part in ("near", "vol"):
            sdf = a[f"{part}_sdf"][:, 0]
            np.testing.assert_array_equal(a[f"{part}_labels"] > 0, sdf < 0)
            assert set(a[f"{part}_labels"]) <= present | {0}
            gap, nearest = tree.query(a[f"{part}_points"])
            assert (np.abs(sdf) <= gap + 1e-5).all()  # no surface sample is nearer than the surface
            inside = sdf < -0.02
            label = a["surface_labels"][nearest].argmax(axis=1) + 1
            np.testing.assert_array_equal(a[f"{part}_labels"][inside], label[inside])
            assert np.abs(a[f"{part}_points"]).max() <= 1
        assert (a["vol_sdf"][:200] <= 1e-6).all()
        assert (a["vol_sdf"][200:] > 0).any()
        assert 0.3 < (a["near_sdf"] > 0).mean() < 0.7
    assert len(counts) == 8
