"""GLB, the binary form of glTF 2.0: a scene of meshes, flattened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import counted
from shapestore.preprocess.formats.glb_checks import checked_scene
from shapestore.preprocess.formats.soup import PolygonSoup
from shapestore.preprocess.formats.trimesh_quiet import load_quietly

_TRIANGLES = 4
_STRIP = 5
_FAN = 6


def parse_glb(data: bytes) -> PolygonSoup:
    """Read all instances of all meshes in the default scene of a GLB file, in the scene's frame.

    The order is that of the meshes in the file; the instances of one mesh are ordered by their transforms. A
    mirroring transform turns the winding, so that outside stays outside (glTF 2.0, section 3.7.4). Skinned and
    morphed meshes are read as they are stored, with a note.

    Parameters
    ----------
    data
        The file.

    Raises
    ------
    InputRefused
        As `checked_scene`; UNSUPPORTED for triangle fans; MALFORMED for content that contradicts itself.
    """
    header = checked_scene(data)
    notes = _notes(header)
    scene = load_quietly(data, "glb", skip_materials=True)
    order = {name: index for index, name in enumerate(scene.geometry)}
    instances = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        if hasattr(scene.geometry[name], "faces"):  # lines and points have none
            instances.append((order[name], np.asarray(transform, np.float64)))
    # Node names and their order are random where a mesh has several parts.
    instances.sort(key=lambda instance: (instance[0], instance[1].tolist()))
    geometries = list(scene.geometry.values())
    return _flatten([(geometries[index], transform) for index, transform in instances], notes)


def _flatten(instances: list[tuple[Any, NDArray[np.float64]]], notes: tuple[str, ...]) -> PolygonSoup:
    """One soup of (mesh, (4, 4) transform) pairs."""
    vertices, corners = [np.empty((0, 3))], [np.empty(0, np.int64)]
    start = 0
    for mesh, transform in instances:
        vertices.append(_placed(np.asarray(mesh.vertices, np.float64), transform))
        faces = np.asarray(mesh.faces, np.int64)
        bad = (faces < 0) | (faces >= len(mesh.vertices))
        if bad.any():  # after the meshes are joined it would be an index into the next one
            raise InputRefused(
                Reason.INDEX_RANGE,
                f"a face uses vertex {faces[bad][0]} of a mesh with {counted(len(mesh.vertices), 'position')}",
            )
        mirrored = np.linalg.det(transform[:3, :3]) < 0
        corners.append((faces[:, ::-1] if mirrored else faces).reshape(-1) + start)
        start += len(mesh.vertices)
    joined = np.concatenate(corners)
    return PolygonSoup(np.concatenate(vertices), joined, np.full(len(joined) // 3, 3, np.int64), notes)


def _placed(vertices: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """(V, 3) positions in the scene's frame."""
    if (transform == np.eye(4)).all():
        return vertices
    return vertices @ np.ascontiguousarray(transform[:3, :3].T) + transform[:3, 3]


def _notes(header: dict[str, Any]) -> tuple[str, ...]:
    """Remarks on what is not read; refuses triangle fans, which would be lost."""
    modes = [part.get("mode", _TRIANGLES) for part in primitives(header)]
    if _FAN in modes:
        raise InputRefused(Reason.UNSUPPORTED, "a GLB file with triangle fans")
    notes = []
    flat = sum(mode not in (_TRIANGLES, _STRIP) for mode in modes)
    if flat:
        notes.append(f"{counted(flat, 'line or point set')} ignored")
    skinned = sum("skin" in node for node in header.get("nodes", []))
    if skinned:
        notes.append(f"{counted(skinned, 'skinned node')} read in the pose that is stored")
    return tuple(notes)


def primitives(header: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The parts of all meshes."""
    return [part for mesh in header.get("meshes", []) for part in mesh["primitives"]]
