"""Cardiac sample inputs: an analytic ten-class heart as label maps and as masks, and cached SDF samples.

The heart is built of ellipsoids and tapered tubes in a canonical frame: RAS+ (x right, y anterior, z
superior), the heart about the origin, a distance of 1 standing for about 70 mm in an adult.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]

#: Label values of the ten-class maps.
CLASSES = {
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


class Region(Protocol):
    """A solid region of space."""

    def bounds(self) -> Floats:
        """Return the (2, 3) lowest and highest corner."""

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Tell for points (..., 3) whether they lie inside."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with the half lengths `radii` (3,) along the orthonormal rows of `axes` (3, 3)."""

    centre: Floats
    axes: Floats
    radii: Floats

    def bounds(self) -> Floats:
        """Return the (2, 3) corners of the box around it."""
        reach = np.linalg.norm(self.radii[:, None] * self.axes, axis=0)
        return np.stack([self.centre - reach, self.centre + reach])

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Tell for points (..., 3) whether they lie inside or on it."""
        local = (points - self.centre) @ (self.axes / self.radii[:, None]).T
        return np.asarray(np.einsum("...i,...i->...", local, local) <= 1.0)


@dataclass(frozen=True)
class Taper:
    """A ball swept from `start` to `end` (3,) while its radius goes from `radii[0]` to `radii[1]`."""

    start: Floats
    end: Floats
    radii: tuple[float, float]

    def bounds(self) -> Floats:
        """Return the (2, 3) corners of a box around it."""
        ends, reach = np.stack([self.start, self.end]), max(self.radii)
        return np.stack([ends.min(axis=0) - reach, ends.max(axis=0) + reach])

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Tell for points (..., 3) whether the radius at the nearest point of the axis covers them."""
        axis = self.end - self.start
        along = np.clip((points - self.start) @ axis / (axis @ axis), 0.0, 1.0)
        radius = self.radii[0] + along * (self.radii[1] - self.radii[0])
        gap = points - self.start - along[..., None] * axis
        return np.asarray(np.einsum("...i,...i->...", gap, gap) <= radius**2)


@dataclass(frozen=True)
class Structure:
    """Regions of one class; they take voxels only from the classes `over`."""

    label: int
    regions: tuple[Region, ...]
    over: tuple[int, ...]


def tube(path: ArrayLike, start: float, end: float) -> tuple[Region, ...]:
    """Return a tube along a polyline (P, 3) whose radius goes linearly with the corner number."""
    corners = np.asarray(path, dtype=np.float64)
    radii = np.linspace(start, end, len(corners))
    return tuple(Taper(corners[k], corners[k + 1], (radii[k], radii[k + 1])) for k in range(len(corners) - 1))


def heart(rng: Generator, coronary: float, variation: float = 1.0) -> list[Structure]:
    """Build one heart, in the order in which it is painted.

    Parameters
    ----------
    rng
        Varies positions and sizes by some per cent.
    coronary
        Radius of the coronary arteries in canonical units.
    variation
        How far apart hearts are: 1 for some per cent, 3 for three times as many.
    """
    apex = _unit([-0.6, 0.45, -0.65])
    septum = _unit(np.array([0.8, 0.6, 0.0]) - apex * (apex @ [0.8, 0.6, 0.0]))
    axes = np.stack([apex, septum, np.cross(apex, septum)])
    middle = np.array([-0.15, -0.05, -0.1])

    def ellipsoid(along: float, across: float, radii: ArrayLike) -> Ellipsoid:
        wobble = 1 + variation * rng.uniform(-0.07, 0.07, 3)
        return Ellipsoid(middle + along * apex + across * septum, axes, wobble * np.asarray(radii))

    def vessel(path: ArrayLike, start: float, end: float) -> tuple[Region, ...]:
        corners = np.asarray(path) + rng.normal(scale=0.012 * variation, size=(len(np.asarray(path)), 3))
        return tube(corners, *((1 + variation * rng.uniform(-0.08, 0.08)) * np.array([start, end])))

    wall = ellipsoid(0.0, 0.0, [0.45, 0.30, 0.30])
    cavity = Ellipsoid(wall.centre - 0.03 * apex, axes, wall.radii - rng.uniform(0.085, 0.11))
    right = ellipsoid(-0.05, 0.28, [0.40, 0.22, 0.33])
    branches = tuple(region for path in _PULMONARY_ARTERY for region in vessel(path, 0.1, 0.07))
    veins = tuple(region for path in _PULMONARY_VEINS for region in vessel(path, 0.065, 0.05))
    painted = (
        ("RV", (right,), ()),
        ("Myocardium", (wall,), ("RV",)),
        ("LV", (cavity,), ("Myocardium",)),
        ("LA", (ellipsoid(-0.55, -0.02, [0.19, 0.26, 0.27]),), ("Myocardium",)),
        ("RA", (ellipsoid(-0.42, 0.46, [0.22, 0.22, 0.24]),), ()),
        ("PV", veins, ()),
        ("PA", branches, ("RV", "PV")),
        ("Aorta", vessel(_AORTA, 0.105, 0.08), ("Myocardium", "LA", "RA", "RV", "PA", "PV")),
        ("LAA", vessel(_APPENDAGE, 0.09, 0.04), ("Myocardium",)),
        ("Coronary", _coronaries(wall, right, coronary), ("Myocardium", "RV", "RA")),
    )
    return [
        Structure(CLASSES[name], regions, (0, *(CLASSES[other] for other in over))) for name, regions, over in painted
    ]


_AORTA = (
    (0.10, -0.10, 0.08),
    (0.15, -0.02, 0.33),
    (0.13, -0.05, 0.60),
    (0.03, -0.18, 0.74),
    (-0.10, -0.38, 0.74),
    (-0.17, -0.56, 0.60),
    (-0.17, -0.62, 0.30),
    (-0.15, -0.62, -0.30),
    (-0.12, -0.58, -1.10),
)
_PULMONARY_ARTERY = (
    (
        (-0.02, 0.26, 0.08),
        (-0.07, 0.18, 0.32),
        (-0.06, 0.02, 0.48),
        (-0.30, -0.14, 0.54),
        (-0.46, -0.30, 0.50),
    ),
    ((-0.06, 0.02, 0.48), (0.06, -0.14, 0.50), (0.28, -0.22, 0.48), (0.50, -0.28, 0.44)),
)
_PULMONARY_VEINS = (
    ((0.20, -0.36, 0.30), (0.38, -0.42, 0.36), (0.58, -0.46, 0.42)),
    ((0.20, -0.38, 0.16), (0.38, -0.46, 0.10), (0.56, -0.52, 0.04)),
    ((0.05, -0.36, 0.34), (-0.14, -0.38, 0.38), (-0.38, -0.42, 0.40)),
    ((0.05, -0.40, 0.18), (-0.14, -0.44, 0.14), (-0.40, -0.50, 0.08)),
)
_APPENDAGE = ((-0.02, -0.22, 0.28), (-0.18, -0.12, 0.32), (-0.28, 0.02, 0.26))


def _coronaries(wall: Ellipsoid, right: Ellipsoid, radius: float) -> tuple[Region, ...]:
    """Run four arteries over the ventricles; angles in degrees: from the apex, and about the long axis."""
    runs = (
        (wall, np.linspace([125, -75], [12, -75], 24)),  # left anterior descending
        (wall, np.linspace([118, -75], [105, -215], 24)),  # circumflex
        (right, np.linspace([108, -95], [105, 75], 24)),  # right
        (wall, np.linspace([105, 75], [35, 75], 16)),  # posterior descending
    )
    regions: list[Region] = []
    for body, degrees in runs:
        u, v = np.radians(degrees).T
        direction = np.stack([np.cos(u), np.sin(u) * np.cos(v), np.sin(u) * np.sin(v)], axis=1)
        regions += tube(body.centre + direction * (body.radii + radius) @ body.axes, radius, radius)
    return tuple(regions)


def rasterise(structures: Iterable[Structure], frame: Floats, shape: tuple[int, int, int]) -> Labels:
    """Paint structures one after another into a label map.

    Parameters
    ----------
    structures
        Later ones take voxels from earlier ones.
    frame
        (4, 4) affine from voxel indices to the frame of the structures.
    shape
        Of the map; whatever lies outside is cut off.

    Returns
    -------
    ndarray
        `shape` uint8; a voxel has the class that its centre lies in, 0 for none.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    to_voxel: Floats = np.linalg.inv(frame).astype(np.float64)
    for structure in structures:
        may_take = np.zeros(256, dtype=bool)
        may_take[list(structure.over)] = True
        for region in structure.regions:
            box = _voxel_box(region.bounds(), to_voxel, shape)
            block = labels[box]
            axes = np.ogrid[box]
            points = frame[:3, 3] + sum(axes[k][..., None] * frame[:3, k] for k in range(3))
            block[region.contains(points) & may_take[block]] = structure.label
    return labels


def _voxel_box(bounds: Floats, to_voxel: Floats, shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    corners = np.stack(np.meshgrid(*bounds.T, indexing="ij"), axis=-1).reshape(-1, 3)
    index = corners @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    low = np.clip(np.floor(index.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, 0, shape).astype(int)
    x, y, z = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return x, y, z


FIELD_OF_VIEW = 160.0
"""Millimetres; a heart that fills it has chambers of an adult's size."""


def write_hearts(
    root: Path,
    cases: int = 3,
    size: int = 96,
    spacing: tuple[float, float, float] | None = None,
    seed: int = 0,
    variation: float = 1.0,
) -> Path:
    """Write ten-class label maps `<n>.nii.img.nii.gz`, n from 1, values as in `CLASSES`.

    Every case is another heart, whose aorta leaves the volume. Case 2 has no LAA. Case 3 lies oblique, with
    flipped x and y axes and its third spacing half as large again. sform and qform are both set and agree.

    Parameters
    ----------
    root
        Existing or new folder.
    cases
        Number of files; with fewer than 3 the special cases are not there.
    size
        Voxels along each axis.
    spacing
        Voxel size in mm; the heart is scaled to the field of view. None: a field of 160 mm, and so the heart of an
        adult.
    seed
        Of all hearts and poses.
    variation
        How far apart hearts and poses are; 1: radii of the chambers by 7 %, turned by 6 degrees (standard deviation).

    Returns
    -------
    Path
        `root`.
    """
    shape = (size, size, size)
    for n in range(1, cases + 1):
        rng = np.random.default_rng([seed, n])
        zooms, turn = np.broadcast_to(FIELD_OF_VIEW / size if spacing is None else spacing, 3), np.eye(3)
        if n == 3:
            zooms = zooms * [1.0, 1.0, 1.5]
            turn = Rotation.from_euler("xyz", [8, -12, 15], degrees=True).as_matrix() @ np.diag([-1.0, -1.0, 1.0])
        affine = _affine(turn * zooms, rng.uniform(-150, 50, 3))
        structures, frame = _posed_heart(affine, shape, rng, variation)
        absent = CLASSES["LAA"] if n == 2 else None
        labels = rasterise((part for part in structures if part.label != absent), frame, shape)
        _write_nifti(root / f"{n}.nii.img.nii.gz", labels, affine, qform_code=1, sform_code=1)
    return root


def _posed_heart(
    affine: Floats, shape: tuple[int, int, int], rng: Generator, variation: float = 1.0
) -> tuple[list[Structure], Floats]:
    """Return a heart that fills the field of view, and the affine from voxels to its canonical frame."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    scale = rng.uniform(0.58, 0.64) * (zooms * shape).min()
    turn = Rotation.from_rotvec(rng.normal(scale=np.radians(6 * variation), size=3)).as_matrix()
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    pose = _affine(scale * turn, centre)
    coronary = 1.25 * float(np.cbrt(zooms.prod())) / scale
    return heart(rng, coronary, variation), np.linalg.inv(pose) @ affine


_FOLDER_MASKS = {
    "aorta": ("Aorta",),
    "atrial_appendage_left": ("LAA",),
    "heart": ("Myocardium", "LA", "LV", "RA", "RV"),
    "heart_atrium_left": ("LA",),
    "heart_atrium_right": ("RA",),
    "heart_myocardium": ("Myocardium",),
    "heart_ventricle_left": ("LV",),
    "heart_ventricle_right": ("RV",),
    "pulmonary_artery": ("PA",),
    "pulmonary_vein": ("PV",),
}


def write_structure_folders(root: Path, cases: int = 2, size: int = 64, seed: int = 0) -> Path:
    """Write `case_<letter>/<structure>.nii.gz`: one 0/1 mask a structure, LPS at 1.5 mm, with an sform only.

    `heart` is the union of the chambers and the myocardium, which have masks of their own. `pulmonary_artery`
    is cropped: another grid of the same world frame. `atrial_appendage_left` of `case_a` is empty, as a
    structure outside the field of view is.

    Parameters
    ----------
    root
        Existing or new folder.
    cases
        Number of folders, at most 26.
    size
        Voxels along each axis of the masks that are not cropped.
    seed
        Of all hearts.

    Returns
    -------
    Path
        `root`.
    """
    shape = (size, size, size)
    for letter, n in zip(ascii_lowercase[:cases], range(cases), strict=True):
        rng = np.random.default_rng([seed, n])
        affine = _affine(np.diag([-1.5, -1.5, 1.5]), rng.uniform(0, 200, 3))
        structures, frame = _posed_heart(affine, shape, rng)
        labels = rasterise(structures, frame, shape)
        for name, classes in _FOLDER_MASKS.items():
            mask = np.isin(labels, [CLASSES[c] for c in classes]).astype(np.uint8)
            grid = affine
            if name == "pulmonary_artery":
                mask, grid = _cropped(mask, affine, margin=3)
            if (name, n) == ("atrial_appendage_left", 0):
                mask[:] = 0
            _write_nifti(root / f"case_{letter}" / f"{name}.nii.gz", mask, grid, qform_code=0, sform_code=2)
    return root


def _cropped(mask: Labels, affine: Floats, margin: int) -> tuple[Labels, Floats]:
    filled = np.argwhere(mask)
    low = np.maximum(filled.min(axis=0) - margin, 0)
    x, y, z = (slice(a, b) for a, b in zip(low, filled.max(axis=0) + margin + 1, strict=True))
    return mask[x, y, z], _affine(affine[:3, :3], affine[:3, :3] @ low + affine[:3, 3])


def _affine(matrix: Floats, offset: Floats) -> Floats:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, offset
    return affine


def _write_nifti(path: Path, labels: Labels, affine: Floats, *, qform_code: int, sform_code: int) -> None:
    image = nib.Nifti1Image(labels, affine)
    image.set_qform(affine, code=qform_code)
    image.set_sform(affine, code=sform_code)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    # nibabel stamps the time into the gzip header.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def write_vecsetx_cache(root: Path, cases: int = 3, surface: int = 2000, volume: int = 1000, seed: int = 0) -> Path:
    """Write cached samples `<n>.nii.img.npz` of ten disjoint balls, one a class, with exact distances.

    A file holds surface_points (s, 3), surface_labels (s, 10) one-hot, near_points (s, 3), near_sdf (s, 1),
    vol_points (volume, 3), vol_sdf (volume, 1), all float32, near_labels (s,) and vol_labels (volume,) int8.
    Distances are negative inside; a label is the class where the distance is negative, else 0. The surface
    points are centred by their bounding box and reach the unit sphere. Case 2 has no class 8.

    Parameters
    ----------
    root
        Existing or new folder.
    cases
        Number of files.
    surface
        About the number of surface points; s differs from file to file.
    volume
        The first half lies in the balls, the rest anywhere in [-1, 1]^3.
    seed
        Of all files.

    Returns
    -------
    Path
        `root`.
    """
    root.mkdir(parents=True, exist_ok=True)
    for n in range(1, cases + 1):
        rng = np.random.default_rng([seed, n])
        kept = np.array([c for c in range(10) if (n, c + 1) != (2, CLASSES["LAA"])])
        # At most one point a class is lost to rounding down, so steps of 16 keep the counts distinct.
        arrays = _ball_samples(*_balls(rng), kept, surface + 16 * (n - 1), volume, rng)
        np.savez_compressed(root / f"{n}.nii.img.npz", **arrays)  # type: ignore[arg-type]
    return root


def _balls(rng: Generator) -> tuple[Floats, Floats]:
    """Return centres (10, 3) and radii (10,) of disjoint balls on a jittered spiral of equal areas."""
    z = 1 - (np.arange(10) + 0.5) / 5
    turn = np.arange(10) * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z**2)
    centres = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    radii = rng.uniform(0.18, 0.32, 10)
    radii[CLASSES["Coronary"] - 1] = 0.08
    return centres + rng.uniform(-0.04, 0.04, (10, 3)), radii


def _ball_samples(
    centres: Floats, radii: Floats, kept: NDArray[np.int64], surface: int, volume: int, rng: Generator
) -> dict[str, NDArray[Any]]:
    centres, radii = centres[kept], radii[kept]
    share = radii**2 / (radii**2).sum()
    ball = np.repeat(np.arange(len(kept)), np.maximum(1, np.floor(surface * share).astype(int)))
    normal = _directions(len(ball), rng)
    points = centres[ball] + radii[ball, None] * normal
    shift = (points.max(axis=0) + points.min(axis=0)) / 2
    scale = 1 / np.linalg.norm(points - shift, axis=1).max()
    centres, radii, points = (centres - shift) * scale, radii * scale, (points - shift) * scale

    side = np.where(np.arange(len(ball)) < len(ball) // 2, 1.0, -1.0)
    offset = side * np.abs(rng.normal(scale=0.01, size=len(ball)))
    near = np.clip(points + offset[:, None] * normal, -1, 1).astype(np.float32)
    home = rng.choice(len(kept), volume // 2, p=radii**3 / (radii**3).sum())
    depth = radii[home] * np.cbrt(rng.random(len(home)))
    inner = centres[home] + depth[:, None] * _directions(len(home), rng)
    vol = np.concatenate([inner, rng.uniform(-1, 1, (volume - len(home), 3))]).astype(np.float32)

    near_sdf, near_labels = _union_sdf(near, centres, radii, kept)
    vol_sdf, vol_labels = _union_sdf(vol, centres, radii, kept)
    return {
        "surface_points": points.astype(np.float32),
        "surface_labels": np.eye(10, dtype=np.float32)[kept[ball]],
        "near_points": near,
        "near_sdf": near_sdf,
        "near_labels": near_labels,
        "vol_points": vol,
        "vol_sdf": vol_sdf,
        "vol_labels": vol_labels,
    }


def _union_sdf(
    points: NDArray[np.float32], centres: Floats, radii: Floats, kept: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    each = np.linalg.norm(points[:, None].astype(np.float64) - centres, axis=-1) - radii
    sdf = each.min(axis=1, keepdims=True).astype(np.float32)
    # Labels follow the stored float32 value, so that the two agree exactly.
    return sdf, np.where(sdf[:, 0] < 0, kept[each.argmin(axis=1)] + 1, 0).astype(np.int8)


def _directions(count: int, rng: Generator) -> Floats:
    gaussian = rng.normal(size=(count, 3))
    return np.asarray(gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True))


def _unit(vector: ArrayLike) -> Floats:
    return np.asarray(vector, dtype=np.float64) / np.linalg.norm(vector)


def main() -> None:
    """`python -m demo.heart FOLDER`: label maps of hearts, to try training with."""
    parser = argparse.ArgumentParser(description="Write label maps of analytic ten-class hearts, no two alike.")
    parser.add_argument("folder", type=Path, help="existing or new folder")
    parser.add_argument("--cases", type=int, default=120, help="number of hearts (default: 120)")
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other hearts (default: 0)")
    parser.add_argument("--variation", type=float, default=2.0, help="how far apart they are (default: 2)")
    asked = parser.parse_args()
    write_hearts(asked.folder, asked.cases, asked.size, seed=asked.seed, variation=asked.variation)


if __name__ == "__main__":
    main()
