"""The array specs that recipes and caches share: one constructor for each kind of array."""

from __future__ import annotations

from shapestore.schemas.array import ArraySpec, Code, DType, Kind
from shapestore.schemas.families import FpsOrder, MeshFacts, RayReturns, SdfSamples, SignFacts

SIGN_METHODS = tuple(Code(value=i, name=name) for i, name in enumerate(("winding", "visibility", "escape")))
"""Ways to tell inside from outside, by the names that the geometry gives them."""

_NO_YES = (Code(value=0, name="no"), Code(value=1, name="yes"))

CELL_CENTRES = "indices are (x, y, z); cell i has its centre at -1 + (i + 0.5) * 2 / {size} on every axis"


def label_codes(names: tuple[str, ...]) -> tuple[Code, ...]:
    """0 for outside, then the classes from 1 in their order."""
    return (Code(value=0, name="outside"), *(Code(value=i, name=name) for i, name in enumerate(names, start=1)))


def points_spec(name: str, count: int, role: str, long_name: str) -> ArraySpec:
    """(count, 3) float32."""
    return ArraySpec(
        name=name,
        dims=(_dimension(name), "xyz"),
        shape=(count, 3),
        dtype="float32",
        long_name=long_name,
        role=role,
        comment="right-handed axes x, y, z; normalised = (raw - shift) * scale",
    )


def distance_spec(name: str, count: int, long_name: str, role: str = "query_pool") -> ArraySpec:
    """(count,) float32."""
    dims = (_dimension(name),)
    return ArraySpec(name=name, dims=dims, shape=(count,), dtype="float32", long_name=long_name, role=role)


def order_family(name: str, pool: str, pool_size: int, length: int) -> FpsOrder:
    """(length,) int32 order over `pool`."""
    spec = ArraySpec(
        name=name,
        dims=(f"{name}_rank",),
        shape=(length,),
        dtype="int32",
        long_name=f"farthest-point order over {pool}",
        role="fps_order",
        pool=pool,
    )
    return FpsOrder(order=spec, pool_size=pool_size)


def grid_spec(name: str, size: int, dtype: DType = "float32", kind: Kind = "packed", signed: bool = False) -> ArraySpec:
    """(size, size, size) distances, unsigned or negative inside."""
    return ArraySpec(
        name=name,
        dims=("x", "y", "z"),
        shape=(size, size, size),
        dtype=dtype,
        kind=kind,
        long_name=f"{'signed distance, negative inside,' if signed else 'unsigned distance'} at cell centres",
        role="sdf_grid" if signed else "udf_grid",
        comment=CELL_CENTRES.format(size=size),
    )


def occupancy_spec(name: str, size: int, what: str) -> ArraySpec:
    """(size, size, size) uint8, 1 where occupied."""
    return ArraySpec(
        name=name,
        dims=("x", "y", "z"),
        shape=(size, size, size),
        dtype="uint8",
        kind="packed",
        long_name=what,
        role="occupancy_grid",
        codes=(Code(value=0, name="free"), Code(value=1, name="occupied")),
        comment=CELL_CENTRES.format(size=size),
    )


def label_grid_spec(name: str, size: int, codes: tuple[Code, ...]) -> ArraySpec:
    """(size, size, size) int8 class codes."""
    return ArraySpec(
        name=name,
        dims=("x", "y", "z"),
        shape=(size, size, size),
        dtype="int8",
        kind="packed",
        long_name="class of the raw label map at cell centres, 0 outside all classes",
        role="label_grid",
        codes=codes,
        comment=CELL_CENTRES.format(size=size),
    )


def mesh_facts() -> MeshFacts:
    """`mesh_*`: what the raw mesh is like."""
    counts = {
        "mesh_vertices": "vertices in use after welding",
        "mesh_faces": "faces after welding, each once",
        "mesh_components": "groups of faces that share vertices",
        "mesh_dropped_faces": "raw faces without area",
        "mesh_duplicate_faces": "raw faces that repeat another one, in either winding",
    }
    flags = {
        "mesh_watertight": "every edge has exactly two faces",
        "mesh_winding_consistent": "faces agree on inside and outside at every edge",
    }
    volume = "signed volume in cubed raw units, > 0 for outward faces"
    return MeshFacts(
        counts=tuple(_fact(name, "int32", text, "mesh_facts") for name, text in counts.items()),
        flags=tuple(_fact(name, "uint8", text, "mesh_facts", _NO_YES) for name, text in flags.items()),
        volume=_fact("mesh_volume", "float64", volume, "mesh_facts"),
    )


def sign_facts() -> SignFacts:
    """`sign_method`, `sign_confidence`: how inside was told from outside."""
    return SignFacts(
        method=_fact("sign_method", "uint8", "how inside was told from outside", "sign_facts", SIGN_METHODS),
        confidence=_fact(
            "sign_confidence", "float32", "share of test positions on which independent methods agree", "sign_facts"
        ),
    )


def _fact(name: str, dtype: DType, long_name: str, role: str, codes: tuple[Code, ...] = ()) -> ArraySpec:
    """One value a row."""
    return ArraySpec(
        name=name, dims=(), shape=(), dtype=dtype, kind="index", long_name=long_name, role=role, codes=codes
    )


def ray_returns(tag: str, count: int, what: str, normals: bool = True) -> RayReturns:
    """Hit, depth and normal arrays named `ray_{hit,t,n}<tag>_pool`."""
    hit = ArraySpec(
        name=f"ray_hit{tag}_pool",
        dims=("ray",),
        shape=(count,),
        dtype="uint8",
        long_name=f"whether the ray hits {what}",
        role="ray_pool",
        codes=(Code(value=0, name="miss"), Code(value=1, name="hit")),
    )
    depth = distance_spec(f"ray_t{tag}_pool", count, f"depth t of the first hit on {what}, 0 for a miss", "ray_pool")
    normal = points_spec(f"ray_n{tag}_pool", count, "ray_pool", f"unit normal of {what} at the hit, 0 for a miss")
    return RayReturns(hit=hit, depth=depth, normals=normal if normals else None)


def sample_family(where: str, count: int, codes: tuple[Code, ...], counted: bool = False) -> SdfSamples:
    """`<tag>_points`, `<tag>_sdf`, `<tag>_labels`, with `<tag>_count` where rows differ in their count."""
    tag = "vol" if where == "volume" else where
    label = ArraySpec(
        name=f"{tag}_labels",
        dims=(f"{tag}_point",),
        shape=(count,),
        dtype="int8",
        long_name=f"class of {tag}_points, 0 outside all classes",
        role="sdf_samples",
        pool=f"{tag}_points",
        codes=codes,
    )
    sdf = distance_spec(f"{tag}_sdf", count, "signed distance, negative inside, least over all classes", "sdf_samples")
    filled = ArraySpec(
        name=f"{tag}_count",
        dims=(),
        shape=(),
        dtype="int32",
        kind="index",
        long_name=f"filled entries of {tag}_points",
        role="sdf_samples",
    )
    return SdfSamples.model_validate(
        {
            "where": where,
            "points": points_spec(f"{tag}_points", count, "sdf_samples", f"{where} samples"),
            "sdf": None if where == "surface" else sdf,
            "labels": label,
            "count": filled if counted else None,
        }
    )


def _dimension(name: str) -> str:
    """Name of the point dimension that an array of points or per-point values runs along."""
    prefix = name.split("_", maxsplit=1)[0]
    return "ray" if prefix == "ray" else f"{prefix}_point"
