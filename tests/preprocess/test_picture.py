from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shapestore.errors import RowEmpty, UsageError
from shapestore.preprocess.picture import DOTS_PER_INCH, render
from shapestore.preprocess.picture_draw import View, by_sign, cloud, grid_slice, plain, plane
from shapestore.preprocess.picture_panels import Shape, overview
from shapestore.schemas.array import ArraySpec, Code
from shapestore.schemas.families import (
    LabelCounts,
    Labels,
    OccupancyGrid,
    Points,
    QueryPool,
    RayPool,
    SdfGrid,
    UdfGrid,
)
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.specs import (
    distance_spec,
    grid_spec,
    label_codes,
    occupancy_spec,
    order_family,
    points_spec,
    ray_returns,
    sample_family,
)
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.entries import Failure, GroupCommit, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.reader import Store, open_store
from shapestore.store.root import Root
from shapestore.store.writer import StoreWriter

COUNT, CELLS = 60, 8
CODES = label_codes(("left atrium", "aorta"))
MASK = (Code(value=-1, name="background"), Code(value=1, name="object"))


def coded(name: str, pool: str) -> ArraySpec:
    return ArraySpec(
        name=name,
        dims=("pc_point",),
        shape=(COUNT,),
        dtype="int8",
        long_name=name,
        role="labels",
        pool=pool,
        codes=MASK,
    )


def every_family() -> StoreSchema:
    sdf_grid = grid_spec("sdf_grid", CELLS, "float16")
    counts = ArraySpec(
        name="class_voxels", dims=("class",), shape=(2,), dtype="int32", long_name="voxels", role="label_counts"
    )
    return StoreSchema(
        families=(
            Points(
                points=points_spec("pc_xyz", COUNT, "points", "surface points"),
                normals=points_spec("pc_n", COUNT, "points", "unit normals of pc_xyz"),
            ),
            Labels(labels=coded("pc_mask", "pc_xyz")),
            order_family("pc_fps_order", "pc_xyz", COUNT, 10),
            QueryPool(
                points=points_spec("pt_xyz_pool", COUNT, "query_pool", "queries"),
                distances=(distance_spec("pt_dist_pool", COUNT, "distance"),),
            ),
            RayPool(
                origins=points_spec("ray_o_pool", COUNT, "ray_pool", "origins"),
                directions=points_spec("ray_d_pool", COUNT, "ray_pool", "directions"),
                returns=(ray_returns("", COUNT, "the mesh"),),
            ),
            UdfGrid(grid=grid_spec("udf_grid", CELLS)),
            SdfGrid(grid=sdf_grid),
            OccupancyGrid(grid=occupancy_spec("occ_grid", CELLS, "cells")),
            sample_family("surface", COUNT, CODES),
            sample_family("volume", COUNT, CODES),
            sample_family("near", COUNT, CODES, counted=True),
            LabelCounts(counts=counts),
        )
    )


def sphere_arrays(row: int) -> dict[str, NDArray[Any]]:
    """Every array of a sphere of radius 0.5; the upper half is `aorta`, the lower `left atrium`."""
    rng = np.random.default_rng(row)
    normals = rng.normal(size=(COUNT, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    surface, queries = 0.5 * normals, rng.uniform(-1, 1, (COUNT, 3))
    sdf = np.linalg.norm(queries, axis=1) - 0.5
    half = 1 + (queries[:, 2] > 0)
    centres = np.stack(np.meshgrid(*[(np.arange(CELLS) + 0.5) * 2 / CELLS - 1] * 3, indexing="ij"), axis=-1)
    grid = np.linalg.norm(centres, axis=-1) - 0.5
    single = {
        "pc_xyz": surface,
        "pc_n": normals,
        "pt_xyz_pool": queries,
        "pt_dist_pool": np.abs(sdf),
        "ray_o_pool": 2.2 * normals,
        "ray_d_pool": -normals,
        "ray_t_pool": np.full(COUNT, 1.7),
        "ray_n_pool": normals,
        "udf_grid": np.abs(grid),
        "surface_points": surface,
        "vol_points": queries,
        "vol_sdf": sdf,
        "near_points": queries,
        "near_sdf": sdf,
    }
    return {name: value.astype(np.float32) for name, value in single.items()} | {
        "pc_mask": rng.choice([-1, 1], COUNT).astype(np.int8),
        "pc_fps_order": rng.permutation(COUNT)[:10].astype(np.int32),
        "ray_hit_pool": np.ones(COUNT, np.uint8),
        "sdf_grid": grid.astype(np.float16),
        "occ_grid": (grid < 0).astype(np.uint8),
        "surface_labels": (1 + (surface[:, 2] > 0)).astype(np.int8),
        "vol_labels": np.where(sdf < 0, half, 0).astype(np.int8),
        "near_labels": np.where(sdf < 0, half, 0).astype(np.int8),
        "class_voxels": np.array([30, 0], np.int32),
    }


def make_store(path: Path, schema: StoreSchema, source_kind: str = "cardiac", arrays: Any = sphere_arrays) -> Store:
    """Two spheres and a quarantined row."""
    recipe = load_recipe("points")
    entries = [
        RowEntry(
            row=row,
            shape_id=f"balls/{row} $x_1$ 心臓" if row else "balls/0",
            split="train" if row else "",
            category="round & red",
            group=str(row),
            source=f"{row}.nii.gz",
            source_sha256="0" * 64,
            seed=row,
            declared={spec.name: COUNT // 2 * row for spec in schema.index_arrays},
            failure=Failure(reason="empty file", message="0 bytes") if row == 2 else None,
        )
        for row in range(3)
    ]
    path.mkdir()
    with WriterLock(path):
        root = Root(
            schema=schema, recipe=recipe, recipe_digest=recipe.digest, source_kind=source_kind, rows_per_shard=4
        )
        writer = StoreWriter(path, root)
        writer.commit(root, [])
        work = work_folder(path)
        with PartWriter(work / "part", schema) as part:
            for row in range(2):
                part.append(row, arrays(row))
        task = SealTask(
            group=0, first_row=0, rows=3, parts=(Part(file="part", entries=tuple(entries), sizes=part.sizes),)
        )
        shards = seal(path, work, schema, 4, task)
        root = writer.with_codes({"split": ["train"], "category": ["round & red"]})
        writer.commit(root, [GroupCommit(0, {e.row: e for e in entries}, shards)])
        (work / "part").unlink()
        (work / "sealing").rmdir()
    return open_store(path)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("picture") / "s.zarr", every_family())


def size_of(png: Path) -> tuple[int, int]:
    """Width and height, after every checksum of the PNG has been compared."""
    data, position = png.read_bytes(), 8
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    kinds = []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        body = data[position + 4 : position + 8 + length]
        assert zlib.crc32(body) == struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0]
        kinds.append(body[:4])
        position += 12 + length
    assert kinds[-1] == b"IEND"
    assert b"tEXt" not in kinds, "no version of the program, which would change the bytes"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


# -------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", [None, *(spec.name for spec in every_family().data_arrays)])
def test_every_array_has_a_picture(store: Store, tmp_path: Path, name: str | None) -> None:
    render(store, 1, tmp_path / "shape.png", name)
    width, height = size_of(tmp_path / "shape.png")
    assert 2 * DOTS_PER_INCH < height < width < 11 * DOTS_PER_INCH
    image = mpl.image.imread(tmp_path / "shape.png")
    assert (image[0, :, :3] == 1).all(), "the background is white"
    assert 0.005 < (image[..., :3] < 0.99).any(axis=2).mean() < 0.75, "something is drawn, and not over everything"


def test_a_picture_has_at_most_six_panels(store: Store) -> None:
    assert len(overview(Shape(store, 0))) == 6


def test_the_same_row_has_the_same_bytes(store: Store, tmp_path: Path) -> None:
    render(store, 1, tmp_path / "one.png")
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.dpi": 10}):
        render(store, 1, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    render(store, 0, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_nothing_is_left_in_matplotlib(store: Store, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    render(store, 0, tmp_path / "shape.png")
    assert dict(mpl.rcParams) == before


def test_samples_without_a_filled_entry_are_drawn(store: Store, tmp_path: Path) -> None:
    assert store.index("near_count")[0] == 0
    render(store, 0, tmp_path / "shape.png", "near_sdf")


def test_a_constant_grid_is_drawn(tmp_path: Path) -> None:
    for size in (1, 4):
        families = StoreSchema(
            families=(UdfGrid(grid=grid_spec("udf_grid", size)), OccupancyGrid(grid=occupancy_spec("o", size, "cells")))
        )
        arrays = {"udf_grid": np.zeros((size,) * 3, np.float32), "o": np.zeros((size,) * 3, np.uint8)}
        flat = make_store(tmp_path / f"flat_{size}.zarr", families, arrays=lambda row, made=arrays: made)
        render(flat, 0, tmp_path / f"shape_{size}.png")


@pytest.mark.parametrize("name", ["pc_xzy", "near_count", "category", ""])
def test_what_cannot_be_drawn_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"to draw\. It has: pc_xyz"):
        render(store, 0, tmp_path / "shape.png", name)
    assert list(tmp_path.iterdir()) == []


def test_a_quarantined_row_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RowEmpty):
        render(store, 2, tmp_path / "shape.png")


def test_a_missing_folder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        render(store, 0, tmp_path / "none" / "shape.png")


# --------------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("azimuth", [0.0, 35.0, 125.0, -80.0])
def test_a_view_is_a_rotation_with_its_axis_up(azimuth: float, up: int) -> None:
    matrix = View(azimuth, 22, up).matrix()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    shown = matrix @ np.eye(3)[up]
    assert shown[0] == pytest.approx(0)
    assert shown[1] == pytest.approx(np.cos(np.deg2rad(22)))
    level = View(0, 0, up).matrix()
    np.testing.assert_allclose(level[2], np.eye(3)[(up + 1) % 3], atol=1e-12)


def test_near_points_cover_far_ones() -> None:
    axes = Figure().add_subplot()
    points = np.array([[0.5, 0, 0], [-0.5, 0, 0]], np.float32)
    cloud(axes, points, by_sign(np.array([True, False])), View(0, 0, 2))
    drawn = axes.collections[0].get_facecolors()
    np.testing.assert_allclose(drawn[1, :3], by_sign(np.array([True]))[0], err_msg="the near one is last, and clear")
    assert (drawn[0, :3] > by_sign(np.array([False]))[0]).all(), "the far one is hazy"


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("normal", [0, 1, 2])
def test_a_slice_lies_as_its_axes_say(normal: int, up: int) -> None:
    across, upward = plane(normal, up)
    assert sorted((across, upward, normal)) == [0, 1, 2]
    assert upward == up or normal == up
    grid = np.zeros((4, 4, 4), np.float32)
    place = [0, 0, 0]
    place[across], place[upward], place[normal] = 3, 1, 2
    grid[tuple(place)] = 1
    axes = Figure().add_subplot()
    grid_slice(axes, np.take(grid, 2, axis=normal), normal, up, "Greys", (0, 1), np.inf)
    image = axes.images[0].get_array()
    assert image is not None
    assert np.argwhere(image == 1).tolist() == [[1, 3]]
    assert axes.images[0].origin == "lower"


@pytest.mark.parametrize(
    ("kind", "source", "up"),
    [("shapenet", "a.obj", 1), ("meshes", "a.stl", 2), ("meshes", "a.GLB", 1), ("modelnet40", "a.off", 2)],
)
def test_the_axis_that_is_up_follows_the_dataset(kind: str, source: str, up: int) -> None:
    class Root:
        source_kind = kind
        recipe = load_recipe("points")

    class OneRow:
        root = Root()

        def index(self, name: str) -> list[str]:
            return [source]

    assert Shape(OneRow(), 0).up == up  # type: ignore[arg-type]


def test_text_is_shown_as_it_is() -> None:
    assert plain("a $x$ b_1") == r"a \$x\$ b_1"
    assert plain("é·心") == "é·\N{REPLACEMENT CHARACTER}"
