"""Every real label map there is, against a table written by hand and against nibabel."""

from __future__ import annotations

import gzip
import resource
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.label_image import LabelImage
from shapestore.preprocess.formats.nifti import read_label_map

Facts = tuple[tuple[int, int, int], tuple[float, float, float], str, int, int]
"""Shape, spacing in mm, axes, and the smallest and largest label."""

CASE_A, FAST, HEART = (
    "TotalSegmentator/totalsegmentator_case_a",
    "TotalSegmentator/example_seg_fast",
    "heart-segmentation-monai",
)

CARDIAC: dict[str, Facts | Reason] = {
    f"{CASE_A}/heart.nii.gz": ((233, 167, 191), (1.5, 1.5, 1.5), "LPS", 0, 1),
    f"{CASE_A}/pul_annulus.nii.gz": ((122, 102, 112), (1.5, 1.5, 1.5), "LPS", 0, 1),
    f"{CASE_A}/pulmonary_artery.nii.gz": ((122, 102, 112), (1.5, 1.5, 1.5), "LPS", 0, 1),
    f"{FAST}_force_split.nii.gz": ((122, 101, 112), (3, 3, 3), "RAS", 0, 117),
    f"{FAST}/aorta.nii.gz": ((122, 101, 30), (3, 3, 3), "RAS", 0, 1),
    # Without any foreground; whether that is an error is the scheme's to say.
    f"{FAST}/atrial_appendage_left.nii.gz": ((122, 101, 30), (3, 3, 3), "RAS", 0, 0),
    f"{FAST}/heart.nii.gz": ((122, 101, 30), (3, 3, 3), "RAS", 0, 0),
    f"{HEART}/la_003_0.nii.gz": ((320, 320, 64), (1.25, 1.25, 2.653016), "LAS", 0, 1),
    f"{HEART}/la_004_0.nii.gz": ((320, 320, 64), (1.25, 1.25, 2.348572), "LAS", 0, 1),
}

NIFTI: dict[str, Facts | Reason] = {
    "Automatic-Stenosis-Detection-in-Coronary-CT-Angiography/lfs_pointer_1.label.nii.gz": Reason.LFS_POINTER,
    "MONAI/anatomical_label.nii.gz": ((33, 41, 25), (2, 2, 2), "LAS", 0, 1),
    "NIFTI-Reader-JS/big.nii.gz": Reason.NOT_LABELS,  # a statistical map
    "NIFTI-Reader-JS/little.nii.gz": Reason.NOT_LABELS,
    "NIFTI-Reader-JS/not-nifti.nii": Reason.MALFORMED,
    "bids-validator/AIR.nii.gz": ((1, 1, 1), (1, 1, 1), "AIR", 0, 0),
    "bids-validator/truncated_header_only_T1w.nii": Reason.TRUNCATED,
    # A scan of whole numbers: only the scheme can know that they are no labels.
    "nibabel/anatomical.nii": ((33, 41, 25), (2, 2, 2), "LAS", -610, 30393),
    "nibabel/example4d.nii.gz": Reason.NOT_LABELS,  # two volumes
    "nibabel/functional.nii": Reason.NOT_LABELS,  # twenty
    "nibabel/standard.nii.gz": ((4, 5, 7), (1, 3, 2), "RAS", 0, 255),
    "nifti-rs/27_float64.nii": ((3, 3, 3), (1, 1, 1), "RAS", 0, 26),
    "nifti-rs/27_uint64.nii": ((3, 3, 3), (1, 1, 1), "RAS", 0, 26),
    "nifti-rs/fuzz_artifacts_crash-1.nii": Reason.MALFORMED,
    "nifti-rs/minimal.hdr": ((64, 64, 10), (3, 3, 3), "LAS", 0, 63),
    "nifti-rs/minimal.img": ((64, 64, 10), (3, 3, 3), "LAS", 0, 63),
    "nifti-rs/minimal.nii": ((64, 64, 10), (3, 3, 3), "LAS", 0, 63),
    "nifti-rs/rgb_3D.nii": Reason.UNSUPPORTED,
}

NO_ORIENTATION = "no orientation: assumed axes left, front, up, and the world's origin at the centre"


def facts(image: LabelImage) -> Facts:
    x, y, z = image.voxels.shape
    a, b, c = np.linalg.norm(image.affine[:3, :3], axis=0).round(6).tolist()
    axes = "".join(nibabel.aff2axcodes(image.affine))
    return (x, y, z), (a, b, c), axes, int(image.voxels.min()), int(image.voxels.max())


def reason_of(path: Path) -> Reason:
    with pytest.raises(InputRefused) as refused:
        read_label_map(path)
    assert refused.value.detail
    return refused.value.reason


@pytest.mark.parametrize(("folder", "expected"), [("cardiac", CARDIAC), ("nifti", NIFTI)])
def test_every_file_is_read_or_refused_as_the_table_says(
    shared_data: Path, folder: str, expected: dict[str, Facts | Reason]
) -> None:
    root = shared_data / folder
    found: dict[str, Facts | Reason] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            image = read_label_map(path)
        except InputRefused as refused:
            found[str(path.relative_to(root))] = refused.reason
            continue
        found[str(path.relative_to(root))] = facts(image)
        judge = nibabel.load(path)
        np.testing.assert_array_equal(image.voxels, np.asanyarray(judge.dataobj).reshape(image.voxels.shape))
        np.testing.assert_array_equal(image.affine, judge.affine)
        lost = int(judge.header["sform_code"]) == int(judge.header["qform_code"]) == 0
        assert (NO_ORIENTATION in image.notes) == lost
    assert found == expected


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[nibabel.Nifti1Image, np.ndarray]:
    """A label map with any affine, number type, byte order, version, unit and scaling; and its true affine in mm."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3)) + draw(st.sampled_from([(), (1,), (1, 1)]))
    dtype = np.dtype(draw(st.sampled_from(["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "f4", "f8"])))
    low = 0 if dtype.kind == "u" else -100
    labels = rng.integers(low, 101, shape).astype(dtype)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.2, 4, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    version = draw(st.sampled_from([nibabel.Nifti1Header, nibabel.Nifti2Header]))
    header = version(endianness=draw(st.sampled_from("<>")))
    header.set_data_dtype(dtype)
    unit, factor = draw(st.sampled_from([("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)]))
    header.set_xyzt_units(unit)
    image = (nibabel.Nifti1Image if version is nibabel.Nifti1Header else nibabel.Nifti2Image)(labels, affine, header)
    image.header.set_slope_inter(*draw(st.sampled_from([(1, 0), (2, -3), (0.5, 10), (None, None)])))
    true_affine = image.header.get_best_affine()
    true_affine[:3] *= factor
    return image, true_affine


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_maps(), st.sampled_from([".nii", ".nii.gz"]))
def test_what_nibabel_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[nibabel.Nifti1Image, np.ndarray], suffix: str
) -> None:
    written, affine = case
    path = tmp_path_factory.getbasetemp() / f"written{suffix}"
    try:
        nibabel.save(written, path)
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        return
    true = np.asanyarray(nibabel.load(path).dataobj)
    if not np.array_equal(true, np.rint(true)):
        assert reason_of(path) is Reason.NOT_LABELS
        return
    image = read_label_map(path)
    assert image.voxels.dtype.kind == ("i" if true.min() < 0 else "u")
    np.testing.assert_array_equal(image.voxels, true.reshape(image.voxels.shape))
    np.testing.assert_allclose(image.affine, affine, rtol=1e-12)
    squeezed = [note for note in image.notes if note.endswith("with one volume: read as 3-D")]
    assert len(squeezed) == (true.ndim > 3)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_maps(), st.sampled_from([".nii", ".nii.gz"]), st.data())
def test_every_truncation_is_noticed(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[nibabel.Nifti1Image, np.ndarray],
    suffix: str,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"cut{suffix}"
    content = case[0].to_bytes() if suffix == ".nii" else gzip.compress(case[0].to_bytes(), mtime=0)
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert reason_of(path) in {Reason.TRUNCATED, Reason.EMPTY, Reason.MALFORMED}


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_maps(), st.sampled_from([".nii", ".nii.gz"]), st.data())
def test_damage_is_refused_or_read_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[nibabel.Nifti1Image, np.ndarray],
    suffix: str,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    content = bytearray(case[0].to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(359, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content if suffix == ".nii" else gzip.compress(content, mtime=0))
    try:
        image = read_label_map(path)
    except InputRefused as refused:
        event(str(refused.reason))
        return
    assert image.voxels.ndim == 3
    assert np.linalg.det(image.affine) != 0
    assert np.isfinite(image.affine).all()


def test_a_flipped_bit_of_a_gzip_stream_never_changes_a_voxel(shared_data: Path, tmp_path: Path) -> None:
    """In a run of zeros a flip may copy other zeros: that is the same map. All else breaks the checksum."""
    original = shared_data / "cardiac" / f"{FAST}/aorta.nii.gz"
    content = bytearray(original.read_bytes())
    true = read_label_map(original)
    path = tmp_path / "flipped.nii.gz"
    refusals = 0
    for place in range(10, len(content), 17):
        content[place] ^= 4
        path.write_bytes(content)
        try:
            image = read_label_map(path)
        except InputRefused:
            refusals += 1
        else:
            np.testing.assert_array_equal(image.voxels, true.voxels)
            np.testing.assert_array_equal(image.affine, true.affine)
        content[place] ^= 4
    assert refusals > 20


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_after_the_last_voxel(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "longer.nii"
    for rest in (3, 8 << 20):
        content = header_with() + bytes(rest)
        path.write_bytes(gzip.compress(content) if packed else content)
        if packed and rest > 3:
            assert reason_of(path) is Reason.MALFORMED
        else:
            assert read_label_map(path).notes[-1] == f"{rest} bytes after the last voxel ignored"


def header_with(**fields: object) -> bytes:
    """A NIfTI-1 file of 2x2x2 bytes with some fields changed."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((2, 2, 2))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4) + bytes(range(8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header_with(), None),
        (header_with(vox_offset=0), None),
        (header_with(pixdim=[0, 1, 1, 1, 0, 0, 0, 0], sform_code=0, qform_code=1), None),
        (header_with(dim=[4, 2, 2, 2, 1, 1, 1, 1]), None),
        (header_with(dim=[4, 2, 2, 1, 2, 1, 1, 1]), Reason.NOT_LABELS),
        (header_with(dim=[2, 2, 4, 1, 1, 1, 1, 1]), Reason.NOT_LABELS),
        (header_with(dim=[3, 2, 2, 0, 1, 1, 1, 1]), Reason.MALFORMED),
        (header_with(dim=[3, 2, 2, -2, 1, 1, 1, 1]), Reason.MALFORMED),
        (header_with(dim=[9, 2, 2, 2, 1, 1, 1, 1]), Reason.MALFORMED),
        (header_with(dim=[3, 2, 2, 3, 1, 1, 1, 1]), Reason.TRUNCATED),
        (header_with(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), Reason.TRUNCATED),
        (header_with(datatype=1, bitpix=1), Reason.UNSUPPORTED),
        (header_with(datatype=32, bitpix=64), Reason.UNSUPPORTED),
        (header_with(datatype=1536, bitpix=128), Reason.UNSUPPORTED),
        (header_with(datatype=3), Reason.MALFORMED),
        (header_with(vox_offset=100), Reason.MALFORMED),
        (header_with(vox_offset=np.nan), Reason.MALFORMED),
        (header_with(vox_offset=1e30), Reason.TRUNCATED),
        (header_with(pixdim=[1, 1, 0, 1, 0, 0, 0, 0]), Reason.MALFORMED),
        (header_with(pixdim=[1, 1, np.nan, 1, 0, 0, 0, 0]), Reason.MALFORMED),
        (header_with(srow_x=[np.nan, 0, 0, 0]), Reason.MALFORMED),
        (header_with(srow_x=[0, 1, 0, 0]), Reason.MALFORMED),
        (header_with(srow_x=[0, 0, 0, 0]), Reason.MALFORMED),
        (header_with(sform_code=0, qform_code=1, quatern_b=3), Reason.MALFORMED),
        (header_with(scl_slope=1, scl_inter=np.inf), Reason.MALFORMED),
        (header_with(scl_slope=0.3, scl_inter=0), Reason.NOT_LABELS),
        (header_with(xyzt_units=5), Reason.MALFORMED),
        (header_with(magic=b"ni1"), Reason.MALFORMED),
        (header_with(magic=b"", regular=b"r"), Reason.MALFORMED),
        (header_with()[:200], Reason.TRUNCATED),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_headers(tmp_path: Path, content: bytes, reason: Reason | None, packed: bool) -> None:
    path = tmp_path / "case.nii.gz"  # what the name says of packing does not matter
    path.write_bytes(gzip.compress(content) if packed else content)
    if reason is None:
        assert sorted(read_label_map(path).voxels.ravel()) == list(range(8))
    else:
        assert reason_of(path) is reason


def test_pairs_and_names(shared_data: Path, tmp_path: Path) -> None:
    header, voxels = ((shared_data / f"nifti/nifti-rs/minimal.{end}").read_bytes() for end in ("hdr", "img"))
    (tmp_path / "A.HDR").write_bytes(header)
    assert reason_of(tmp_path / "A.HDR") is Reason.MISSING
    (tmp_path / "A.IMG").write_bytes(voxels)
    assert read_label_map(tmp_path / "A.IMG").voxels.shape == (64, 64, 10)
    (tmp_path / "A.IMG").write_bytes(voxels[:-1])
    assert reason_of(tmp_path / "A.HDR") is Reason.TRUNCATED
    (tmp_path / "b.hdr").write_bytes(header_with())
    assert reason_of(tmp_path / "b.hdr") is Reason.MALFORMED
    (tmp_path / "scan.mha").write_bytes(b"ObjectType = Image")
    assert reason_of(tmp_path / "scan.mha") is Reason.UNSUPPORTED
    assert reason_of(tmp_path / "absent.nii.gz") is Reason.MISSING
    (tmp_path / "1.nii.img.nii.gz").write_bytes(gzip.compress(header_with()))
    assert read_label_map(tmp_path / "1.nii.img.nii.gz").voxels.shape == (2, 2, 2)


def test_more_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.nii"
    path.write_bytes(header_with(dim=[3, 2048, 2048, 1025, 1, 1, 1, 1]))
    with path.open("r+b") as file:
        file.truncate(2048 * 2048 * 1025 + 352)  # a sparse file, which takes no space
    assert reason_of(path) is Reason.UNSUPPORTED


def test_a_small_archive_cannot_claim_much_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header_with(dim=[3, 1000, 1000, 1000, 1, 1, 1, 1]) + bytes(10**6)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reason_of(path) is Reason.TRUNCATED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


MEASURE = """
import resource, sys
from pathlib import Path
from shapestore.preprocess.formats.nifti import read_label_map
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_label_map(Path(sys.argv[1]))
before = peak()
image = read_label_map(Path(sys.argv[2]))
assert image.voxels.shape == (256, 256, 256) and image.voxels.dtype == 'uint8'
print(peak() - before)
"""


@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f8"])
def test_memory_is_that_of_the_file_and_of_the_result(tmp_path: Path, dtype: str) -> None:
    for name, size in (("small", 2), ("large", 256)):
        header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
        header.set_data_shape((size,) * 3)
        header.set_data_dtype(np.dtype(dtype))
        header.set_sform(np.eye(4), code=1)
        header["magic"], header["vox_offset"] = b"n+1", 352
        (tmp_path / f"{name}.nii").write_bytes(header.binaryblock)
        with (tmp_path / f"{name}.nii").open("r+b") as file:
            file.truncate(352 + size**3 * np.dtype(dtype).itemsize)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small.nii"), str(tmp_path / "large.nii")]
    used = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout) * 1024
    label_map = 256**3 * 4
    assert used < (3 if dtype == ">f8" else 1.5) * label_map + (16 << 20)


def test_extensions_are_skipped(tmp_path: Path) -> None:
    extended = bytearray(header_with(vox_offset=400))
    extended[348:356] = struct.pack("<4Bi", 1, 0, 0, 0, 48)
    body = bytes(extended[:356]).ljust(400, b"x") + bytes(range(8))
    (tmp_path / "extended.nii").write_bytes(body)
    assert read_label_map(tmp_path / "extended.nii").voxels.ravel(order="F").tolist() == list(range(8))
