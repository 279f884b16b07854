"""What the keys of known npz caches mean: which program wrote a file, and which arrays hang together.

`nepa-mesh` and `nepa-scan` are the caches of NEPA-3D for meshes and for ScanObjectNN, `vecsetx` are the cardiac samples
of VecSetX.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

Layout = Literal["nepa-mesh", "nepa-scan", "vecsetx"]

_RETURNS: Final[Mapping[str, tuple[str, ...]]] = {
    key: needs
    for tag in ("", "_pc")
    for key, needs in (
        (f"ray_hit{tag}_pool", ("ray_o_pool", f"ray_t{tag}_pool")),
        (f"ray_t{tag}_pool", ("ray_o_pool", f"ray_hit{tag}_pool")),
        (f"ray_n{tag}_pool", (f"ray_hit{tag}_pool",)),
    )
}
_NEPA: Final[Mapping[str, tuple[str, ...]]] = {
    "pc_xyz": (),
    "pc_n": ("pc_xyz",),
    "pc_fps_order": ("pc_xyz",),
    "pt_xyz_pool": (),
    "pt_dist_pool": ("pt_xyz_pool",),
    "pt_dist_pc_pool": ("pt_xyz_pool",),
    "pt_dist_udf_pool": ("pt_xyz_pool", "udf_grid"),
    "pt_fps_order": ("pt_xyz_pool",),
    "udf_grid": (),
    "occ_grid": (),
    "ray_o_pool": ("ray_d_pool",),
    "ray_d_pool": ("ray_o_pool",),
    **_RETURNS,
}

SCAN_ZEROS: Final = ("pc_n", "ray_o_pool", "ray_d_pool", "ray_hit_pool", "ray_t_pool", "ray_n_pool")
"""Keys that `nepa-scan` files fill with zeros, as a scan has neither."""

_VECSETX: Final[Mapping[str, tuple[str, ...]]] = {
    "surface_points": ("surface_labels",),
    "surface_labels": ("surface_points",),
    "vol_points": ("vol_sdf", "vol_labels"),
    "vol_sdf": ("vol_points",),
    "vol_labels": ("vol_points",),
    "near_points": ("near_sdf", "near_labels"),
    "near_sdf": ("near_points",),
    "near_labels": ("near_points",),
}

NEEDS: Final[Mapping[Layout, Mapping[str, tuple[str, ...]]]] = {
    "nepa-mesh": _NEPA,
    "nepa-scan": {key: needs for key, needs in _NEPA.items() if key not in SCAN_ZEROS and key not in _RETURNS},
    "vecsetx": _VECSETX,
}
"""Every key that a layout adopts, to the keys without which it means nothing."""

SETTINGS: Final = ("df_grid", "df_dilate")
"""Keys that hold how the grids were made: settings, not arrays."""

COUNTED: Final = ("surface", "near")
"""Samples of `vecsetx` whose number differs from file to file."""

ONE_HOT_CLASSES: Final = 10
"""Columns of `surface_labels`: classes 1 to 10."""


def layout_of(keys: Iterable[str]) -> Layout | None:
    """Which program wrote a file with these keys; None if none that is known.

    A mesh cache has grids or what is derived of them, even if as placeholders; a scan cache has none of them.
    """
    held = set(keys)
    if {"vol_points", "vol_sdf", "vol_labels"} <= held:
        return "vecsetx"
    if "pc_xyz" not in held:
        return None
    return "nepa-mesh" if held & {"udf_grid", "occ_grid", "pt_dist_udf_pool", "ray_hit_pc_pool"} else "nepa-scan"


def adopted_keys(layout: Layout, held: Iterable[str]) -> tuple[str, ...]:
    """The keys out of `held` that are adopted: known to the layout, with all that they need."""
    needs = NEEDS[layout]
    left = {key for key in held if key in needs}
    while lacking := {key for key in left if not left.issuperset(needs[key])}:
        left -= lacking
    return tuple(sorted(left))


def row_shape(layout: Layout, key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that an array of `shape` has in a row: one-hot codes and columns of one lose their last dimension."""
    flat = layout == "vecsetx" and len(shape) == 2 and shape[1] == (ONE_HOT_CLASSES if key == "surface_labels" else 1)
    return shape[:1] if flat and (key == "surface_labels" or key.endswith("_sdf")) else shape


def is_placeholder(key: str, shape: tuple[int, ...]) -> bool:
    """Whether this is the grid of one cell that stands for `not computed`."""
    return key in ("udf_grid", "occ_grid") and shape == (1, 1, 1)
