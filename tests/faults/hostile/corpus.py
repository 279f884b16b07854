"""What is mutated: small raw folders of every source, in each of which one file is the target."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
import trimesh

from demo.raw import (
    write_hearts,
    write_modelnet,
    write_nepa_cache,
    write_scanobjectnn,
    write_shapenet,
    write_structure_folders,
    write_vecsetx_cache,
)
from shapestore.preprocess.formats.mesh_file import MESH_SUFFIXES

SHARED: Final = Path(__file__).resolve().parents[4] / "shared" / "data"

LARGEST: Final = 100_000
"""Bytes of a real file that is taken."""

_SURFACE: Final = {
    "points.count": 64,
    "points.fps_order": 16,
    "queries.count": 64,
    "queries.fps_order": 16,
    "queries.reference_points": 64,
    "grid.size": 8,
    "rays.count": 32,
    "rays.views": 2,
    "rays.rays_per_view": 16,
}
_SIGNED: Final = {"queries.signed": "true", "grid.signed": "true", "grid.solid": "true", "points.blue_noise": "true"}
_SAMPLES: Final = {
    "surface.count": 100,
    "surface.per_class_minimum": 5,
    "volume.count": 100,
    "volume.per_class_minimum": 5,
    "near.count": 100,
    "labels.grid": 8,
}


@dataclass(frozen=True)
class Folder:
    """A raw folder, and the file in it that counts."""

    source: str
    raw: Path
    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    """Built-in recipe; empty for that of the source."""


@dataclass(frozen=True)
class Case:
    """The content of a raw folder, and the file in it to damage."""

    source: str
    target: str
    form: str
    """How the target is damaged: a key of `mutate.FORMS`."""
    files: Mapping[str, bytes]
    """Relative path to content."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""

    def folder(self, raw: Path) -> Folder:
        """The folder that is to be written to `raw`."""
        return Folder(self.source, raw, self.target, self.settings, self.recipe)


@cache
def cases() -> tuple[Case, ...]:
    """All cases, in an order that is always the same."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        parts = (_meshes(), _shapenet(root), _modelnet(root), _scans(root), _hearts(root), _caches(root))
        return tuple(case for part in parts for case in part)


def mesh_files() -> dict[str, bytes]:
    """Mesh files by a name with their suffix: real small ones where there are any, and one of every form."""
    files = {f"{path.parent.name}-{path.name}": path.read_bytes() for path in _real(("mesh", "mesh_malformed"))}
    ball = trimesh.creation.icosphere(subdivisions=1)
    scene = trimesh.Scene({"ball": ball, "box": trimesh.creation.box()})
    scene.add_geometry(ball, node_name="again", geom_name="ball", transform=np.diag([-1.0, 2.0, 1.0, 1.0]))
    files |= {f"ball.{kind}": _bytes(ball.export(file_type=kind)) for kind in ("obj", "off", "stl", "glb", "ply")}
    files["text.stl"] = _bytes(ball.export(file_type="stl_ascii"))
    files["text.ply"] = _bytes(ball.export(file_type="ply", encoding="ascii"))
    files["scene.glb"] = _bytes(scene.export(file_type="glb"))
    files["polygons.off"] = b"OFF\n5 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n.5 .5 1\n4 3 2 1 0\n3 0 1 4 255 0 0\n"
    files["polygons.obj"] = (
        b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv .2 .2 0\nv 0 1 0\nv 0 0 1\nf -6 -5 -4 -3 -2\nf 1/1/1 2//1 \\\n6\n"
    )
    return files


def _meshes() -> Iterator[Case]:
    signed = _SURFACE | _SIGNED
    for name, content in sorted(mesh_files().items()):
        yield Case("meshes", name, _form(name), {name: content}, signed, "nepa-shapenet")


def _shapenet(root: Path) -> Iterator[Case]:
    tree = _tree(write_shapenet(root / "shapenet", models_per_class=1, official_split=True))
    models = [path for path in tree if path.endswith(".obj")]
    for model in models[:3]:
        yield Case("shapenet", model, "text", {path: tree[path] for path in (models[0], model, "all.csv")}, _SURFACE)
    for name, content in sorted(mesh_files().items()):
        if name.endswith(".obj"):
            yield Case("shapenet", models[0], "text", {models[0]: content}, _SURFACE)
    for _ in range(6):
        yield Case("shapenet", "all.csv", "text", {models[0]: tree[models[0]], "all.csv": tree["all.csv"]}, _SURFACE)


def _modelnet(root: Path) -> Iterator[Case]:
    meshes = _tree(write_modelnet(root / "off", "off", train=2, test=1))
    for path in sorted(meshes)[:4]:
        yield Case("modelnet40", path, "text", {path: meshes[path]}, _SURFACE)
    for name, content in sorted(mesh_files().items()):
        if name.endswith(".off"):
            path = f"chair/train/{name}"
            yield Case("modelnet40", path, "text", {path: content}, _SURFACE)
    clouds = {"points.count": 64, "points.fps_order": 16}
    texts = _tree(write_modelnet(root / "txt", "txt", train=1, test=1, points=80))
    lists = [path for path in texts if "/" not in path]
    for path in [*lists, *sorted(texts.keys() - set(lists))[:4]]:
        yield Case("modelnet40", path, "text", texts, clouds, "points")
    rows = _tree(write_modelnet(root / "h5", "h5", train=1, test=1, points=80))
    for path in sorted(rows):
        for _ in range(4 if path.endswith(".h5") else 1):
            yield Case("modelnet40", path, "h5" if path.endswith(".h5") else "text", rows, clouds, "points")


def _scans(root: Path) -> Iterator[Case]:
    small = {"points.count": 64, "points.fps_order": 16, "queries.count": 64, "queries.fps_order": 16}
    for variant in ("OBJ-BG", "PB-T25"):
        tree = _tree(write_scanobjectnn(root / variant, variant, objects=2, points=80))
        for path in sorted(tree):
            yield Case("scanobjectnn", path, "h5", tree, small)


def _hearts(root: Path) -> Iterator[Case]:
    hearts = _tree(write_hearts(root / "hearts", cases=3, size=20))
    for path, content in hearts.items():
        yield Case("cardiac", path, "nifti-gz", {path: content}, _SAMPLES)
        yield Case("cardiac", "case.nii", "nifti", {"case.nii": gzip.decompress(content)}, _SAMPLES)
    pair = _pair(gzip.decompress(next(iter(hearts.values()))))
    yield Case("cardiac", "case.hdr", "nifti", pair, _SAMPLES)
    yield Case("cardiac", "case.img", "nifti", pair, _SAMPLES)
    single = _SAMPLES | {"labels.scheme": "single"}
    for path in _real(("nifti", "cardiac")):
        if path.name.endswith((".nii", ".nii.gz")):
            form = "nifti-gz" if path.suffix == ".gz" else "nifti"
            yield Case("cardiac", path.name, form, {path.name: path.read_bytes()}, single)
    folder = _tree(write_structure_folders(root / "folders", cases=1, size=16))
    classes = {"labels.scheme": "mapping", "labels.layout": "folder", "labels.undeclared": "background"}
    classes |= {"labels.classes": "{aorta: aorta, heart: heart, artery: pulmonary_artery}"}
    for path in sorted(folder):
        if path.endswith(("aorta.nii.gz", "heart.nii.gz", "artery.nii.gz")):
            yield Case("cardiac", path, "nifti-gz", folder, _SAMPLES | classes)


def _caches(root: Path) -> Iterator[Case]:
    small: dict[str, Any] = {"points": 64, "pool": 60, "grid": 4, "views": 2, "rays_per_view": 8}
    mesh = _tree(write_nepa_cache(root / "mesh", train=1, test=1, **small))
    scan = _tree(write_nepa_cache(root / "scan", "scan", train=1, test=1, **small))
    vecsetx = _tree(write_vecsetx_cache(root / "vecsetx", cases=3, surface=60, volume=50))
    for tree in (mesh, scan, vecsetx):
        path = min(path for path in tree if path.endswith(".npz"))
        yield Case("npz", path, "npz", tree)
        yield Case("npz", path, "npz", {path: tree[path]})  # alone, it also says what the store is to hold


def _form(name: str) -> str:
    suffix = name.rpartition(".")[2].lower()
    return suffix if suffix in ("ply", "stl", "glb") else "text"


def _real(folders: Iterable[str]) -> list[Path]:
    """Small files of `shared/data` that some reader takes; none where that folder is absent."""
    paths = sorted(path for folder in folders for path in (SHARED / folder).rglob("*") if path.is_file())
    suffixes = (*MESH_SUFFIXES, ".nii", ".nii.gz")
    return [path for path in paths if path.name.lower().endswith(suffixes) and path.stat().st_size <= LARGEST]


def _pair(single: bytes) -> dict[str, bytes]:
    """A NIfTI file as header and image."""
    image = nibabel.Nifti1Image.from_bytes(single)
    header, voxels = io.BytesIO(), io.BytesIO()
    files = {"header": nibabel.FileHolder(fileobj=header), "image": nibabel.FileHolder(fileobj=voxels)}
    pair = nibabel.Nifti1Pair(np.asarray(image.dataobj), image.affine)
    pair.to_file_map(files)
    return {"case.hdr": header.getvalue(), "case.img": voxels.getvalue()}


def _tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _bytes(exported: str | bytes) -> bytes:
    return exported.encode() if isinstance(exported, str) else exported
