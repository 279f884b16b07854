"""Sample inputs in the layouts of ShapeNetCore.v2, ModelNet40, ScanObjectNN and of point-query caches.

Everything is analytic and small, the same seed gives the same bytes, and the known quirks of the real files
are there on purpose. Every writer returns the folder that a reader of that data set is pointed at. The
cardiac inputs are in `demo.heart`, and re-exported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from demo.heart import write_hearts, write_structure_folders, write_vecsetx_cache
from demo.solids import OBJECTS, Floats, Solid, bounds, doubled_panel, sample_surface, triangulate

__all__ = [
    "MODELNET40",
    "SCANOBJECTNN",
    "write_demo",
    "write_hearts",
    "write_modelnet",
    "write_nepa_cache",
    "write_scanobjectnn",
    "write_shapenet",
    "write_structure_folders",
    "write_vecsetx_cache",
]

#: The classes of ModelNet40; a label is the position in this tuple.
MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup",
    "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop",
    "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa",
    "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip
#: The classes of ScanObjectNN; a label is the position in this tuple.
SCANOBJECTNN = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow",
    "sink", "sofa", "toilet",
)  # fmt: skip

_SYNSETS = {"bottle": "02876657", "chair": "03001627", "mug": "03797390", "table": "04379243"}
_MODELNET_OBJECTS = {
    "bookshelf": "shelf",
    "bottle": "bottle",
    "chair": "chair",
    "cup": "mug",
    "table": "table",
}
_SCANNED = ("chair", "table", "bin", "shelf", "sofa", "cabinet", "display")
_MATERIALS = {"wood": "0.55 0.35 0.2", "metal": "0.6 0.6 0.65", "fabric": "0.3 0.4 0.6"}


def write_demo(root: Path) -> dict[str, Path]:
    """Write the raw files of `make demo`: by kind of source, the folder that `shapestore ingest` is pointed at."""
    return {
        "shapenet": write_shapenet(root / "shapenet", models_per_class=6),
        "scanobjectnn": write_scanobjectnn(root / "scanobjectnn", objects=48),
        "cardiac": write_hearts(root / "hearts", cases=4),
    }


# -------------------------------------------------------------------------------------------- ShapeNetCore.v2


def write_shapenet(root: Path, models_per_class: int = 4, seed: int = 0, *, official_split: bool = False) -> Path:
    """Write `ShapeNetCore.v2/<synset>/<model>/models/model_normalized.{obj,mtl}` for four synsets.

    Models are y-up, centred, with a bounding box of diagonal 1. They are overlapping solids with n-gons,
    groups, `usemtl`, faces with and without texture coordinates. Models 0, 2, ... of a class have `l`
    records; chairs and tables 1, 3, ... have a panel stored with both windings; the last bottle's .mtl is
    missing.

    Parameters
    ----------
    root
        Existing or new folder.
    models_per_class
        Models in each synset.
    seed
        Of all shapes and model ids.
    official_split
        Also write `all.csv`; of every four models of a class two are train, one is val, one is test.
    """
    home = root / "ShapeNetCore.v2"
    lines = ["id,synsetId,subSynsetId,modelId,split"]
    for c, (name, synset) in enumerate(_SYNSETS.items()):
        for k in range(models_per_class):
            rng = np.random.default_rng([seed, c, k])
            model = rng.bytes(16).hex()
            solids = _diagonal_one(_with_panel(OBJECTS[name](rng), name in ("chair", "table") and k % 2 == 1))
            folder = home / synset / model / "models"
            _write_text(folder / "model_normalized.obj", _obj_lines(solids, with_lines=k % 2 == 0))
            if (name, k) != ("bottle", models_per_class - 1):
                _write_text(folder / "model_normalized.mtl", _mtl_lines())
            lines.append(f"{len(lines):06d},{synset},{synset},{model},{('train', 'train', 'val', 'test')[k % 4]}")
    if official_split:
        _write_text(home / "all.csv", lines)
    return home


def _with_panel(solids: list[Solid], wanted: bool) -> list[Solid]:
    low, high = bounds(solids)
    middle = [low[0], (low[1] + high[1]) / 2, low[2]]
    return [*solids, doubled_panel("panel", middle, [high[0], high[1], low[2]])] if wanted else solids


def _diagonal_one(solids: Sequence[Solid]) -> list[Solid]:
    low, high = bounds(solids)
    centre, diagonal = (low + high) / 2, np.linalg.norm(high - low)
    return [Solid(s.name, (s.vertices - centre) / diagonal, s.faces) for s in solids]


def _obj_lines(solids: Sequence[Solid], *, with_lines: bool) -> list[str]:
    lines = ["# analytic sample model", "mtllib model_normalized.mtl"]
    first_vertex = first_texture = first_normal = 1
    for index, solid in enumerate(solids):
        vertices, textured = solid.vertices, index % 3 != 2
        corners = vertices[[face[:3] for face in solid.faces]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        lines += ["", f"g {solid.name}", f"usemtl {list(_MATERIALS)[index % len(_MATERIALS)]}"]
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
        lines += [f"vt {x + 0.5:.4f} {y + 0.5:.4f}" for x, y, _ in vertices] if textured else []
        lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals]
        for k, face in enumerate(solid.faces):
            parts = [f"{v + first_vertex}/{v + first_texture if textured else ''}/{k + first_normal}" for v in face]
            lines.append(" ".join(["f", *parts]))
        if with_lines and index == 0:
            top = [v + first_vertex for v in solid.faces[-1]]
            lines += [f"l {a} {b}" for a, b in zip(top, [*top[1:], top[0]], strict=True)]
        first_vertex += len(vertices)
        first_texture += len(vertices) if textured else 0
        first_normal += len(normals)
    return lines


def _mtl_lines() -> list[str]:
    return [line for name, colour in _MATERIALS.items() for line in (f"newmtl {name}", f"Kd {colour}", "d 1.0", "")]


# ------------------------------------------------------------------------------------------------- ModelNet40


def write_modelnet(
    root: Path,
    layout: Literal["off", "txt", "h5"],
    train: int = 3,
    test: int = 2,
    points: int = 2048,
    seed: int = 0,
) -> Path:
    """Write five classes of ModelNet40 in one of its published layouts.

    Parameters
    ----------
    root
        Existing or new folder.
    layout
        "off": `ModelNet40/<class>/<split>/<class>_<nnnn>.off`, z-up triangle meshes in arbitrary units; of
        every class the first has its counts glued to the word OFF and the second has comments.
        "txt": `modelnet40_normal_resampled/<class>/<id>.txt` of x,y,z,nx,ny,nz in the unit sphere, with the
        lists of splits and names.
        "h5": `modelnet40_ply_hdf5_2048/ply_data_{train,test}0.h5` with data, normal (N, points, 3) float32,
        label (N, 1) uint8.
    train, test
        Models of each class; test numbers follow the train numbers.
    points
        Points of each cloud, for "txt" and "h5".
    seed
        Of all shapes and samples.
    """
    models = [
        _ModelNetItem(
            name,
            "train" if k < train else "test",
            k,
            np.random.default_rng([seed, MODELNET40.index(name), k]),
        )
        for name in _MODELNET_OBJECTS
        for k in range(train + test)
    ]
    if layout == "off":
        return _write_modelnet_off(root / "ModelNet40", models)
    if layout == "txt":
        return _write_modelnet_txt(root / "modelnet40_normal_resampled", models, points)
    if layout == "h5":
        return _write_modelnet_h5(root / "modelnet40_ply_hdf5_2048", models, points)
    raise ValueError(f"layout is off, txt or h5, not {layout!r}")


@dataclass(frozen=True)
class _ModelNetItem:
    name: str
    split: str
    number: int
    rng: Generator

    @property
    def id(self) -> str:
        return f"{self.name}_{self.number + 1:04d}"

    def solids(self) -> list[Solid]:
        return OBJECTS[_MODELNET_OBJECTS[self.name]](self.rng)

    def cloud(self, points: int) -> tuple[Floats, Floats]:
        xyz, normals, _ = sample_surface(self.solids(), points, self.rng)
        return _unit_sphere(xyz), normals


def _write_modelnet_off(home: Path, models: Iterable[_ModelNetItem]) -> Path:
    for item in models:
        vertices, triangles, _ = triangulate(item.solids())
        vertices = vertices[:, [0, 2, 1]] * [1, -1, 1] * item.rng.uniform(20, 60)
        counts = f"{len(vertices)} {len(triangles)} 0"
        head = {0: [f"OFF{counts}"], 1: ["OFF", "# an analytic sample model", counts, "# vertices"]}.get(
            item.number, ["OFF", counts]
        )
        body = [f"{x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + [f"3 {a} {b} {c}" for a, b, c in triangles]
        _write_text(home / item.name / item.split / f"{item.id}.off", head + body)
    return home


def _write_modelnet_txt(home: Path, models: Sequence[_ModelNetItem], points: int) -> Path:
    for item in models:
        rows = np.hstack(item.cloud(points)).tolist()
        _write_text(home / item.name / f"{item.id}.txt", [",".join(f"{value:.6f}" for value in row) for row in rows])
    _write_text(home / "modelnet40_shape_names.txt", MODELNET40)
    for split in ("train", "test"):
        _write_text(home / f"modelnet40_{split}.txt", [item.id for item in models if item.split == split])
    return home


def _write_modelnet_h5(home: Path, models: Sequence[_ModelNetItem], points: int) -> Path:
    _write_text(home / "shape_names.txt", MODELNET40)
    for split in ("train", "test"):
        chosen = [item for item in models if item.split == split]
        clouds = np.array([item.cloud(points) for item in chosen], dtype=np.float32).reshape(-1, 2, points, 3)
        label = np.array([[MODELNET40.index(item.name)] for item in chosen], dtype=np.uint8).reshape(-1, 1)
        _write_h5(home / f"ply_data_{split}0.h5", {"data": clouds[:, 0], "label": label, "normal": clouds[:, 1]})
        _write_text(home / f"{split}_files.txt", [f"data/{home.name}/ply_data_{split}0.h5"])
        _write_text(
            home / f"ply_data_{split}_0_id2file.json",
            [json.dumps([f"{item.name}/{item.id}.ply" for item in chosen])],
        )
    return home


# ----------------------------------------------------------------------------------------------- ScanObjectNN


@dataclass(frozen=True)
class _Variant:
    """How a ScanObjectNN variant cuts objects out of scenes; `shift` is a share of the object's box."""

    folder: str
    stem: str
    copies: int = 1
    shift: float = 0.0
    rotate: bool = False
    scale: float = 0.0


_VARIANTS = {
    "OBJ-BG": _Variant("main_split", "objectdataset"),
    "OBJ-ONLY": _Variant("main_split_nobg", "objectdataset"),
    "PB-T25": _Variant("main_split", "objectdataset_augmented25_norot", 5, 0.25),
    "PB-T25-R": _Variant("main_split", "objectdataset_augmented25rot", 5, 0.25, rotate=True),
    "PB-T50-R": _Variant("main_split", "objectdataset_augmentedrot", 5, 0.5, rotate=True),
    "PB-T50-RS": _Variant("main_split", "objectdataset_augmentedrot_scale75", 5, 0.5, rotate=True, scale=0.25),
}
_VISIBLE_SHARE = 48  # surface samples taken for each point kept: what is hidden or outside the box is lost


def write_scanobjectnn(
    root: Path, variant: str = "OBJ-BG", objects: int = 12, points: int = 2048, seed: int = 0
) -> Path:
    """Write `h5_files/<split folder>/{training,test}_<stem>.h5` of one variant.

    An object stands on a floor before a wall; two cameras in front see its near side. The scans are y-up, in
    metres, with 4 mm of noise. A variant's box, shifted, cuts points out of the scene; the PB variants hold
    five consecutive rows of each object, so rows of one object must stay in one split. Variants of one seed
    show the same objects.

    Parameters
    ----------
    root
        Existing or new folder; further variants may be written into the same one.
    variant
        OBJ-BG, OBJ-ONLY, PB-T25, PB-T25-R, PB-T50-R or PB-T50-RS.
    objects
        Objects in the training file; the test file has a quarter as many, at least one.
    points
        Points of each scan.
    seed
        Of all scans.

    Returns
    -------
    Path
        `h5_files`. A file holds data (N, points, 3) float32, label (N,) int32 and mask (N, points) int32: -1
        for background, else the number of the object in its scene.
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant is one of {', '.join(_VARIANTS)}, not {variant!r}")
    cut = _VARIANTS[variant]
    home = root / "h5_files"
    for s, (split, count) in enumerate((("training", objects), ("test", max(1, objects // 4)))):
        data, mask, label = [], [], []
        for k in range(count):
            rng = np.random.default_rng([seed, s, k])
            name = _SCANNED[k % len(_SCANNED)]
            scene, is_object = _scan(OBJECTS[name](rng), _VISIBLE_SHARE * points, rng)
            instance = int(rng.integers(0, 40))
            for _ in range(cut.copies):
                xyz, inside = _cut_out(scene, is_object, cut, points, rng)
                data.append(xyz)
                mask.append(np.where(inside, instance, -1))
                label.append(SCANOBJECTNN.index(name))
        arrays = {"data": np.array(data, "f4"), "label": np.array(label, "i4"), "mask": np.array(mask, "i4")}
        _write_h5(home / cut.folder / f"{split}_{cut.stem}.h5", arrays)
    return home


def _scan(solids: list[Solid], samples: int, rng: Generator) -> tuple[Floats, NDArray[np.bool_]]:
    low, high = bounds(solids)
    reach = 1.3 * (high - low)
    wall_z = low[2] - rng.uniform(0.02, 0.1)
    right, front, top = reach[0], reach[2], 2 * reach[1]
    floor = [[-right, 0, wall_z], [-right, 0, front], [right, 0, front], [right, 0, wall_z]]
    wall = [[-right, 0, wall_z], [right, 0, wall_z], [right, top, wall_z], [-right, top, wall_z]]
    room = [Solid(name, np.array(corners), ((0, 1, 2, 3),)) for name, corners in (("floor", floor), ("wall", wall))]
    xyz, _, owner = sample_surface([*solids, *room], samples, rng)
    size = float(np.linalg.norm(high - low))
    seen = np.zeros(samples, dtype=bool)
    for azimuth in rng.uniform([-0.9, 0.2], [-0.2, 0.9]):
        elevation = rng.uniform(0.3, 0.6)
        towards = [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
        seen |= _visible(xyz, (low + high) / 2 + 2.5 * size * np.array(towards), np.array(towards), size)
    noise = rng.normal(scale=0.004, size=xyz.shape)
    return (xyz + noise)[seen], (owner < len(solids))[seen]


def _visible(xyz: Floats, camera: Floats, towards: Floats, size: float) -> NDArray[np.bool_]:
    """Keep points at most 4 % of `size` behind the nearest point of their pixel; a pixel is 2 % wide."""
    right = np.cross([0.0, 1.0, 0.0], towards)
    right /= np.linalg.norm(right)
    depth = (camera - xyz) @ towards
    image = np.stack([(xyz - camera) @ right, (xyz - camera) @ np.cross(towards, right)]) / depth
    column, row = np.floor(image * (2.5 / 0.02)).astype(np.int64)
    row, column = row - row.min(), column - column.min()
    pixel = row * (int(column.max()) + 1) + column
    nearest = np.full(int(pixel.max()) + 1, np.inf)
    np.minimum.at(nearest, pixel, depth)
    return np.asarray(depth <= nearest[pixel] + 0.04 * size)


def _cut_out(
    scene: Floats, is_object: NDArray[np.bool_], cut: _Variant, points: int, rng: Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    low, high = scene[is_object].min(axis=0), scene[is_object].max(axis=0)
    shift = cut.shift * rng.uniform(-1, 1, 3) * (high - low)
    half = (high - low) / 2 * (1.1 + cut.scale * rng.uniform(-1, 1))
    while True:
        kept = (np.abs(scene - (low + high) / 2 - shift) <= half).all(axis=1)
        # An object cut to less than half is not in the data set.
        if 2 * (kept & is_object).sum() >= is_object.sum():
            break
        shift, half = shift / 2, np.maximum(half, 0.51 * (high - low))
    candidates = np.flatnonzero(kept & is_object if cut.folder.endswith("nobg") else kept)
    chosen = rng.choice(candidates, points, replace=False)
    turn = rng.uniform(0, 2 * np.pi) if cut.rotate else 0.0
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    return scene[chosen] @ about_y.T, is_object[chosen]


# ------------------------------------------------------------------------------------- point-query npz caches


@dataclass(frozen=True)
class _Torus:
    """A torus about z with an exact distance; `major` = 0 makes it a sphere."""

    major: float
    minor: float

    def sdf(self, xyz: Floats) -> Floats:
        return np.asarray(np.hypot(np.hypot(xyz[..., 0], xyz[..., 1]) - self.major, xyz[..., 2]) - self.minor)

    def normals(self, xyz: Floats) -> Floats:
        flat = xyz * [1, 1, 0]
        outward = xyz - self.major * flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
        return np.asarray(outward / np.linalg.norm(outward, axis=-1, keepdims=True))

    def sample(self, count: int, rng: Generator) -> Floats:
        """Uniform by area: the area element is proportional to |major + minor cos v|."""
        v = rng.uniform(-np.pi, np.pi, 8 * count + 64)
        accepted = rng.random(len(v)) * (self.major + self.minor) < np.abs(self.major + self.minor * np.cos(v))
        v, u = v[accepted][:count], rng.uniform(0, 2 * np.pi, count)
        reach = self.major + self.minor * np.cos(v)
        return np.stack([reach * np.cos(u), reach * np.sin(u), self.minor * np.sin(v)], axis=1)

    def first_hit(self, origin: Floats, direction: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """March rays by the distance to the surface until within 1e-7 of it (Hart, Sphere tracing, 1996)."""
        t = np.zeros(len(origin))
        for _ in range(1000):
            gap = self.sdf(origin + t[:, None] * direction)
            moving = (gap > 1e-7) & (t < 6.0)
            if not moving.any():
                break
            t = np.where(moving, t + gap, t)
        hit = gap <= 1e-7
        return hit, np.where(hit, t, 0.0)


def write_nepa_cache(
    root: Path,
    kind: Literal["mesh", "scan"] = "mesh",
    train: int = 3,
    test: int = 1,
    points: int = 256,
    pool: int = 1000,
    grid: int = 16,
    views: int = 4,
    rays_per_view: int = 32,
    seed: int = 0,
) -> Path:
    """Write a cache of point queries and rays, one compressed npz a shape, for spheres and tori.

    Distances, normals and mesh rays are those of the exact surface; everything that a cache derives from its
    own points (orders, nearest point, grids, occupancy rays) is derived from them by the definitions of the
    real caches.

    Parameters
    ----------
    root
        Existing or new folder: the cache itself.
    kind
        "mesh": `{train,test}/<synset>/<model>.npz` with all keys, and `_splits/`. "scan":
        `{train,test}/class_<nnn>/<h5 stem>_<row>.npz` with zero normals, zero rays and neither grids nor the
        keys derived of them, and `_meta/`.
    train, test
        Shapes of each of the two classes.
    points, pool, grid, views, rays_per_view
        Sizes of pc_xyz, of the query pool, of the grids (cells a side) and of the ray pool.
    seed
        Of all shapes.
    """
    if kind not in ("mesh", "scan"):
        raise ValueError(f"kind is mesh or scan, not {kind!r}")
    for s, (split, count) in enumerate((("train", train), ("test", test))):
        listed = []
        for c, synset in enumerate(("02880940", "03797390")):
            for k in range(count):
                rng = np.random.default_rng([seed, s, c, k])
                minor = rng.uniform(0.2, 0.35) if c else 1.0
                shape = _Torus(1.0 - minor, minor)
                if kind == "mesh":
                    arrays = _mesh_queries(shape, points, pool, rng)
                    arrays |= _grid_queries(arrays, grid)
                    arrays |= _rays(shape, arrays, views, rays_per_view, rng)
                    model = rng.bytes(16).hex()
                    path = root / split / synset / f"{model}.npz"
                    listed.append(f"data/ShapeNetCore.v2/{synset}/{model}/models/model_normalized.obj")
                else:
                    arrays = _scan_queries(shape, points, pool, views * rays_per_view, rng)
                    path = root / split / f"class_{c:03d}" / f"{_STEMS[split]}_{c * count + k:06d}.npz"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
        if kind == "mesh":
            _write_text(root / "_splits" / f"{split}.txt", listed)
        else:
            source = [
                "scan_root=data/ScanObjectNN",
                f"split={split}",
                f"seed={seed}",
                f"pt_pool={pool}",
                f"h5={_STEMS[split]}.h5",
            ]
            _write_text(root / "_meta" / f"scanobjectnn_{split}_source.txt", source)
    return root


_STEMS = {"train": "training_objectdataset", "test": "test_objectdataset"}


def _mesh_queries(shape: _Torus, points: int, pool: int, rng: Generator) -> dict[str, NDArray[Any]]:
    xyz = shape.sample(points, rng).astype(np.float32)
    queries = _query_pool(xyz, pool, rng)
    return {
        "pc_xyz": xyz,
        "pc_n": shape.normals(xyz.astype(np.float64)).astype(np.float32),
        "pc_fps_order": _fps_order(xyz, points),
        "pt_xyz_pool": queries,
        "pt_dist_pool": np.abs(shape.sdf(queries.astype(np.float64))).astype(np.float32),
        "pt_dist_pc_pool": np.asarray(cKDTree(xyz).query(queries)[0], dtype=np.float32),
        "pt_fps_order": _fps_order(queries, min(points, pool)),
    }


def _scan_queries(shape: _Torus, points: int, pool: int, rays: int, rng: Generator) -> dict[str, NDArray[Any]]:
    surface = shape.sample(8 * points + 64, rng)
    xyz = _unit_sphere(surface[surface[:, 0] > 0.2 * surface[:, 2]][:points]).astype(np.float32)
    queries = _query_pool(xyz, pool, rng)
    nothing: dict[str, NDArray[Any]] = {
        key: np.zeros((rays, 3), np.float32) for key in ("ray_o_pool", "ray_d_pool", "ray_n_pool")
    }
    nothing |= {key: np.zeros(rays, np.float32) for key in ("ray_hit_pool", "ray_t_pool")}
    return {
        "pc_xyz": xyz,
        "pc_n": np.zeros_like(xyz),
        "pc_fps_order": _fps_order(xyz, points),
        "pt_xyz_pool": queries,
        "pt_dist_pool": np.asarray(cKDTree(xyz).query(queries)[0], dtype=np.float32),
        **nothing,
    }


def _query_pool(xyz: NDArray[np.float32], pool: int, rng: Generator) -> NDArray[np.float32]:
    near = xyz[rng.integers(0, len(xyz), pool - round(0.5 * pool))]
    near = np.clip(near + rng.normal(scale=0.02, size=near.shape), -1, 1)
    return np.concatenate([rng.uniform(-1, 1, (round(0.5 * pool), 3)), near]).astype(np.float32)


def _fps_order(xyz: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """Order points farthest first, from the one farthest from the centroid; ties go to the lowest index."""
    order = np.empty(count, dtype=np.int32)
    squared = ((xyz - xyz.mean(axis=0)) ** 2).sum(axis=1)
    nearest = np.full(len(xyz), np.inf)
    for k in range(count):
        order[k] = squared.argmax() if k == 0 else nearest.argmax()
        nearest = np.minimum(nearest, ((xyz - xyz[order[k]]) ** 2).sum(axis=1))
        nearest[order[k]] = -1.0  # coincident points must not bring it back
    return order


def _grid_queries(arrays: Mapping[str, NDArray[Any]], grid: int) -> dict[str, NDArray[Any]]:
    occupied = np.zeros((grid, grid, grid), dtype=bool)
    cells = np.clip(np.floor((arrays["pc_xyz"].astype(np.float64) + 1) * grid / 2).astype(int), 0, grid - 1)
    occupied[tuple(cells.T)] = True
    occupied = ndimage.binary_dilation(occupied)
    udf = ndimage.distance_transform_edt(~occupied, sampling=2 / grid).astype(np.float16)
    index = (arrays["pt_xyz_pool"].astype(np.float64) + 1) * grid / 2 - 0.5
    at_queries: Floats = ndimage.map_coordinates(udf.astype(np.float64), index.T, order=1, mode="nearest")
    return {
        "udf_grid": udf,
        "occ_grid": occupied.astype(np.uint8),
        "pt_dist_udf_pool": at_queries.astype(np.float32),
        "df_grid": np.array([grid], np.int32),
        "df_dilate": np.array([1], np.int32),
    }


def _rays(
    shape: _Torus, arrays: Mapping[str, NDArray[Any]], views: int, per_view: int, rng: Generator
) -> dict[str, NDArray[Any]]:
    origin, direction = _camera_rays(views, per_view, rng)
    o, d = origin.astype(np.float64), direction.astype(np.float64)
    hit, t = shape.first_hit(o, d)
    at_hit = o + t[:, None] * d
    normal = np.where(hit[:, None], shape.normals(at_hit), 0.0)
    pc_hit, pc_t = _first_occupied(arrays["occ_grid"] > 0, o, d)
    nearest = cKDTree(arrays["pc_xyz"]).query(o + pc_t[:, None] * d)[1]
    pc_normal = np.where(pc_hit[:, None], arrays["pc_n"][nearest], 0.0)
    rays = {
        "ray_o_pool": origin,
        "ray_d_pool": direction,
        "ray_hit_pool": hit,
        "ray_t_pool": t,
        "ray_n_pool": normal,
        "ray_hit_pc_pool": pc_hit,
        "ray_t_pc_pool": pc_t,
        "ray_n_pc_pool": pc_normal,
    }
    return {key: value.astype(np.float32) for key, value in rays.items()}


def _camera_rays(views: int, per_view: int, rng: Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shoot rays at the origin from a rising spiral of radius 2.2: up is z, field of view 60 degrees."""
    azimuth = np.arange(views) * (2 * np.pi / views)
    elevation = np.linspace(-0.35 * np.pi, 0.35 * np.pi, views)
    flat = np.cos(elevation)
    back = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros(views)], axis=1)
    u, v = np.tan(np.pi / 6) * rng.uniform(-1, 1, (2, views, per_view, 1))
    direction = u * right[:, None] + v * np.cross(back, right)[:, None] - back[:, None]
    direction = (direction / np.linalg.norm(direction, axis=-1, keepdims=True)).reshape(-1, 3)
    origin = np.repeat(2.2 * back, per_view, axis=0)
    return origin.astype(np.float32), direction.astype(np.float32)


def _first_occupied(occupied: NDArray[np.bool_], origin: Floats, direction: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Find where rays enter the first occupied cell of a grid over [-1, 1]^3.

    A ray is cut at every plane between cells, so each piece lies in one cell: that of its middle.
    """
    cells = len(occupied)
    safe = np.where(np.abs(direction) < 1e-9, 1e-9, direction)[:, :, None]
    t = (np.linspace(-1, 1, cells + 1) - origin[:, :, None]) / safe
    enter, leave = t.min(axis=2).max(axis=1), t.max(axis=2).min(axis=1)
    cuts = np.sort(np.clip(t.reshape(len(t), -1), enter[:, None], np.maximum(enter, leave)[:, None]), axis=1)
    middle = (cuts[:, 1:, None] + cuts[:, :-1, None]) / 2 * direction[:, None] + origin[:, None]
    index = np.clip(np.floor((middle + 1) * cells / 2).astype(np.int64), 0, cells - 1)
    full = occupied[tuple(np.moveaxis(index, -1, 0))] & (np.diff(cuts) > 0)
    hit, first = full.any(axis=1), full.argmax(axis=1)
    return hit, np.where(hit, cuts[np.arange(len(cuts)), first], 0.0)


# ----------------------------------------------------------------------------------------------------- shared


def _unit_sphere(xyz: Floats) -> Floats:
    centred = xyz - xyz.mean(axis=0)
    return np.asarray(centred / np.linalg.norm(centred, axis=1).max())


def _write_text(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_h5(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", track_times=False)
