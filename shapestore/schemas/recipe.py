"""`Recipe`: what a store is made of, and how; with the raw files it determines every byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from shapestore.schemas.array import Name
from shapestore.schemas.base import Strict, digest

MOST_POINTS = 2**24
"""Most points, queries or rays of one shape: far beyond any use, and still in reach of memory."""

Count = Annotated[int, Field(ge=1, le=MOST_POINTS)]
"""A number of points of one shape, at least one."""

CountOrNone = Annotated[int, Field(ge=0, le=MOST_POINTS)]
"""A number of points of one shape; 0 for none."""

GridSize = Annotated[int, Field(ge=1, le=512)]
"""Cells along each side of the cube."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Seed of random draws."""

Sigma = Annotated[float, Field(gt=0, le=2)]
"""Standard deviation of an offset, normalised units; the cube is 2 wide."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole, 0 to 1."""

Input = Literal["mesh", "cloud", "label_map", "cache"]
"""What one raw item is: a triangle mesh, a point cloud, a label map, or a cache of finished arrays."""

CheckName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
"""Name of a quality check, such as `sign-balance`."""

Variant = Literal["OBJ-BG", "OBJ-ONLY", "PB-T25", "PB-T25-R", "PB-T50-R", "PB-T50-RS"]
"""The variants of ScanObjectNN (Uy et al., 2019), by their published names."""


class SourceOptions(Strict):
    """How a dataset is read where its files leave a choice."""

    variants: tuple[Variant, ...] = ()
    """ScanObjectNN variants to ingest; empty: the one that is there, several being an error."""
    test_share: Share = 0.1
    """Share of each category that the hash split makes `test`, where the dataset has no split of its own."""
    split_seed: Seed = 0
    """Seed of the hash split."""


class Limits(Strict):
    """What one item may take; one that takes more is quarantined. Not part of the digest: it changes no row."""

    seconds: PositiveFloat = 600.0
    """Time to read and compute it, in a worker process; a 256^3 label map of ten classes takes about 10."""
    memory_gib: PositiveFloat = 4.0
    """Memory beside what the worker holds already (enforced on Linux); the same map takes 0.5."""


class PointsPart(Strict):
    """Points of the surface: `pc_xyz`, `pc_n`, `pc_fps_order`, `pc_mask`."""

    count: Count = 2048
    """Points of a shape: sampled from a mesh by area, or drawn from a cloud without replacement."""
    blue_noise: bool = False
    """Thin out more samples of a mesh until none are close to each other, instead of drawing each on its own."""
    normals: bool = True
    """Keep unit normals; a cloud without them is then refused."""
    fps_order: CountOrNone = 2048
    """Length of the farthest-point order over the points; 0 for none."""
    mask: bool = False
    """Keep which points are background (scans only)."""

    @model_validator(mode="after")
    def _order_fits(self) -> Self:
        """An order is not longer than its pool."""
        if self.fps_order > self.count:
            raise ValueError(f"fps_order {self.fps_order} is longer than its pool of {self.count} points")
        return self


class QueriesPart(Strict):
    """Query positions with unsigned distances: `pt_xyz_pool`, `pt_dist_pool`, `pt_dist_pc_pool`, ..."""

    count: Count = 20_000
    """Query positions of a shape."""
    near_ratio: Share = 0.5
    """Share of them near the surface; the rest is uniform in the cube."""
    sigma: Sigma = 0.02
    """Standard deviation of the offset of near positions from the surface points, per axis, normalised units."""
    order: Literal["shuffled", "uniform-first"] = "shuffled"
    """`shuffled`: every slice is unbiased. `uniform-first`: as in the NEPA-3D caches, for reproduction."""
    distance: Literal["surface", "sampled", "cloud"] = "surface"
    """What `pt_dist_pool` measures: the exact surface, samples of it (NEPA-3D's `kdtree` mode), or the cloud."""
    reference_points: Count = 8192
    """Surface samples of the `sampled` mode."""
    signed: bool = False
    """Also keep the exact signed distance to the surface, negative inside, as `pt_sdf_pool`."""
    cloud_distance: bool = True
    """Also keep the distance to the nearest of `pc_xyz`, as `pt_dist_pc_pool`."""
    grid_distance: bool = True
    """Also keep the distance read from `udf_grid`, as `pt_dist_udf_pool`."""
    fps_order: CountOrNone = 2048
    """Length of the farthest-point order over the query positions; 0 for none."""

    @model_validator(mode="after")
    def _order_fits(self) -> Self:
        """An order is not longer than its pool."""
        if self.fps_order > self.count:
            raise ValueError(f"fps_order {self.fps_order} is longer than its pool of {self.count} points")
        return self


class GridPart(Strict):
    """Grids over the cube: `udf_grid`, `sdf_grid`, `occ_grid`, `solid_grid`."""

    size: GridSize = 64
    """Cells along each axis."""
    udf: Literal["surface", "cloud", "occupancy"] = "surface"
    """What the unsigned distance measures: the exact surface, the nearest of `pc_xyz`, or the nearest occupied cell (as
    in the NEPA-3D caches, for reproduction)."""
    signed: bool = False
    """Also keep the exact signed distance to the surface, negative inside, as `sdf_grid`."""
    solid: bool = False
    """Also keep the cells whose centre is inside the shape, as `solid_grid`."""
    dilate: Annotated[int, Field(ge=0, le=64)] = 1
    """Dilations of the occupied cells."""
    occupancy: bool = True
    """Keep the cells that `pc_xyz` occupies, as `occ_grid`."""


class RaysPart(Strict):
    """Rays from cameras on a sphere: `ray_o_pool`, `ray_d_pool` and what they hit."""

    count: Count = 8000
    """Rays of a shape."""
    views: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Cameras, with azimuths all around."""
    rays_per_view: Count = 400
    """Rays of a camera; views * rays_per_view is at least `count`."""
    radius: Annotated[float, Field(gt=0, le=100)] = 2.2
    """Distance of the cameras from the origin, normalised units."""
    elevation: Annotated[float, Field(gt=0, lt=90)] = 63.0
    """Cameras rise from minus this to plus this elevation, degrees."""
    field_of_view: Annotated[float, Field(gt=0, lt=180)] = 60.0
    """Vertical field of view, degrees."""
    mesh: bool = True
    """Keep the first hit on the mesh: `ray_hit_pool`, `ray_t_pool`, `ray_n_pool`."""
    cloud: bool = True
    """Keep the first hit on the occupied cells: `ray_hit_pc_pool`, `ray_t_pc_pool`, `ray_n_pc_pool`."""

    @model_validator(mode="after")
    def _enough_rays(self) -> Self:
        """The cameras give at least as many rays as are kept, and no more than memory holds."""
        if self.views * self.rays_per_view < self.count:
            raise ValueError(f"{self.views} views of {self.rays_per_view} rays give fewer than {self.count} rays")
        if self.views * self.rays_per_view > MOST_POINTS:
            raise ValueError(f"{self.views} views of {self.rays_per_view} rays give more than {MOST_POINTS} rays")
        return self


class LabelsPart(Strict):
    """Which voxels of a label map belong to which class."""

    scheme: Literal["heart-10", "single", "mapping"] = "heart-10"
    """`heart-10`: the ten classes of whole-heart maps. `single`: all but 0 is one structure. `mapping`: `classes`."""
    classes: Mapping[str, int | str] = {}
    """For `mapping`: class name to its value in the map, or to its file's name without ending in a folder of masks."""
    layout: Literal["file", "folder"] = "file"
    """One case is one label map, or one folder with a mask for each structure."""
    undeclared: Literal["refuse", "background"] = "refuse"
    """What values (or masks) that no class declares are: an error, or background."""
    smoothing: Annotated[float, Field(ge=0, le=100)] = 0.7
    """Blur of a class mask before its surface is taken, as a standard deviation in voxels (the root mean square of the
    voxel's edges, the same distance along every axis); what it would wear away is not blurred."""
    distance: Literal["surface", "edt"] = "surface"
    """What signed distances measure: the exact class surfaces, or voxel centres by a pair of Euclidean distance
    transforms a class (as in the VecSetX caches, for reproduction; their slope at the surface is 1.6)."""
    grid: Annotated[int, Field(ge=0, le=512)] = 0
    """Cells along each axis of `label_grid`, the raw labels over the normalised cube, to look at; 0: not kept."""

    @model_validator(mode="after")
    def _classes_fit_scheme(self) -> Self:
        """A mapping has classes that files or values can be told by; other schemes bring their own."""
        if (self.scheme == "mapping") != bool(self.classes):
            raise ValueError("`classes` belongs to scheme `mapping`, which needs it")
        if len(self.classes) > 127 or len(set(self.classes.values())) < len(self.classes):
            raise ValueError("a mapping has at most 127 classes, each with a value or file of its own")
        if self.layout == "file" and any(isinstance(value, str) or value <= 0 for value in self.classes.values()):
            raise ValueError("classes of layout `file` are positive values of the map")
        if self.layout == "folder" and any(not isinstance(value, str) for value in self.classes.values()):
            raise ValueError("classes of layout `folder` are names of mask files")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Class names; the class at position i has code i + 1."""
        return tuple(self.class_values)

    @property
    def class_values(self) -> Mapping[str, int | str]:
        """Class name to raw value or file name, of whichever scheme."""
        if self.scheme == "heart-10":
            return HEART_10
        return {"structure": 1} if self.scheme == "single" else self.classes


HEART_10: Mapping[str, int] = {
    "Myocardium": 1,
    "LA": 2,
    "LV": 3,
    "RA": 4,
    "RV": 5,
    "Aorta": 6,
    "PA": 7,
    "LAA": 8,
    "Coronary": 9,
    "PV": 10,
}
"""Whole-heart classes of the public cardiac CT label set: name to value."""


class SurfacePart(Strict):
    """Points on the class surfaces: `surface_points`, `surface_labels`."""

    count: Count = 50_000
    """Points of a case."""
    per_class_minimum: CountOrNone = 2000
    """Points that every present class gets at least; the rest goes by area."""


class VolumePart(Strict):
    """Points in the cube: `vol_points`, `vol_sdf`, `vol_labels`."""

    count: Count = 50_000
    """Points of a case."""
    inside_ratio: Share = 0.5
    """Share of points inside the classes."""
    per_class_minimum: CountOrNone = 2000
    """Inside points that every present class gets at least; the rest goes by volume."""


class NearPart(Strict):
    """Points near the class surfaces: `near_points`, `near_sdf`, `near_labels`."""

    count: Count = 50_000
    """Points of a case, half of them on each side."""
    sigma: Sigma = 0.01
    """Standard deviation of the offset along the normal, normalised units; halved where a wall is thinner."""


class CachePart(Strict):
    """Arrays of an existing npz cache; filled in by looking at the cache."""

    layout: Literal["nepa-mesh", "nepa-scan", "vecsetx"]
    """Which program wrote the cache, and so what its keys mean."""
    shapes: Mapping[Name, tuple[PositiveInt, ...]]
    """Row shape of every array to adopt; for variable counts, the capacity."""
    half_grids: Literal["packed", "widened"] = "packed"
    """float16 grids: kept as they are in a packed array, or widened to float32."""


class Recipe(Strict):
    """What to compute from every raw item, and how. A part that is left out is not computed."""

    name: Annotated[str, Field(max_length=1000)] = "unnamed"
    """Name for people; it is not part of the digest."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """One line for people; it is not part of the digest."""
    input: tuple[Input, ...] = Field(min_length=1)
    """Kinds of source that the recipe can work on."""
    seed: Seed = 0
    """Seed of all randomness; a row's own seed comes from it and the shape id."""
    source: SourceOptions = SourceOptions()
    """How the dataset is read."""
    points: PointsPart | None = None
    """Surface points."""
    queries: QueriesPart | None = None
    """Query positions and distances."""
    grid: GridPart | None = None
    """Distance and occupancy grids."""
    rays: RaysPart | None = None
    """Rays and hits."""
    labels: LabelsPart | None = None
    """Classes of label maps."""
    surface: SurfacePart | None = None
    """Points on class surfaces."""
    volume: VolumePart | None = None
    """Points in the volume of label maps."""
    near: NearPart | None = None
    """Points near class surfaces."""
    cache: CachePart | None = None
    """Arrays of an existing cache."""
    storage: Mapping[Name, Literal["mapped", "packed"]] = {}
    """How single arrays lie on disk, where that differs from the default (grids packed, all else mapped)."""
    checks: Mapping[CheckName, Mapping[str, bool | float | str]] = {}
    """Thresholds of quality checks that differ from their defaults; `gate` makes ingest quarantine what fails."""
    limits: Limits = Limits()
    """Time and memory of one item."""

    def canonical(self) -> dict[str, Any]:
        """All that determines the store's content, as plain JSON values."""
        values = self.model_dump(mode="json", exclude={"name", "description", "limits"})
        if self.labels is not None:  # the order of classes decides their codes, and JSON objects have none
            values["labels"]["classes"] = [list(each) for each in self.labels.classes.items()]
        return values

    @property
    def digest(self) -> str:
        """Sha256 of the canonical content: equal digests make equal stores from equal inputs."""
        return digest(self.canonical())

    @property
    def mesh_only(self) -> bool:
        """Whether every row comes from a mesh, so that what a mesh is like can be an array."""
        return self.input == ("mesh",)

    @property
    def needs_sign(self) -> bool:
        """Whether an array tells inside from outside of a mesh."""
        grid, queries = self.grid, self.queries
        return (grid is not None and (grid.signed or grid.solid)) or (queries is not None and queries.signed)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        """Every part has the parts that it builds on, and an input that it can be computed from."""
        wrong = [message for broken, message in self._contradictions() if broken]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _contradictions(self) -> list[tuple[bool, str]]:
        queries, rays, grid = self.queries, self.rays, self.grid
        needs_mesh = (rays is not None and rays.mesh) or (grid is not None and grid.udf == "surface")
        needs_mesh |= (queries is not None and queries.distance != "cloud") or self.needs_sign
        needs_mesh |= self.points is not None and self.points.blue_noise
        samples = [part for part in (self.surface, self.volume, self.near) if part is not None]
        computed = [self.points, queries, grid, rays, self.labels, *samples]
        return [
            (queries is not None and self.points is None, "`queries` needs `points`: it draws near them"),
            (grid is not None and self.points is None, "`grid` needs `points`: they occupy its cells"),
            (
                rays is not None and rays.cloud and grid is None,
                "`rays.cloud` needs `grid`: rays walk through its cells",
            ),
            (queries is not None and queries.grid_distance and grid is None, "`queries.grid_distance` needs `grid`"),
            (rays is not None and not (rays.mesh or rays.cloud), "`rays` needs `mesh` or `cloud` to hit"),
            (
                needs_mesh and not self.mesh_only,
                "surface distances, signs, blue noise and mesh rays need `input: [mesh]`",
            ),
            (
                queries is not None and queries.signed and queries.distance != "surface",
                "`queries.signed` needs `queries.distance: surface`",
            ),
            (("label_map" in self.input) != (self.labels is not None), "`labels` and `input: [label_map]` go together"),
            (bool(samples) and self.labels is None, "`surface`, `volume` and `near` need `labels`"),
            ("label_map" in self.input and not samples, "nothing to compute: add `surface`, `volume` or `near`"),
            ("label_map" in self.input and len(self.input) > 1, "label maps cannot be mixed with other inputs"),
            (self.cache is not None and any(computed), "`cache` adopts finished arrays: it goes with no other part"),
            ("cache" in self.input and len(self.input) > 1, "caches cannot be mixed with other inputs"),
            (
                not any(kind in self.input for kind in ("label_map", "cache")) and self.points is None,
                "nothing to compute: add `points`",
            ),
        ]
