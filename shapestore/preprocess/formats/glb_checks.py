"""What is checked of a GLB file before its content is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import natural, refuse_short
from shapestore.preprocess.formats.glb_nodes import check_nodes

_JSON: Final = 0x4E4F534A
_BINARY: Final = 0x004E4942

_FLOAT: Final = 5126
_COMPONENT_BYTES: Final = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, _FLOAT: 4}
_COMPONENTS: Final = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def checked_scene(data: bytes) -> dict[str, Any]:
    """The JSON of a GLB file whose positions and indices lie within its binary chunk.

    Raises
    ------
    InputRefused
        MALFORMED if this is no GLB; TRUNCATED if the file, a chunk, a view or an accessor is longer than what holds
        it; UNSUPPORTED for other versions, buffers in other files, compressed, quantised and sparse geometry; as
        `check_nodes`.
    """
    if data[:4] != b"glTF":
        raise InputRefused(Reason.MALFORMED, "the keyword glTF is due at the start")
    refuse_short("the header of a GLB file", 12, len(data))
    version, length = struct.unpack_from("<2I", data, 4)
    if version != 2:
        raise InputRefused(Reason.UNSUPPORTED, f"glTF version {version}; 2 is read")
    refuse_short("the GLB file", length, len(data))
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != _JSON:
        raise InputRefused(Reason.MALFORMED, "the first chunk is not JSON")
    binary = next((chunk for kind, chunk in chunks if kind == _BINARY), b"")
    try:
        header = json.loads(chunks[0][1])
        _check_geometry(header, len(binary))
        check_nodes(header)
    except (ValueError, RecursionError) as error:
        raise InputRefused(Reason.MALFORMED, f"the JSON cannot be read ({error})") from error
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputRefused(Reason.MALFORMED, "the JSON does not follow the glTF schema") from error
    return header  # type: ignore[no-any-return]


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each chunk."""
    position = 12
    while position + 8 <= len(data):
        length, kind = struct.unpack_from("<2I", data, position)
        position += 8
        refuse_short("a chunk of the GLB file", length, len(data) - position)
        yield kind, data[position : position + length]
        position += length


def _check_geometry(header: dict[str, Any], binary: int) -> None:
    """Check the accessors of all positions and indices against a binary chunk of `binary` bytes."""
    for buffer in header.get("buffers", []):
        if "uri" in buffer:
            raise InputRefused(Reason.UNSUPPORTED, "the geometry lies in another file or in text; only GLB is read")
        refuse_short("a buffer", natural(buffer["byteLength"]), binary)
    for mesh in header.get("meshes", []):
        for part in mesh["primitives"]:
            if "KHR_draco_mesh_compression" in part.get("extensions", {}):
                raise InputRefused(Reason.UNSUPPORTED, "geometry compressed with Draco")
            if "POSITION" not in part["attributes"]:
                raise InputRefused(Reason.MALFORMED, "a mesh without positions")
            if _check_accessor(header, part["attributes"]["POSITION"], "VEC3", binary) != _FLOAT:
                raise InputRefused(Reason.UNSUPPORTED, "quantised positions")
            if "indices" in part and _check_accessor(header, part["indices"], "SCALAR", binary) == _FLOAT:
                raise InputRefused(Reason.MALFORMED, "indices that are not whole numbers")
    for accessor in range(len(header.get("accessors", []))):
        _check_accessor(header, accessor, None, binary)


def _check_accessor(header: dict[str, Any], index: int, shape: str | None, binary: int) -> int:
    """Check that an accessor lies within its view and that within the chunk; returns its component type."""
    accessor = header["accessors"][natural(index)]
    if shape not in (None, accessor["type"]):
        raise InputRefused(Reason.MALFORMED, f"an accessor of type {accessor['type']} where {shape} is due")
    if "sparse" in accessor or "bufferView" not in accessor:
        raise InputRefused(Reason.UNSUPPORTED, "sparse or empty accessors")
    view = header["bufferViews"][natural(accessor["bufferView"])]
    if view.get("extensions"):
        raise InputRefused(Reason.UNSUPPORTED, f"geometry encoded with {', '.join(sorted(view['extensions']))}")
    size, offset = natural(view["byteLength"]), natural(view.get("byteOffset", 0))
    refuse_short("a view of the binary chunk", offset + size, binary)
    component = natural(accessor["componentType"])
    row = _COMPONENT_BYTES[component] * _COMPONENTS[accessor["type"]]
    count = natural(accessor["count"])
    stride = natural(view.get("byteStride", row))
    needed = natural(accessor.get("byteOffset", 0)) + max(count - 1, 0) * stride + min(count, 1) * row
    refuse_short("an accessor", needed, size)
    return component
