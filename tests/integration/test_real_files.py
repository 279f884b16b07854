"""Real meshes, broken files, label maps: each becomes a right row, or is quarantined for a reason people understand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shapestore import Store, api
from shapestore.errors import Reason

VALID = "valid"

MESHES_WITHOUT_FACES = {
    "trimesh/off.zip": Reason.UNSUPPORTED,
    "trimesh/points_ascii.ply": Reason.NO_FACES,
    "trimesh/points_cloudcompare.xyz": Reason.UNSUPPORTED,
    "trimesh/points_emptyface.ply": Reason.NO_FACES,
}

MALFORMED = {
    "PyMesh/empty.off": Reason.NO_FACES,
    "assimp/OutOfMemory.off": Reason.TRUNCATED,
    "assimp/assimp_empty.off": Reason.EMPTY,
    "assimp/invalid.off": Reason.MALFORMED,
    "assimp/malformed.obj": Reason.INDEX_RANGE,
    "meshio/bun_zipper_res4.ply": Reason.LFS_POINTER,
    "pytorch3d/missing_files_obj/model.obj": Reason.ZERO_AREA,  # its material is missing, its vertices are collinear
    "pytorch3d/missing_files_obj/model2.obj": Reason.ZERO_AREA,
    "tinyobjloader/invalid-face-definition.obj": Reason.MALFORMED,
    "tinyobjloader/issue-140-zero-face-idx.obj": Reason.INDEX_RANGE,
    "tinyobjloader/test-nan.obj": Reason.NOT_FINITE,
    "trimesh/empty.obj": Reason.NO_FACES,
    "trimesh/empty.ply": Reason.NO_FACES,
    "trimesh/empty.stl": Reason.NO_FACES,
    "trimesh/nancolor.obj": VALID,  # NaN colours say nothing of the geometry
    "trimesh/notenoughindices.obj": Reason.MALFORMED,
    "trimesh/obj_points.obj": Reason.NO_FACES,
    "trimesh/obj_with_no_face_in_chunk.obj": VALID,
    "trimesh/ply_empty_bin.ply": Reason.NO_FACES,
    "trimesh/stl_empty_ascii.stl": Reason.NO_FACES,
}

NIFTI = {
    "Automatic-Stenosis-Detection-in-Coronary-CT-Angiography/lfs_pointer_1.label": Reason.LFS_POINTER,
    "MONAI/anatomical_label": VALID,  # q-form only
    "NIFTI-Reader-JS/big": Reason.NOT_LABELS,  # big-endian, but a statistical map
    "NIFTI-Reader-JS/little": Reason.NOT_LABELS,  # 4-D with one volume, but a statistical map
    "NIFTI-Reader-JS/not-nifti": Reason.MALFORMED,
    "bids-validator/AIR": Reason.EMPTY_LABELS,  # one voxel of 0
    "bids-validator/truncated_header_only_T1w": Reason.TRUNCATED,
    "nibabel/anatomical": Reason.NOT_LABELS,  # negative values
    "nibabel/example4d": Reason.NOT_LABELS,  # two volumes
    "nibabel/functional": Reason.NOT_LABELS,  # twenty volumes with slope and intercept
    "nibabel/standard": VALID,  # 255 is foreground, spacing 1 x 3 x 2
    "nifti-rs/27_float64": VALID,  # integer-valued floats
    "nifti-rs/27_uint64": VALID,
    "nifti-rs/fuzz_artifacts_crash-1": Reason.MALFORMED,
    "nifti-rs/minimal": VALID,  # big-endian, q-form and s-form 0
    "nifti-rs/minimal.img": VALID,  # the same as a pair
    "nifti-rs/rgb_3D": Reason.UNSUPPORTED,
}

FEW_SAMPLES = tuple(
    f"{part}={value}"
    for part, value in {
        "surface.count": 1000,
        "surface.per_class_minimum": 50,
        "volume.count": 1000,
        "volume.per_class_minimum": 50,
        "near.count": 1000,
    }.items()
)


def outcomes(store: Store) -> dict[str, str]:
    """Shape id to `valid`, or to the reason of its quarantine."""
    found = dict.fromkeys(store.index("shape_id").tolist(), VALID)
    found.update({str(item["shape_id"]): str(item["reason"]) for item in store.quarantine()})
    return found


def ingest(kind: str, raw: Path, store: Path, **options: object) -> Store:
    api.ingest(kind, raw, store, workers=0, **options)  # type: ignore[arg-type]
    assert api.validate(store, "full", workers=0).passed
    return api.open(store)


def test_every_readable_mesh_becomes_a_valid_row(shared_data: Path, tmp_path: Path) -> None:
    store = ingest("meshes", shared_data / "mesh", tmp_path / "mesh.zarr", recipe="points")
    found = outcomes(store)
    suffixes = {".obj", ".off", ".ply", ".stl", ".glb"}
    meshes = {p.relative_to(shared_data / "mesh").as_posix() for p in (shared_data / "mesh").rglob("*")}
    meshes = {name for name in meshes if Path(name).suffix.lower() in suffixes}
    assert found == dict.fromkeys(meshes, VALID) | MESHES_WITHOUT_FACES


def test_malformed_meshes_are_right_or_quarantined(shared_data: Path, tmp_path: Path) -> None:
    store = ingest("meshes", shared_data / "mesh_malformed", tmp_path / "malformed.zarr", recipe="points")
    assert outcomes(store) == MALFORMED
    for item in store.quarantine():
        assert item["message"], item
        assert not item["traceback"], f"a reason, not a crash: {item}"
        assert str(shared_data) not in str(item["message"])


def test_nifti_oddities_are_right_or_refused_by_name(shared_data: Path, tmp_path: Path) -> None:
    settings = ("labels.scheme=single", *FEW_SAMPLES)
    store = ingest("cardiac", shared_data / "nifti", tmp_path / "nifti.zarr", settings=settings)
    assert outcomes(store) == NIFTI
    assert not any(item["traceback"] for item in store.quarantine())
    pair, single = (store.row("vol_sdf", store.row_of(name)) for name in ("nifti-rs/minimal", "nifti-rs/minimal.img"))
    assert pair.shape == single.shape
    voxels = store.row("class_voxels", store.row_of("nibabel/standard"))
    assert 0 < voxels[0] < 4 * 5 * 7


def test_hearts_ingest_as_single_structure(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "cardiac" / "heart-segmentation-monai"
    store = ingest("cardiac", raw, tmp_path / "la.zarr", settings=("labels.scheme=single", *FEW_SAMPLES))
    assert outcomes(store) == {"la_003_0": VALID, "la_004_0": VALID}
    inside = store.read(store.rows(), ["vol_sdf"])["vol_sdf"] < 0
    np.testing.assert_allclose(inside.mean(axis=1), 0.5)


def test_hearts_ingest_as_folders_of_structures(shared_data: Path, tmp_path: Path) -> None:
    classes = "{heart: heart, pa: pulmonary_artery, aorta: aorta, laa: atrial_appendage_left}"
    settings = (
        "labels.scheme=mapping",
        "labels.layout=folder",
        f"labels.classes={classes}",
        "labels.undeclared=background",
        *FEW_SAMPLES,
    )
    store = ingest("cardiac", shared_data / "cardiac" / "TotalSegmentator", tmp_path / "ts.zarr", settings=settings)
    found = outcomes(store)
    assert found["example_seg_fast"] == found["totalsegmentator_case_a"] == VALID
    notes = store.index("provenance/notes")
    partial = notes[store.row_of("example_seg_fast")]
    assert "heart.nii.gz: the mask is empty" in partial
    assert "class absent: laa" in partial
    assert store.row("class_voxels", store.row_of("example_seg_fast")).tolist() == [0, 0, 1174, 0]
    gridded = notes[store.row_of("totalsegmentator_case_a")]
    assert "brought onto a common grid" in gridded


@pytest.mark.slow
def test_full_recipe_over_every_real_mesh(shared_data: Path, tmp_path: Path) -> None:
    api.ingest("meshes", shared_data / "mesh", tmp_path / "full.zarr", recipe="nepa-shapenet", workers=0)
    store = api.open(tmp_path / "full.zarr")
    assert {name for name, outcome in outcomes(store).items() if outcome != VALID} == set(MESHES_WITHOUT_FACES)
    assert api.validate(tmp_path / "full.zarr", "full", workers=0).passed
