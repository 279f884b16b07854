"""Every real mesh file there is, against a table written by hand and against trimesh."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.mesh_file import MESH_SUFFIXES, read_mesh
from shapestore.preprocess.geometry.mesh import Mesh

Outcome = tuple[int, int] | Reason
"""Vertices and triangles, or why there are none."""

# fmt: off
GOOD: dict[str, Outcome] = {
    "GHDHeart/LA.obj": (1119, 2234), "GHDHeart/LV.obj": (1705, 3406),
    "assimp/box_UTF16BE.obj": (8, 12), "assimp/concave_polygon.obj": (64, 64),
    "assimp/cube_binary_header_with_RN_newline.ply": (8, 12), "assimp/spider.obj": (762, 1368),
    "assimp/spider.mtl": Reason.UNSUPPORTED,
    "kaolin/avocado.obj": (406, 682), "kaolin/ico_flat.obj": (42, 80), "kaolin/rocket.obj": (426, 832),
    "kaolin/avocado.mtl": Reason.UNSUPPORTED,
    "pytorch3d/cow.obj": (2930, 5856), "pytorch3d/cow.mtl": Reason.UNSUPPORTED,
    "pytorch3d/cow_texture.png": Reason.UNSUPPORTED,
    "tinyobjloader/cornell_box_multimaterial.obj": (76, 36), "tinyobjloader/cube-vertexcol.obj": (8, 12),
    "tinyobjloader/issue-295-trianguation-failure.obj": (16, 28),
    "trimesh/comments.off": (8, 12), "trimesh/cube_compressed.obj": (8, 12), "trimesh/cycloidal.ply": (21384, 43368),
    "trimesh/featuretype.STL": (2010, 3476), "trimesh/fuze.obj": (502, 1000),
    "trimesh/fuze.obj.mtl": Reason.UNSUPPORTED, "trimesh/fuze uv.jpg": Reason.UNSUPPORTED,
    "trimesh/joined_tetrahedra.obj": (5, 8), "trimesh/large_block.STL": (8, 12), "trimesh/multibody.stl": (20, 32),
    "trimesh/negative_indices.obj": (8, 12), "trimesh/octagonal_pocket.ply": (1658, 3262),
    "trimesh/off.zip": Reason.UNSUPPORTED, "trimesh/points_ascii.ply": Reason.NO_FACES,
    "trimesh/points_cloudcompare.xyz": Reason.UNSUPPORTED, "trimesh/points_emptyface.ply": Reason.NO_FACES,
    "trimesh/rabbit.obj": (644, 1252), "trimesh/reference.obj": (845, 1610), "trimesh/shared.STL": (14, 24),
    "trimesh/suzanne.ply": (1966, 968), "trimesh/teapot.stl": (480, 894), "trimesh/two_objects.obj": (12, 16),
}
# fmt: on

MALFORMED: dict[str, Outcome] = {
    "PyMesh/empty.off": Reason.NO_FACES,
    "assimp/OutOfMemory.off": Reason.TRUNCATED,  # 353 535 235 358 vertices in 309 bytes
    "assimp/assimp_empty.off": Reason.EMPTY,
    "assimp/invalid.off": Reason.MALFORMED,  # a face of two corners with none following
    "assimp/malformed.obj": Reason.INDEX_RANGE,  # 12 and 0 of 8
    "meshio/bun_zipper_res4.ply": Reason.LFS_POINTER,
    "pytorch3d/missing_files_obj/model.mtl": Reason.UNSUPPORTED,
    # Materials never matter, so their absence does not.
    "pytorch3d/missing_files_obj/model.obj": (4, 2),
    "pytorch3d/missing_files_obj/model2.obj": (4, 2),
    # An OBJ face of one or two corners may be a polygon that lost some: nobody knows the surface, so it is refused,
    # also where other faces are whole. OFF and PLY count corners, so there an edge is an edge, and left out.
    "tinyobjloader/invalid-face-definition.obj": Reason.MALFORMED,
    "trimesh/notenoughindices.obj": Reason.MALFORMED,
    "tinyobjloader/issue-140-zero-face-idx.obj": Reason.INDEX_RANGE,
    "tinyobjloader/test-nan.obj": Reason.NOT_FINITE,  # its first face uses the NaN vertices, in four spellings
    "trimesh/empty.obj": Reason.NO_FACES,
    "trimesh/empty.ply": Reason.NO_FACES,
    "trimesh/empty.stl": Reason.NO_FACES,
    "trimesh/nancolor.obj": (8, 12),  # only a colour is NaN
    "trimesh/obj_points.obj": Reason.NO_FACES,
    "trimesh/obj_with_no_face_in_chunk.obj": (3, 1),
    "trimesh/ply_empty_bin.ply": Reason.NO_FACES,
    "trimesh/stl_empty_ascii.stl": Reason.NO_FACES,
}

# Judged otherwise, in a test of their own, since trimesh ...
TRIMESH_IS_NO_JUDGE = {
    "assimp/box_UTF16BE.obj": "needs a package that is not installed to read UTF-16",
    "assimp/concave_polygon.obj": "cuts the concave polygon as a fan that overlaps itself",
    "tinyobjloader/cornell_box_multimaterial.obj": "counts negative indices back from the end of the file",
    "trimesh/suzanne.ply": "cuts two concave quads along the diagonal that lies outside, rounds text to 32 bits",
}

SMALL = [
    "mesh/trimesh/two_objects.obj",
    "mesh/trimesh/negative_indices.obj",
    "mesh/assimp/box_UTF16BE.obj",
    "mesh/trimesh/comments.off",
    "mesh/assimp/cube_binary_header_with_RN_newline.ply",
    "mesh/trimesh/points_ascii.ply",
    "mesh/trimesh/large_block.STL",
    "mesh/trimesh/multibody.stl",
]


def outcome(path: Path) -> Outcome:
    try:
        mesh, _ = read_mesh(path)
    except InputRefused as refused:
        return refused.reason
    assert mesh.vertices.dtype == np.float64
    assert mesh.faces.dtype == np.int64
    assert mesh.faces.shape[1] == 3
    return len(mesh.vertices), len(mesh.faces)


def area_and_volume(mesh: Mesh) -> tuple[float, float]:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    return float(area), float((a * np.cross(b, c)).sum() / 6)


def by_trimesh(path: Path) -> Mesh:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = trimesh.load(path, process=False, force="mesh")
    return Mesh(np.array(loaded.vertices, np.float64), np.array(loaded.faces, np.int64))


def cornell_area(root: Path) -> float:
    """Area of a file of quads, by a reader of nothing but that file."""
    above: list[np.ndarray] = []
    area = 0.0
    for line in (root / "tinyobjloader/cornell_box_multimaterial.obj").read_text().splitlines():
        keyword, *values = line.split() or [""]
        if keyword == "v":
            above.append(np.array(values[:3], float))
        elif keyword == "f":
            a, b, c, d = (above[int(value) - (int(value) > 0)] for value in values)
            area += np.linalg.norm(np.cross(b - a, c - a)) / 2 + np.linalg.norm(np.cross(c - a, d - a)) / 2
    return area


@pytest.mark.parametrize(("folder", "expected"), [("mesh", GOOD), ("mesh_malformed", MALFORMED)])
def test_every_file_is_read_or_refused_as_the_table_says(
    shared_data: Path, folder: str, expected: dict[str, Outcome]
) -> None:
    root = shared_data / folder
    files = sorted(path for path in root.rglob("*") if path.is_file())
    assert {str(path.relative_to(root)): outcome(path) for path in files} == expected


@pytest.mark.parametrize(
    "name", sorted({name for name in GOOD if isinstance(GOOD[name], tuple)} - set(TRIMESH_IS_NO_JUDGE))
)
def test_the_surface_is_that_of_trimesh(shared_data: Path, name: str) -> None:
    path = shared_data / "mesh" / name
    mesh, _ = read_mesh(path)
    other = by_trimesh(path)
    assert len(mesh.faces) == len(other.faces)
    area, volume = area_and_volume(other)
    np.testing.assert_allclose(area_and_volume(mesh), (area, volume), rtol=1e-9, atol=1e-9 * area**1.5)


def test_where_trimesh_is_wrong_the_surface_is_known_otherwise(shared_data: Path) -> None:
    root = shared_data / "mesh"
    box, _ = read_mesh(root / "assimp/box_UTF16BE.obj")
    np.testing.assert_allclose(area_and_volume(box), (6, 1))

    concave, notes = read_mesh(root / "assimp/concave_polygon.obj")
    line = next(line for line in (root / "assimp/concave_polygon.obj").read_text().splitlines() if line[:2] == "f ")
    around = concave.vertices[[int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]]
    shoelace = np.linalg.norm(np.cross(around, np.roll(around, -1, axis=0)).sum(axis=0)) / 2
    np.testing.assert_allclose(area_and_volume(concave)[0], shoelace)
    assert notes == ("1 polygon triangulated",)

    cornell, _ = read_mesh(root / "tinyobjloader/cornell_box_multimaterial.obj")
    np.testing.assert_allclose(area_and_volume(cornell)[0], cornell_area(root), rtol=1e-12)

    suzanne, _ = read_mesh(root / "trimesh/suzanne.ply")
    folded = by_trimesh(root / "trimesh/suzanne.ply")
    assert len(suzanne.faces) == len(folded.faces)
    excess = area_and_volume(folded)[0] - area_and_volume(suzanne)[0]
    assert 0 < excess < 2e-4 * area_and_volume(suzanne)[0]


def triangles(mesh: Mesh) -> np.ndarray:
    """(F, 9) corner positions, each triangle from its lowest corner on, the triangles in order."""
    corners = mesh.vertices[mesh.faces].astype(np.float32)
    rank = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(-1, 3)
    first = rank.argmin(axis=1)[:, None]
    turned = np.take_along_axis(corners, ((first + np.arange(3)) % 3)[:, :, None], axis=1).reshape(-1, 9)
    return turned[np.lexsort(turned.T[::-1])]


def test_every_triangle_is_where_trimesh_has_it(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "mesh/trimesh/off.zip") as archive:
        archive.extractall(tmp_path)
    root = shared_data / "mesh"
    read = [name for name, counts in GOOD.items() if isinstance(counts, tuple) and name not in TRIMESH_IS_NO_JUDGE]
    compared = 0
    for path in [*(root / name for name in sorted(read)), *sorted(tmp_path.rglob("*.off"))]:
        mesh, notes = read_mesh(path)
        if not any("triangulated" in note for note in notes):  # a polygon may be cut in more than one right way
            np.testing.assert_array_equal(triangles(mesh), triangles(by_trimesh(path)), err_msg=path.name)
            compared += 1
    assert compared >= 28


def test_all_off_files_of_the_collection_agree_with_trimesh(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "mesh/trimesh/off.zip") as archive:
        archive.extractall(tmp_path)
    paths = sorted(tmp_path.rglob("*.off"))
    assert len(paths) == 19
    for path in paths:
        mesh, _ = read_mesh(path)
        other = by_trimesh(path)
        assert len(mesh.faces) == len(other.faces), path.name
        area, volume = area_and_volume(other)
        np.testing.assert_allclose(area_and_volume(mesh), (area, volume), rtol=1e-9, atol=1e-9 * area**1.5)


def test_files_that_no_reader_should_see(tmp_path: Path) -> None:
    def reason(path: Path) -> Reason:
        with pytest.raises(InputRefused) as refused:
            read_mesh(path)
        assert str(tmp_path) not in refused.value.detail
        return refused.value.reason

    assert reason(tmp_path / "absent.obj") is Reason.MISSING
    assert reason(tmp_path) is Reason.MISSING
    for suffix in MESH_SUFFIXES:
        path = tmp_path / f"file{suffix.upper()}"
        path.write_bytes(b"")
        assert reason(path) is Reason.EMPTY
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
        assert reason(path) is Reason.LFS_POINTER
        path.write_bytes(b"\0\1\2 no mesh \xff" * 20)
        assert reason(path) in {Reason.MALFORMED, Reason.TRUNCATED}


def test_the_same_file_gives_the_same_bytes(shared_data: Path) -> None:
    for name in ("trimesh/rabbit.obj", "trimesh/suzanne.ply", "trimesh/multibody.stl"):
        one, other = (read_mesh(shared_data / "mesh" / name)[0] for _ in range(2))
        assert one.vertices.tobytes() == other.vertices.tobytes()
        assert one.faces.tobytes() == other.faces.tobytes()


@pytest.mark.parametrize("name", SMALL)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_read_but_never_crashes(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = bytearray((shared_data / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged{Path(name).suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        mesh, notes = read_mesh(path)
    except InputRefused as refused:
        event(str(refused.reason))
        return
    assert all(isinstance(note, str) for note in notes)
    assert len(mesh.faces) > 0
    assert 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)
    assert np.isfinite(mesh.vertices[mesh.faces]).all()
