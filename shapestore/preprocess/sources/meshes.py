"""Any folder of mesh files, or a single one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.formats.mesh_file import MESH_SUFFIXES, read_mesh
from shapestore.preprocess.raw import RawMesh
from shapestore.preprocess.source import Discovery, Source, SourceItem, kind_of, raw_path, safe_id, storable, walk_files
from shapestore.schemas.recipe import Input, Recipe

_UNPACK: Final = "an archive: unpack it"
_CONVERT: Final = "a scene or mesh format that is not read: convert it to PLY"
_TESSELLATE: Final = "a CAD format without triangles: export it as STL"
_RECONSTRUCT: Final = "a point cloud: reconstruct its surface and save it as PLY"
_LABELS: Final = "a volume: ingest it with the source `cardiac`"

REMEDIES: Final[Mapping[str, str]] = {
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar"), _UNPACK),
    **dict.fromkeys(
        (".3ds", ".3mf", ".amf", ".blend", ".c4d", ".ctm", ".dae", ".drc", ".dxf", ".fbx", ".lwo"), _CONVERT
    ),
    **dict.fromkeys((".ma", ".max", ".mb", ".msh", ".skp", ".usd", ".usda", ".usdc", ".usdz", ".vrml"), _CONVERT),
    **dict.fromkeys((".vtk", ".vtp", ".vtu", ".wrl", ".x3d"), _CONVERT),
    **dict.fromkeys((".3dm", ".brep", ".iges", ".igs", ".sldprt", ".step", ".stp"), _TESSELLATE),
    **dict.fromkeys((".e57", ".las", ".laz", ".pcd", ".pts", ".ptx", ".xyz"), _RECONSTRUCT),
    **dict.fromkeys((".hdr", ".img", ".mha", ".mhd", ".nii", ".nii.gz", ".nrrd"), _LABELS),
    ".gltf": "a scene in several files: pack it into one GLB",
}
"""What a file that holds geometry in a format that is not read is, and what to do about it, by suffix."""


class Meshes(Source):
    """Every OBJ, OFF, PLY, STL and GLB file below a folder, with its relative path as its id.

    A file that holds geometry in another format is an item too, which `read` refuses with a remedy: it was meant to be
    in the store. All else is counted as ignored. Without categories and splits, each file is a group of its own.
    The root may also be one such file; its item has the path `.`, for which `root / path` is the file.
    """

    recipe: ClassVar[str] = "points"

    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """Find all files with the suffix of a geometry format."""
        del recipe
        if root.is_file():
            return self._single(root)
        walk = walk_files(root)
        taken = [path for path in walk.files if _is_geometry(path)]
        ignored = Counter(kind_of(path) for path in walk.files if not _is_geometry(path)) + Counter(walk.ignored)
        if not taken:
            found = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "no file"
            raise UsageError(f"{root}: expected mesh files ({', '.join(MESH_SUFFIXES)}), found {found}.")
        return Discovery(tuple(_item(path, path) for path in taken), dict(sorted(ignored.items())))

    def _single(self, root: Path) -> Discovery:
        if not _is_geometry(root.name):
            raise UsageError(f"{root}: expected a mesh file ({', '.join(MESH_SUFFIXES)}), found {kind_of(root.name)}.")
        return Discovery((_item(root.name, "."),))

    def inputs(self, root: Path) -> frozenset[Input]:
        """Meshes."""
        del root
        return frozenset({"mesh"})

    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> RawMesh:
        """Read one mesh file.

        Raises
        ------
        InputRefused
            UNSUPPORTED for geometry in a format that is not read; as `read_mesh` and `raw_path`.
        """
        del recipe
        path = raw_path(root, item)
        suffix = _suffix(path.name)
        if suffix in REMEDIES:
            raise InputRefused(Reason.UNSUPPORTED, f"{path.name} is {REMEDIES[suffix]}")
        return RawMesh(*read_mesh(path))


def _item(name: str, path: str) -> SourceItem:
    shape_id = safe_id(storable(name))
    return SourceItem(shape_id=shape_id, path=path, group=shape_id)


def _is_geometry(path: str) -> bool:
    suffix = _suffix(path)
    return suffix in MESH_SUFFIXES or suffix in REMEDIES


def _suffix(path: str) -> str:
    """The suffix in lower case; that of a compressed label map has two parts."""
    lower = PurePosixPath(path).name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else PurePosixPath(lower).suffix
