"""Files made to exhaust, to mislead or to break out: each is refused for its reason, in little time and memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest

from demo.raw import write_modelnet, write_nepa_cache, write_scanobjectnn, write_shapenet
from shapestore.errors import Reason
from tests.faults.hostile.child import UNLISTED, VALID, Child, Outcome, compute
from tests.faults.hostile.corpus import Folder

MEMORY = 200.0
"""MiB by which the process may grow."""

SECONDS = 10.0
"""Of the processor."""

POINTS = {"points.count": 64, "points.fps_order": 16}
SCANS = POINTS | {"queries.count": 64, "queries.fps_order": 16}

Read = Callable[..., Outcome]


@pytest.fixture
def read(child: Child, tmp_path: Path) -> Read:
    """Compute a file below `tmp_path/raw` within the bounds."""

    def run(
        source: str, target: str, memory: float = MEMORY, seconds: float = SECONDS, recipe: str = "", **settings: Any
    ) -> Outcome:
        options = {key.replace("__", "."): value for key, value in settings.items()}
        outcome = child.run(compute, Folder(source, tmp_path / "raw", target, options, recipe))
        assert outcome.grown < memory, outcome
        assert outcome.seconds < seconds, outcome
        return outcome

    return run


@pytest.fixture
def mesh(read: Read, tmp_path: Path) -> Callable[..., Outcome]:
    """Compute one mesh file of some content."""

    def run(name: str, content: bytes, **bounds: float) -> Outcome:
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return read("meshes", name, **bounds, points__count=64, points__fps_order=16)

    return run


PIECE = 1 << 24


def packed(head: bytes, pieces: int) -> bytes:
    """A gzip file of a head and many pieces of zeros; it costs little to make, as deflate blocks can be repeated."""
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(bytes(PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(head)
    for _ in range(pieces):
        checksum = zlib.crc32(bytes(PIECE), checksum)
    size = (len(head) + pieces * PIECE) % 2**32
    first = b"\x1f\x8b\x08" + bytes(7)
    return first + start + piece * pieces + packer.flush() + struct.pack("<2I", checksum, size)


def nifti(shape: tuple[int, ...], dtype: str = "uint8", **fields: Any) -> bytes:
    """The header of a single NIfTI file, up to its first voxel."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_sform(np.diag([1.0, 1.0, 1.0, 1.0]), 1)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock) + bytes(4)


def hearts(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "raw").mkdir(exist_ok=True)
    (tmp_path / "raw" / name).write_bytes(content)


def cache(tmp_path: Path) -> Path:
    """The first file of a small cache, whose others say what the store holds."""
    sizes: dict[str, Any] = {"points": 64, "pool": 60, "grid": 4, "views": 2, "rays_per_view": 8}
    root = write_nepa_cache(tmp_path / "raw", train=3, **sizes)
    return min(root.rglob("*.npz"))


TRAINING = "h5_files/main_split/training_objectdataset.h5"


def npz_with(path: Path, name: str, content: bytes) -> None:
    """Put a member into an npz file, in the place of one of that name."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in (members | {name: content}).items():
            archive.writestr(zipfile.ZipInfo(member), data, zipfile.ZIP_DEFLATED)


def npy(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """The header of an npy array."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    return head.getvalue()


# ------------------------------------------------------------------------------------------ decompression bombs


def test_a_label_map_that_goes_on_for_a_gigabyte(read: Read, tmp_path: Path) -> None:
    hearts(tmp_path, "a.nii.gz", packed(nifti((8, 8, 8)), 64))
    assert read("cardiac", "a.nii.gz").results == (Reason.MALFORMED,)


def test_a_label_map_of_256_megabytes_of_nothing(read: Read, tmp_path: Path) -> None:
    hearts(tmp_path, "a.nii.gz", packed(nifti((1024, 1024, 256)), 16))
    assert read("cardiac", "a.nii.gz", memory=300).results == (Reason.EMPTY_LABELS,)


def test_a_label_map_of_more_voxels_than_are_read(read: Read, tmp_path: Path) -> None:
    hearts(tmp_path, "a.nii.gz", gzip.compress(nifti((2048, 1024, 1024), "float32")) + bytes(9 << 20))
    assert read("cardiac", "a.nii.gz").results == (Reason.UNSUPPORTED,)


def test_a_member_of_a_cache_that_nobody_asked_for_is_not_unpacked(read: Read, tmp_path: Path) -> None:
    path = cache(tmp_path)
    npz_with(path, "more.npy", npy((1 << 24, 3)) + bytes(3 << 26))
    assert read("npz", path.relative_to(tmp_path / "raw").as_posix(), memory=20).results == (VALID,)


@pytest.mark.slow
def test_an_array_of_more_than_a_cache_may_hold(read: Read, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    packing = zipfile.ZipFile(tmp_path / "raw/a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packing as archive, archive.open("pc_xyz.npy", "w") as member:
        member.write(npy((1 << 27, 3)))
        for _ in range(3 << 29 >> 24):
            member.write(bytes(PIECE))
    outcome = read("npz", "a.npz", memory=20)
    assert outcome.results == (UNLISTED,)
    assert "1024 are read" in outcome.detail


def test_a_member_of_a_cache_of_another_size_is_not_unpacked(read: Read, tmp_path: Path) -> None:
    path = cache(tmp_path)
    npz_with(path, "pc_xyz.npy", npy((1 << 24, 3)) + bytes(3 << 26))
    outcome = read("npz", path.relative_to(tmp_path / "raw").as_posix(), memory=20)
    assert outcome.results == (Reason.MALFORMED,)
    assert "(16777216, 3)" in outcome.detail


def test_a_chunk_of_scans_that_unpacks_to_gigabytes(read: Read, tmp_path: Path) -> None:
    home = write_scanobjectnn(tmp_path / "raw", objects=2, points=80)
    path = home / "main_split/training_objectdataset.h5"
    with h5py.File(path, "a") as file:
        del file["data"]
        rows = file["label"].shape[0]
        shape = (rows, (150 << 20) // 12, 3)  # one chunk of 300 MiB, in 1.5 MB
        data = file.create_dataset("data", shape, "f4", chunks=shape, compression="gzip")
        data.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(data.nbytes), 1))
        del file["mask"]
    assert read("scanobjectnn", TRAINING, **plain(SCANS)).results == (Reason.UNSUPPORTED,)


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as keywords."""
    return {key.replace(".", "__"): value for key, value in settings.items()}


# ------------------------------------------------------------------------------- headers that declare everything


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.off", b"OFF\n1000000000000 1000000000000 0\n0 0 0\n"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1000000000000\nproperty float x\nend_header\n0 0 0\n"),
        ("b.ply", b"ply\nformat binary_big_endian 1.0\nelement face 1000000000000\nproperty int a\nend_header"),
        ("a.stl", bytes(80) + b"\xff\xff\xff\xff" + bytes(100)),
        ("a.glb", b"glTF" + struct.pack("<4I", 2, 2**32 - 1, 2**32 - 1, 0x4E4F534A) + bytes(100)),
    ],
)  # fmt: skip
def test_meshes_that_declare_a_trillion_faces(mesh: Callable[..., Outcome], name: str, content: bytes) -> None:
    assert mesh(name, content, memory=20).results == (Reason.TRUNCATED,)


def test_a_count_of_five_thousand_digits(mesh: Callable[..., Outcome]) -> None:
    head = b"ply\nformat ascii 1.0\nelement vertex " + b"9" * 5000 + b"\nproperty float x\nend_header\n"
    assert mesh("a.ply", head).results == (Reason.MALFORMED,)
    assert mesh("a.off", b"OFF\n" + b"9" * 5000 + b" 1 0\n").results == (Reason.TRUNCATED,)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_label_maps_that_declare_a_trillion_voxels(read: Read, tmp_path: Path, name: str) -> None:
    content = nifti((30_000, 30_000, 30_000)) + bytes(1000)
    hearts(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    assert read("cardiac", name, memory=20).results == (Reason.TRUNCATED,)


def test_an_array_of_a_trillion_numbers(read: Read, tmp_path: Path) -> None:
    path = cache(tmp_path)
    npz_with(path, "pc_xyz.npy", npy((10**12, 3)) + bytes(100))
    assert read("npz", path.relative_to(tmp_path / "raw").as_posix(), memory=20).results == (Reason.TRUNCATED,)


@pytest.mark.parametrize("chunks", [None, (1, 80, 3)])
def test_a_trillion_scans(read: Read, tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    path = write_scanobjectnn(tmp_path / "raw", objects=2, points=80) / "main_split/training_objectdataset.h5"
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_dataset("data", (10**12, 80, 3), "f4", chunks=chunks, maxshape=(None, 80, 3) if chunks else None)
    assert read("scanobjectnn", TRAINING, **plain(SCANS)).results == (Reason.TRUNCATED,)


@pytest.mark.parametrize("shape", ["(-1, 3)", "(3, 99999999999999999999)", "(" * 500 + "1,)", "(1,) * 10**9"])
def test_shapes_that_are_none(read: Read, tmp_path: Path, shape: str) -> None:
    path = cache(tmp_path)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    npz_with(path, "pc_xyz.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100))
    (result,) = read("npz", path.relative_to(tmp_path / "raw").as_posix(), memory=20).results
    assert result in (Reason.MALFORMED, Reason.TRUNCATED)


# ------------------------------------------------------------------------------------------ names, links, pickles


@pytest.mark.parametrize("name", ["../x.npy", "/etc/x.npy", "a/../../x.npy", "a\nb.npy", "x" * 4096 + ".npy", "x.npz"])
def test_members_whose_names_lead_elsewhere(read: Read, tmp_path: Path, name: str) -> None:
    path = cache(tmp_path)
    npz_with(path, name, npy((1,)) + bytes(4))
    outcome = read("npz", path.relative_to(tmp_path / "raw").as_posix())
    assert outcome.results == (Reason.MALFORMED if name[0] != "x" or name == "x.npz" else VALID,)


def test_an_archive_in_itself(read: Read, tmp_path: Path) -> None:
    path = cache(tmp_path)
    npz_with(path, "pc_xyz.npy", path.read_bytes())
    assert read("npz", path.relative_to(tmp_path / "raw").as_posix()).results == (Reason.MALFORMED,)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret", "C:\\x", "chair_0001\x00", "a\x1bb"])
def test_lists_of_names_that_lead_elsewhere(read: Read, tmp_path: Path, name: str) -> None:
    home = write_modelnet(tmp_path, "txt", train=1, test=1, points=80)
    home.rename(tmp_path / "raw")
    with (tmp_path / "raw/modelnet40_train.txt").open("a") as file:
        file.write(f"{name}\n")
    outcome = read("modelnet40", "modelnet40_train.txt", recipe="points", **plain(POINTS))
    assert outcome.results == (UNLISTED,)
    assert "modelnet40_train.txt" in outcome.detail


def test_a_list_of_300_megabytes(read: Read, tmp_path: Path) -> None:
    write_modelnet(tmp_path, "txt", train=1, test=1, points=80).rename(tmp_path / "raw")
    os.truncate(tmp_path / "raw/modelnet40_train.txt", 300_000_000)
    outcome = read("modelnet40", "modelnet40_train.txt", memory=20, recipe="points", **plain(POINTS))
    assert outcome.results == (UNLISTED,)


def test_a_listed_name_of_four_kilobytes_is_a_file_that_is_not_there(read: Read, tmp_path: Path) -> None:
    home = write_modelnet(tmp_path, "txt", train=1, test=1, points=80)
    home.rename(tmp_path / "raw")
    (tmp_path / "raw/modelnet40_train.txt").write_text("a" * 4096 + "_0001\n")
    outcome = read("modelnet40", "a" * 4096, recipe="points", **plain(POINTS))
    assert set(outcome.results) <= {Reason.MISSING, VALID}
    assert Reason.MISSING in outcome.results


def test_names_of_files_with_line_ends_and_long_paths(mesh: Callable[..., Outcome]) -> None:
    triangle = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    assert mesh("a\nb.obj", triangle).results == (VALID,)
    assert mesh("/".join(["x" * 200] * 15) + "/a.obj", triangle).results == (VALID,)


@pytest.mark.parametrize("source", ["meshes", "npz", "cardiac", "scanobjectnn"])
def test_links_out_of_the_folder_are_not_read(read: Read, tmp_path: Path, source: str) -> None:
    names = {
        "meshes": "a.obj",
        "npz": "a.npz",
        "cardiac": "a.nii",
        "scanobjectnn": "main_split/training_objectdataset.h5",
    }
    secret = tmp_path / "secret"
    secret.write_bytes(b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    link = tmp_path / "raw" / names[source]
    link.parent.mkdir(parents=True)
    link.symlink_to(secret)
    outcome = read(source, names[source])
    assert outcome.results == (UNLISTED,)
    assert "link out of the folder" in outcome.detail


def test_a_split_behind_a_link_out_of_the_folder_is_not_read(read: Read, tmp_path: Path) -> None:
    home = write_shapenet(tmp_path, models_per_class=1)
    home.rename(tmp_path / "raw")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text("not a split\n")
    (tmp_path / "raw/all.csv").symlink_to(tmp_path / "elsewhere/secret")
    assert set(read("shapenet", "0", recipe="points", **plain(POINTS)).results) == {VALID}


@pytest.mark.parametrize("name", ["all.csv", "modelnet40_train.txt"])
def test_a_list_that_never_ends_is_not_waited_for(read: Read, tmp_path: Path, name: str) -> None:
    if name == "all.csv":
        write_shapenet(tmp_path, models_per_class=1).rename(tmp_path / "raw")
    else:
        write_modelnet(tmp_path, "txt", train=1, test=1, points=80).rename(tmp_path / "raw")
        (tmp_path / "raw" / name).unlink()
    os.mkfifo(tmp_path / "raw" / name)
    source = "shapenet" if name == "all.csv" else "modelnet40"
    assert read(source, name, recipe="points", **plain(POINTS)).results == (UNLISTED,)


class Trap:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickles_are_never_loaded(read: Read, tmp_path: Path) -> None:
    path = cache(tmp_path)
    trapped = io.BytesIO()
    np.save(trapped, np.array([Trap(tmp_path / "sprung")], object), allow_pickle=True)
    npz_with(path, "pc_xyz.npy", trapped.getvalue())
    outcome = read("npz", path.relative_to(tmp_path / "raw").as_posix())
    assert outcome.results == (Reason.UNSUPPORTED,)
    assert "never loaded" in outcome.detail
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("layout", ["scanobjectnn", "modelnet40"])
@pytest.mark.parametrize("damage", ["external link", "soft link", "virtual", "external storage", "filter"])
def test_h5_files_that_lead_elsewhere(read: Read, tmp_path: Path, layout: str, damage: str) -> None:
    if layout == "scanobjectnn":
        path = write_scanobjectnn(tmp_path / "raw", objects=2, points=80) / "main_split/training_objectdataset.h5"
    else:
        write_modelnet(tmp_path, "h5", train=1, test=1, points=80).rename(tmp_path / "raw")
        path = tmp_path / "raw/ply_data_train0.h5"
    with h5py.File(path, "a") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        data = file["data"][()]
        other["data"] = data
        del file["data"]
        if damage == "external link":
            file["data"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "data")
        elif damage == "soft link":
            file["held"] = data
            file["data"] = h5py.SoftLink("/held")
        elif damage == "virtual":
            wanted = h5py.VirtualLayout(data.shape, data.dtype)
            wanted[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", data.shape)
            file.create_virtual_dataset("data", wanted)
        elif damage == "external storage":
            (tmp_path / "bytes").write_bytes(data.tobytes())
            there = [(str(tmp_path / "bytes"), 0, data.nbytes)]
            file.create_dataset("data", data.shape, data.dtype, external=there)
        else:
            file.create_dataset("data", data=np.zeros_like(data), chunks=data.shape, scaleoffset=3)
    target = path.relative_to(tmp_path / "raw").as_posix()
    recipe = "" if layout == "scanobjectnn" else "points"
    outcome = read(layout, target, recipe=recipe, **plain(SCANS if layout == "scanobjectnn" else POINTS))
    assert outcome.results == (Reason.UNSUPPORTED if damage == "filter" else Reason.MALFORMED,)


# --------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    "fields",
    [
        {"srow_x": [np.nan, 0, 0, 0]},
        {"srow_y": [0, np.inf, 0, 0]},
        {"srow_z": [0, 0, 0, 0]},
        {"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]},
        {"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]},
        {"pixdim": [1, 1e-30, 1e30, 1, 0, 0, 0, 0], "sform_code": 0},
        {"vox_offset": np.nan},
    ],
)
def test_label_maps_that_lie_nowhere(read: Read, tmp_path: Path, fields: dict[str, Any]) -> None:
    voxels = np.zeros((8, 8, 8), np.uint8)
    voxels[2:6, 2:6, 2:6] = 1
    hearts(tmp_path, "a.nii", nifti(voxels.shape, **fields) + voxels.tobytes())
    (result,) = read("cardiac", "a.nii").results
    assert result in (Reason.MALFORMED, Reason.BAD_AFFINE)


@pytest.mark.parametrize(("stretch", "results"), [(900, {VALID}), (1e6, {Reason.BAD_AFFINE})])
def test_voxels_many_times_longer_than_wide(read: Read, tmp_path: Path, stretch: float, results: set[str]) -> None:
    """A blur is as wide along every axis: of a narrow voxel it takes many."""
    voxels = np.zeros((8, 8, 8), np.uint8)
    voxels[2:6, 2:6, 2:6] = 1
    affine = {"srow_x": [stretch, 0, 0, 0], "pixdim": [1, stretch, 1, 1, 0, 0, 0, 0]}
    hearts(tmp_path, "a.nii", nifti(voxels.shape, **affine) + voxels.tobytes())
    small = {"surface__count": 100, "volume__count": 100, "near__count": 100, "surface__per_class_minimum": 5}
    assert set(read("cardiac", "a.nii", volume__per_class_minimum=5, **small).results) == results


SQUARE = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", Reason.NOT_FINITE),
        (b"v 1e999 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", Reason.NOT_FINITE),
        (b"v 1e300 0 0\nv 1 0 0\nv 0 1e300 0\nf 1 2 3\n", Reason.NOT_FINITE),
        (b"v 0 0 0\nf 1 1 1\n", Reason.ZERO_AREA),
        (b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", Reason.ZERO_AREA),
        (b"v 0 0 0\n" * 100 + b"f 1 50 100\n" * 100, Reason.ZERO_AREA),
        (b"v 0 0 0\n", Reason.NO_FACES),
        (SQUARE + b"f 1 2 99999999999999999999\n", Reason.INDEX_RANGE),
        (SQUARE + b"f -1 -2 -5\n", Reason.INDEX_RANGE),
        (SQUARE + b"f 1 2\n", Reason.MALFORMED),
    ],
)
def test_surfaces_that_are_none(mesh: Callable[..., Outcome], content: bytes, reason: Reason) -> None:
    assert mesh("a.obj", content).results == (reason,)


def test_a_face_of_ten_million_corners(mesh: Callable[..., Outcome]) -> None:
    content = SQUARE + b"f" + b" 1 2 3 4" * 2_500_000 + b"\n"
    assert mesh("a.obj", content, memory=400).results == (Reason.UNSUPPORTED,)


def test_polygons_that_take_long_to_cut(mesh: Callable[..., Outcome]) -> None:
    """A comb blocks every ear but the last ones: the time to cut one grows with the cube of its corners."""
    assert mesh("a.obj", comb(1000)).results == (VALID,)
    assert mesh("a.obj", comb(5000)).results == (Reason.UNSUPPORTED,)


def comb(corners: int) -> bytes:
    teeth = np.arange(corners // 2)
    low = np.stack([teeth, np.where(teeth % 2, 1000.0, 0.0)], axis=1)
    outline = np.concatenate([low, low[::-1] + np.array([0, 1])])
    vertices = "".join(f"v {x:.1f} {y:.1f} 0\n" for x, y in outline.tolist())
    return f"{vertices}f {' '.join(map(str, range(1, len(outline) + 1)))}\n".encode()


@pytest.mark.slow
def test_ten_million_faces(tmp_path: Path) -> None:
    side = 2237
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    points = np.stack([x, y, np.sin(9 * x) * np.sin(7 * y) / 4], axis=-1).reshape(-1, 3)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    lower = np.stack([corner, corner + 1, corner + side], axis=1)
    upper = np.stack([corner + side, corner + 1, corner + side + 1], axis=1)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.ply").write_bytes(binary_ply(points, np.concatenate([lower, upper])))
    child = Child(memory=8192, seconds=300, sources=frozenset({"meshes"}))
    try:
        outcome = child.run(compute, Folder("meshes", tmp_path / "raw", "a.ply", POINTS))
    finally:
        child.close()
    assert outcome.results == (VALID,)
    assert outcome.grown < 4096
    assert outcome.seconds < 120


def binary_ply(points: np.ndarray, faces: np.ndarray) -> bytes:
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz")
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = np.zeros(len(faces), [("size", "u1"), ("corners", "<i4", 3)])
    rows["size"], rows["corners"] = 3, faces
    return head.encode() + points.astype("<f8").tobytes() + rows.tobytes()


def test_a_cluster_that_is_one_point_beside_the_extent(mesh: Callable[..., Outcome]) -> None:
    side = 200
    near = np.indices((side, side)).reshape(2, -1).T * 1e-12
    corner = np.arange(side * (side - 1) - 1)
    faces = np.stack([corner, corner + 1, corner + side], axis=1)
    points = np.concatenate([np.pad(near, ((0, 0), (0, 1))), [[1, 0, 0], [0, 1, 0]]])
    faces = np.concatenate([faces, [[0, len(points) - 2, len(points) - 1]]])
    outcome = mesh("a.ply", binary_ply(points, faces))
    assert outcome.results == (Reason.ZERO_AREA,)
    assert "far away" in outcome.detail


def scene(**changes: Any) -> bytes:
    """A GLB file of one triangle, with some of its JSON changed."""
    binary = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": len(binary)}],
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(tree | changes).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<2I", len(text), 0x4E4F534A) + text + struct.pack("<2I", len(binary), 0x004E4942) + binary
    return b"glTF" + struct.pack("<2I", 2, 12 + len(body)) + body


def doubling(levels: int) -> list[dict[str, Any]]:
    """Nodes of which each has the next one twice: 2^levels triangles."""
    return [*({"children": [level + 1, level + 1]} for level in range(levels)), {"mesh": 0}]


def chain(levels: int) -> list[dict[str, Any]]:
    return [*({"children": [level + 1]} for level in range(levels)), {"mesh": 0}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, VALID),
        ({"nodes": chain(200)}, VALID),
        ({"nodes": doubling(40)}, Reason.MALFORMED),
        ({"nodes": [{"children": [1]}, {"children": [2]}, {"children": [1], "mesh": 0}]}, Reason.MALFORMED),
        ({"nodes": chain(100_000)}, Reason.UNSUPPORTED),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}}] * 100_000}],
          "nodes": [{"mesh": 0} for _ in range(1000)]}, Reason.UNSUPPORTED),
        ({"nodes": [7]}, Reason.MALFORMED),
        ({"buffers": [{"byteLength": float("inf")}]}, Reason.MALFORMED),
    ],
)  # fmt: skip
def test_scenes_that_are_larger_than_their_files(
    mesh: Callable[..., Outcome], changes: dict[str, Any], reason: str
) -> None:
    assert mesh("a.glb", scene(**changes)).results == (reason,)
