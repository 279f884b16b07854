from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from demo.raw import write_hearts, write_modelnet, write_nepa_cache, write_scanobjectnn, write_structure_folders
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.quality.check import Batch
from shapestore.quality.checks.distance_truth import CHECK, COMPARED, SAME, THERE
from shapestore.quality.truth_labels import LabelTruth
from shapestore.quality.truth_mesh import MeshTruth, read_mesh_truth
from shapestore.schemas.recipe import GridPart, PointsPart, QueriesPart, RaysPart, Recipe
from tests.quality.helpers import broken, measures, spoilt
from tests.quality.raw_rows import heart_recipe, only, rows_of

MESHES = Recipe(
    input=("mesh",),
    points=PointsPart(count=200, fps_order=0),
    queries=QueriesPart(count=600, signed=True, fps_order=0),
    grid=GridPart(size=12, signed=True),
    rays=RaysPart(count=300, views=3, rays_per_view=100),
)
SCANS = Recipe(
    input=("cloud",),
    points=PointsPart(count=300, normals=False, fps_order=0),
    queries=QueriesPart(count=200, distance="cloud", grid_distance=False, fps_order=0),
)
CUBE = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
CUBE += "".join(
    f"f {face}\n"
    for face in (
        "1 2 4",
        "1 4 3",
        "5 7 8",
        "5 8 6",
        "1 5 6",
        "1 6 2",
        "3 4 8",
        "3 8 7",
        "1 3 7",
        "1 7 5",
        "2 6 8",
        "2 8 4",
    )
)
LIDLESS = CUBE[: CUBE.index("f 2 6 8")]

GIVEN = partial(settings, deadline=None, max_examples=8, derandomize=True)


def cube() -> tuple[np.ndarray, np.ndarray]:
    lines = [line.split() for line in CUBE.splitlines()]
    vertices = np.array([line[1:] for line in lines if line[0] == "v"], float)
    return vertices, np.array([line[1:] for line in lines if line[0] == "f"], int) - 1


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Row 0 is a closed cube, row 1 one without a lid, row 2 a closed one of another size."""
    root = tmp_path_factory.mktemp("meshes")
    (root / "a_cube.obj").write_text(CUBE)
    (root / "b_lidless.obj").write_text(LIDLESS)
    (root / "c_long.obj").write_text(CUBE.replace("v 1", "v 3"))
    return rows_of("meshes", root, MESHES)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return rows_of("scanobjectnn", write_scanobjectnn(tmp_path_factory.mktemp("scans"), objects=4, points=400), SCANS)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Row 1 has no LAA, row 2 lies oblique with voxels that are no cubes."""
    root = write_hearts(tmp_path_factory.mktemp("hearts"), cases=3, size=48, spacing=(3.0, 3.0, 3.0))
    return rows_of("cardiac", root, heart_recipe())


@pytest.fixture(params=["meshes", "scans", "hearts"])
def healthy(request: pytest.FixtureRequest) -> Batch:
    batch: Batch = request.getfixturevalue(request.param)
    return batch


def moved(batch: Batch, way: np.ndarray) -> Batch:
    """The batch as if its raw files lay elsewhere by a way in raw units."""
    return replace(batch, index={**batch.index, "shift": np.asarray(batch.index["shift"]) + way})


def numbers(batch: Batch) -> dict[str, np.ndarray]:
    return {name: each.values for name, each in measures(CHECK, batch).items()}


def test_healthy_rows_break_nothing_and_were_all_compared(healthy: Batch) -> None:
    assert broken(CHECK, healthy) == {}
    assert (numbers(healthy)[COMPARED] == 1).all()


@pytest.mark.parametrize("layout", ["off", "txt", "h5"])
def test_every_layout_of_modelnet_is_compared(layout: str, tmp_path: Path) -> None:
    root = write_modelnet(tmp_path, layout, train=1, test=1, points=300)  # type: ignore[arg-type]
    recipe = MESHES if layout == "off" else SCANS
    batch = rows_of("modelnet40", root, recipe)
    assert broken(CHECK, batch) == {}
    assert (numbers(batch)[COMPARED] == 1).all()


@pytest.mark.parametrize("labels", [{"distance": "edt"}, {"smoothing": 0}, {"grid": 24}], ids=str)
def test_other_ways_to_make_hearts_break_nothing(labels: dict[str, object], tmp_path: Path) -> None:
    batch = rows_of("cardiac", write_hearts(tmp_path, cases=1, size=48), heart_recipe(**labels))
    assert broken(CHECK, batch) == {}


def test_folders_of_masks_on_several_grids_break_nothing(tmp_path: Path) -> None:
    classes = {"aorta": "aorta", "atrium": "heart_atrium_left", "heart": "heart", "pa": "pulmonary_artery"}
    recipe = heart_recipe(layout="folder", scheme="mapping", classes=classes, undeclared="background")
    batch = rows_of("cardiac", write_structure_folders(tmp_path, cases=1), recipe)
    assert broken(CHECK, batch) == {}
    assert numbers(batch)["share of vol_sdf with the raw label"].tolist() == [1]


def test_of_an_adopted_cache_only_the_file_is_compared(tmp_path: Path) -> None:
    batch = rows_of("npz", write_nepa_cache(tmp_path), Recipe(input=("cache",)))
    assert set(numbers(batch)) == {THERE, SAME, COMPARED}
    assert (numbers(batch)[SAME] == 1).all()
    assert (numbers(batch)[COMPARED] == 0).all()


def test_numbers_do_not_depend_on_how_rows_are_batched(healthy: Batch) -> None:
    whole = numbers(healthy)
    for row in range(len(healthy)):
        alone = numbers(only(healthy, [row]))
        assert alone.keys() == whole.keys()
        assert all(np.array_equal(alone[name], whole[name][[row]], equal_nan=True) for name in whole)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text(CUBE)], ids=["lost", "changed"])
def test_a_raw_file_that_is_lost_or_changed_is_reported_and_not_compared(
    change: Callable[[Path], object], meshes: Batch, tmp_path: Path
) -> None:
    assert meshes.raw is not None
    root = shutil.copytree(meshes.raw, tmp_path / "raw")
    change(root / "b_lidless.obj")
    found = numbers(replace(meshes, raw=root))
    lost = not (root / "b_lidless.obj").exists()
    assert broken(CHECK, replace(meshes, raw=root)) == {(THERE if lost else SAME): [1]}
    (said,) = [each for each in CHECK.measure(replace(meshes, raw=root), CHECK.settings()) if each.broken.any()]
    assert said.wrong == ("the raw file is gone" if lost else "the raw file has changed since it was read")
    assert ("--rebuild" in said.remedy) == (not lost), "a file that is gone cannot be ingested again"
    assert np.isnan(found["median error of pt_dist_pool"]).tolist() == [False, True, False]


def test_a_file_that_the_other_reader_cannot_read_is_said_to_be_not_compared(tmp_path: Path) -> None:
    (tmp_path / "wide.obj").write_bytes(CUBE.encode("utf-16"))
    batch = rows_of("meshes", tmp_path, MESHES)
    found = numbers(batch)
    assert found[COMPARED].tolist() == [0]
    assert all(np.isnan(values).all() for name, values in found.items() if name not in (THERE, SAME, COMPARED))
    assert broken(CHECK, batch) == {}


def test_a_file_that_the_other_reader_reads_as_another_surface_is_not_compared(tmp_path: Path) -> None:
    # An arrow head, whose corners a fan around the first one goes through from outside.
    (tmp_path / "arrow.obj").write_text("v 0 0 0\nv 2 2 0\nv 0 1 0\nv -2 2 0\nf 2 3 4 1\nv 0 0 1\nf 1 2 5\n")
    with pytest.raises(ValueError, match="another surface"):
        read_mesh_truth(tmp_path / "arrow.obj", Frame(np.zeros(3), 1.0))


def test_the_sign_of_a_closed_mesh_is_told_and_that_of_an_open_one_is_not(meshes: Batch) -> None:
    flipped = spoilt(meshes, pt_sdf_pool=np.negative, sdf_grid=np.negative)
    assert broken(CHECK, flipped) == {
        "share of pt_sdf_pool on the right side": [0, 2],
        "share of sdf_grid on the right side": [0, 2],
    }
    assert np.isnan(numbers(meshes)["share of sdf_grid on the right side"][1])


@pytest.mark.parametrize(
    ("array", "change", "measure"),
    [
        ("pt_dist_pool", lambda values: values[[1, 2, 0]], "median error of pt_dist_pool"),
        ("pt_dist_pool", lambda values: values * 12, "median error of pt_dist_pool"),
        ("udf_grid", lambda values: np.swapaxes(values, 1, 3), "largest error of udf_grid"),
        ("pc_xyz", lambda values: values + np.float32(1e-4), "largest error of pc_xyz"),
        ("ray_t_pool", lambda values: values * np.float32(1.001), "median error of ray_t_pool"),
    ],
    ids=["other row", "in cells", "axes swapped", "moved", "depth"],
)
def test_what_does_not_lie_on_the_raw_mesh_is_caught(
    array: str, change: Callable[[np.ndarray], np.ndarray], measure: str, meshes: Batch
) -> None:
    # The edges of row 2 differ, so that swapped axes show.
    assert 2 in broken(CHECK, spoilt(meshes, **{array: change}))[measure]


def test_one_wrong_distance_in_a_hundred_is_caught(meshes: Batch) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        values[0, ::100] += 1e-3
        return values

    assert broken(CHECK, spoilt(meshes, udf_grid=lambda grids: change(grids.reshape(3, -1)).reshape(grids.shape))) == {
        "p99 error of udf_grid": [0],
        "largest error of udf_grid": [0],
    }


def test_scans_of_other_rows_and_distances_to_other_clouds_are_caught(scans: Batch) -> None:
    rolled = spoilt(scans, pc_xyz=lambda values: np.roll(values, 1, axis=0))
    every = list(range(len(scans)))
    assert broken(CHECK, rolled)["median error of pc_xyz"] == every
    other = spoilt(scans, pt_dist_pool=lambda values: np.roll(values, 1, axis=0))
    assert broken(CHECK, other)["p99 error of pt_dist_pool"] == every


@GIVEN()
@given(
    way=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda way: np.linalg.norm(way) > 0.1),
    voxels=st.sampled_from([0.5, 1]),
)
def test_a_shifted_field_is_measured_to_be_shifted_by_that_much(
    hearts: Batch, way: tuple[float, float, float], voxels: float
) -> None:
    unit = np.array(way) / np.linalg.norm(way)
    edges = np.array([3.0, 3.0, np.sqrt((9 + 9 + 4.5**2) / 3)])  # voxels of the rows, root mean square
    batch = moved(hearts, voxels * edges[:, None] * unit)
    shift = numbers(batch)["shift of vol_sdf"]
    assert shift == pytest.approx(voxels, rel=0.2)  # the directions are those at the shifted positions
    assert broken(CHECK, batch)["shift of vol_sdf"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("array", "change", "measure"),
    [
        ("vol_sdf", np.negative, "median error of vol_sdf"),
        ("vol_sdf", lambda values: values * 60, "p99 error of vol_sdf"),
        ("near_sdf", lambda values: values[[1, 2, 0]] * 60, "p99 error of near_sdf"),
        ("vol_labels", lambda values: np.where(values > 0, values % 10 + 1, 0), "share of vol_sdf with the raw label"),
        ("surface_labels", lambda values: values % 10 + 1, "share of surface_points with the raw label"),
        ("surface_points", lambda values: values * [-1, 1, 1], "p99 error of surface_points"),
    ],
    ids=["sign", "millimetres", "near", "codes", "surface codes", "mirrored"],
)
def test_what_contradicts_the_raw_label_map_is_caught(
    array: str, change: Callable[[np.ndarray], np.ndarray], measure: str, hearts: Batch
) -> None:
    assert broken(CHECK, spoilt(hearts, **{array: change}))[measure] == [0, 1, 2]


def test_inside_marked_in_empty_space_is_caught(hearts: Batch) -> None:
    outside = np.asarray(hearts.arrays["vol_labels"]) == 0
    blobs = spoilt(
        hearts,
        vol_sdf=lambda values: np.where(outside, -np.abs(values) / 2, values),
        vol_labels=lambda values: np.where(outside, 1, values),
    )
    assert broken(CHECK, blobs)["share of vol_sdf with the raw label"] == [0, 1, 2]


def test_numbers_that_are_not_finite_are_left_to_the_schema(healthy: Batch) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        values[:, ::7] = np.nan
        values[:, 1::7] = np.inf
        return values

    floats = [name for name, values in healthy.arrays.items() if np.asarray(values).dtype.kind == "f"]
    floats = [name for name in floats if np.ndim(healthy.arrays[name]) > 1]
    assert broken(CHECK, spoilt(healthy, **dict.fromkeys(floats, change))) == {}


def test_settings_reach_the_bounds(meshes: Batch, hearts: Batch) -> None:
    assert "largest error of pc_xyz" in broken(CHECK, meshes, error=1e-12)
    assert broken(CHECK, spoilt(meshes, sdf_grid=np.negative), right_side=0) == {}
    tight = broken(CHECK, hearts, median_error=1e-6, p99_error=1e-6, shift=1e-9)
    assert {"median error of vol_sdf", "p99 error of near_sdf", "shift of vol_sdf"} <= tight.keys()
    rolled = spoilt(hearts, vol_labels=lambda values: values % 10 + 1)
    assert "share of vol_sdf with the raw label" not in broken(CHECK, rolled, right_label=0)


def test_a_mesh_has_the_distances_of_its_solid_and_the_sides() -> None:
    vertices, faces = cube()
    truth = MeshTruth(vertices - 0.5, faces)
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    out = np.abs(points) - 0.5
    signed = np.linalg.norm(np.maximum(out, 0), axis=1) + np.minimum(out.max(axis=1), 0)
    assert truth.distance(points) == pytest.approx(np.abs(signed), abs=1e-12)
    assert np.array_equal(truth.inside(points), (signed < 0).astype(float))


def test_a_face_without_area_is_no_surface() -> None:
    vertices, faces = cube()
    needle = MeshTruth(np.append(vertices, [[9, 9, 9]], axis=0), np.append(faces, [[0, 0, 8]], axis=0))
    assert needle.distance(np.array([[9.0, 9, 9]])) == pytest.approx(8 * np.sqrt(3))


def test_a_doubled_mesh_decides_no_sign_and_an_inverted_one_its_twins() -> None:
    vertices, faces = cube()
    middle = np.array([[0.5, 0.5, 0.5], [2, 2, 2]])
    assert MeshTruth(vertices, faces[:, ::-1]).inside(middle).tolist() == [1, 0]
    assert np.isnan(MeshTruth(vertices, np.concatenate([faces, faces[:, ::-1]])).inside(middle)).all()


@GIVEN()
@given(
    edges=st.tuples(*[st.floats(0.5, 3)] * 3),
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    mirrored=st.booleans(),
)
def test_a_label_map_has_the_field_of_its_solid_to_a_voxel_however_it_lies(
    edges: tuple[float, float, float], turn: tuple[float, float, float], mirrored: bool
) -> None:
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * edges
    axes[:, 0] *= -1 if mirrored else 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, [100, -50, 7]
    size = np.ceil(30 / np.array(edges)).astype(int)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    centre = affine[:3, :3] @ ((size - 1) / 2) + affine[:3, 3]
    ball = np.linalg.norm(index @ axes.T + affine[:3, 3] - centre, axis=-1) < 10
    truth = LabelTruth(np.where(ball, 3, 0).astype(np.uint8), affine)
    points = centre + np.random.default_rng(0).uniform(-20, 20, (400, 3))
    radius = np.linalg.norm(points - centre, axis=1)
    found = truth.at(points)
    assert np.abs(found.distance - (radius - 10)).max() <= max(edges)
    far = np.abs(radius - 10) > 3 * max(edges)
    cosine = (found.gradient * (points - centre)).sum(axis=1) / radius
    assert cosine[far & (radius > 10)].min(initial=1) > 0.9
    assert np.array_equal(found.labels[far], np.where(radius < 10, 3, 0)[far])


def test_labels_of_other_types_and_orders_are_read_alike(tmp_path: Path, hearts: Batch) -> None:
    assert hearts.raw is not None
    path = sorted(hearts.raw.iterdir())[0]
    image = nib.load(path)
    floats = np.asarray(image.dataobj).astype(np.float32) + np.float32(1e-6)
    nib.save(nib.Nifti1Image(floats[..., None], image.affine), tmp_path / path.name)
    batch = rows_of("cardiac", tmp_path, heart_recipe())
    assert broken(CHECK, batch) == {}
    assert numbers(batch)["share of vol_sdf with the raw label"].tolist() == [1]
