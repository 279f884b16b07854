from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import event, given, settings
from hypothesis import strategies as st

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.glb import parse_glb
from shapestore.preprocess.formats.soup import to_mesh


def glb(scene: dict[str, Any], binary: bytes, total: int | None = None) -> bytes:
    """A GLB file from its two chunks."""
    head = json.dumps(scene).encode()
    head += b" " * (-len(head) % 4)
    body = struct.pack("<2I", len(head), 0x4E4F534A) + head + struct.pack("<2I", len(binary), 0x004E4942) + binary
    return b"glTF" + struct.pack("<2I", 2, len(body) + 12 if total is None else total) + body


def tetrahedron(**changes: Any) -> tuple[dict[str, Any], bytes]:
    """A scene of one tetrahedron with outward faces and volume 1/6, instanced by one node."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4").tobytes()
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], "<u2").tobytes()
    scene = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 48},
            {"buffer": 0, "byteOffset": 48, "byteLength": 24},
        ],
        "buffers": [{"byteLength": 72}],
    }
    return scene | changes, positions + faces


def volume(data: bytes) -> float:
    mesh, _ = to_mesh(parse_glb(data))
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def test_a_mesh_comes_back() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    mesh, notes = to_mesh(parse_glb(ball.export(file_type="glb")))
    np.testing.assert_allclose(mesh.vertices, ball.vertices, atol=1e-7)
    np.testing.assert_array_equal(mesh.faces, ball.faces)
    assert notes == ()


@settings(deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, 0.5, 3.0]), min_size=3, max_size=3), st.integers(1, 4))
def test_instances_are_placed_and_stay_outward_when_mirrored(scale: list[float], count: int) -> None:
    nodes: list[dict[str, Any]] = [{"mesh": 0, "scale": scale, "translation": [9 * i, 0, 0]} for i in range(count)]
    nodes.append({"children": list(range(count)), "translation": [0, 5, 0]})
    data = glb(*tetrahedron(nodes=nodes, scenes=[{"nodes": [count]}]))
    assert np.isclose(volume(data), count * abs(np.prod(scale)) / 6)
    soup = parse_glb(data)
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * scale + [0, 5, 0]
    expected = np.concatenate([positions + np.array([9 * i, 0, 0]) for i in range(count)])
    np.testing.assert_allclose(soup.vertices, expected)


def test_instances_are_turned_as_the_format_says() -> None:
    half = float(np.sqrt(0.5))
    # A quarter turn about x takes y to z and z to -y.
    nodes = [{"mesh": 0, "rotation": [half, 0, 0, half], "translation": [1, 0, 0]}]
    soup = parse_glb(glb(*tetrahedron(nodes=nodes)))
    np.testing.assert_allclose(soup.vertices, [[1, 0, 0], [2, 0, 0], [1, 0, 1], [1, -1, 0]], atol=1e-12)


def test_parts_of_one_mesh_have_an_order() -> None:
    part = {"attributes": {"POSITION": 0}, "indices": 1}
    nodes = [{"mesh": 0, "translation": [x, 0, 0]} for x in (3, 1, 2)]
    data = glb(*tetrahedron(meshes=[{"primitives": [part, part]}], nodes=nodes, scenes=[{"nodes": [0, 1, 2]}]))
    results = [parse_glb(data).vertices for _ in range(5)]
    for result in results:
        np.testing.assert_array_equal(result[::4, 0], [1, 2, 3, 1, 2, 3])


def test_what_is_not_read_is_told() -> None:
    lines = {"attributes": {"POSITION": 0}, "mode": 1}
    part = {"attributes": {"POSITION": 0}, "indices": 1}
    data = glb(*tetrahedron(meshes=[{"primitives": [part, lines]}], nodes=[{"mesh": 0, "skin": 0}]))
    mesh, notes = to_mesh(parse_glb(data))
    assert len(mesh.faces) == 4
    assert notes == ("1 line or point set ignored", "1 skinned node read in the pose that is stored")


def accessors(**changes: Any) -> list[dict[str, Any]]:
    position, index = tetrahedron()[0]["accessors"]
    return [position | changes, index]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accessors": accessors(count=5)}, Reason.TRUNCATED),
        ({"accessors": accessors(count=10**15)}, Reason.TRUNCATED),
        ({"accessors": accessors(count=-1)}, Reason.MALFORMED),
        ({"accessors": accessors(componentType=5122)}, Reason.UNSUPPORTED),
        ({"accessors": accessors(type="VEC4")}, Reason.MALFORMED),
        ({"accessors": accessors(bufferView=7)}, Reason.MALFORMED),
        ({"accessors": accessors(sparse={})}, Reason.UNSUPPORTED),
        ({"buffers": [{"byteLength": 73}]}, Reason.TRUNCATED),
        ({"buffers": [{"byteLength": 72, "uri": "model.bin"}]}, Reason.UNSUPPORTED),
        ({"bufferViews": [{"buffer": 0, "byteOffset": 40, "byteLength": 48}] * 2}, Reason.TRUNCATED),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 6}]}]}, Reason.UNSUPPORTED),
        ({"meshes": [{"primitives": [{"attributes": {}}]}]}, Reason.MALFORMED),
        ({"meshes": [{}]}, Reason.MALFORMED),
        ({"meshes": []}, Reason.NO_FACES),
        ({"nodes": [{"mesh": 0, "children": [0]}]}, Reason.MALFORMED),
        ({"nodes": []}, Reason.MALFORMED),
        ({"nodes": "none"}, Reason.MALFORMED),
        ({"scenes": [{"nodes": []}]}, Reason.NO_FACES),
    ],
)
def test_scenes_that_contradict_themselves(changes: dict[str, Any], reason: Reason) -> None:
    data = glb(*tetrahedron(**changes))
    with pytest.raises(InputRefused) as refused:
        volume(data)
    assert refused.value.reason is reason


def test_an_index_into_the_next_mesh_is_refused() -> None:
    scene, binary = tetrahedron(nodes=[{"mesh": 0}, {"mesh": 0}], scenes=[{"nodes": [0, 1]}])
    with pytest.raises(InputRefused) as refused:
        parse_glb(glb(scene, binary[:-2] + b"\x05\0"))
    assert refused.value.reason is Reason.INDEX_RANGE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"glTF", Reason.TRUNCATED),
        (b"glTF\1\0\0\0\x0c\0\0\0", Reason.UNSUPPORTED),
        (b"glTF\2\0\0\0\x0c\0\0\0", Reason.MALFORMED),
        (b"gltf\2\0\0\0\x0c\0\0\0", Reason.MALFORMED),
        (glb(*tetrahedron(), total=2**31), Reason.TRUNCATED),
        (glb(*tetrahedron())[:-1], Reason.TRUNCATED),
    ],
)
def test_files_that_are_no_scene(content: bytes, reason: Reason) -> None:
    with pytest.raises(InputRefused) as refused:
        parse_glb(content)
    assert refused.value.reason is reason


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damage_is_refused_or_read_but_never_crashes(data: st.DataObject) -> None:
    content = bytearray(glb(*tetrahedron()))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        mesh, _ = to_mesh(parse_glb(bytes(content[: data.draw(st.integers(20, len(content)))])))
    except InputRefused as refused:
        event(str(refused.reason))
    else:
        assert np.isfinite(mesh.vertices[mesh.faces]).all()
