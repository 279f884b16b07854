"""Every chunk file is the one that zarr-python writes for the same metadata and values, and the other way round."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec

from shapestore.schemas.array import ArraySpec
from shapestore.store.rowcodec import crc32c
from shapestore.store.shard import EMPTY, ShardEntry, ShardWriter, index_bytes, parse_index, shard_digest
from shapestore.store.shard_map import ShardMap
from tests.store.conftest import Built


@pytest.fixture(scope="module")
def rewritten(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same metadata with every chunk written again by zarr-python, from the values that it reads."""
    path = tmp_path_factory.mktemp("rewritten") / "z.zarr"
    shutil.copytree(built.path, path, ignore=lambda _, names: [name for name in names if name == "c"])
    source = zarr.open_group(built.path, mode="r", use_consolidated=False)
    target = zarr.open_group(path, mode="r+", use_consolidated=False)
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, array in source.members(max_depth=None):
            if isinstance(array, zarr.Array) and array.size:
                written = target[name]
                assert isinstance(written, zarr.Array)
                written[...] = array[...]
    return path


def chunk_files(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "zarr.json"
    }


def test_every_chunk_file_is_byte_identical(built: Built, rewritten: Path) -> None:
    ours, theirs = chunk_files(built.path), chunk_files(rewritten)
    assert ours.keys() == theirs.keys()
    differing = [name for name, data in ours.items() if data != theirs[name]]
    assert differing == []
    assert sum("pc_xyz/c/" in name for name in ours) == 3


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_shard_of_zarr_reads_through_the_map(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("theirs")
    dtype = data.draw(st.sampled_from(["int8", "uint16", "int32", "float32", "float16"]))
    kind = data.draw(st.sampled_from(["packed", "mapped"] if dtype != "float16" else ["packed"]))
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    room = data.draw(st.sampled_from([1, 4, 8]))
    rows = data.draw(st.integers(1, room))
    values = np.random.default_rng(rows).integers(-100, 100, (rows, *shape)).astype(dtype)
    with zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.create_array(
            folder / "a",
            shape=values.shape,
            dtype=dtype,
            chunks=(1, *shape),
            shards=(room, *shape),
            compressors=[*([ZstdCodec(level=3)] if kind == "packed" else []), Crc32cCodec()],
        )
        array[...] = values
    file = folder / "a" / "c" / "0" / Path(*["0"] * len(shape))
    spec = ArraySpec.model_validate(
        {"name": "a", "dims": [f"d{i}" for i in range(len(shape))], "shape": shape, "dtype": dtype, "kind": kind}
        | {"long_name": "a", "role": "a"}
    )
    mapped = ShardMap(file, spec, described(file, rows, room), 0, rows, room)
    for slot in range(rows):
        mapped.check(slot, "always")
        assert mapped.row(slot).tobytes() == values[slot].tobytes()


def described(file: Path, rows: int, room: int) -> ShardEntry:
    """What a commit would say of a shard file, taken from its bytes without this package's parser."""
    whole = file.read_bytes()
    index = np.frombuffer(whole[len(whole) - 16 * room - 4 : -4], "<u8").reshape(room, 2)
    ends = [int(offset + size) for offset, size in index[:rows]]
    checksums = np.array([int.from_bytes(whole[end - 4 : end], "little") for end in ends], np.uint32)
    return ShardEntry(size=len(whole), sha256=shard_digest("a", 0, checksums, whole[len(whole) - 16 * room - 4 :]))


rows_of_bytes = st.lists(st.binary(min_size=1, max_size=9), max_size=8)


def chunk(body: bytes) -> bytes:
    return body + crc32c(body).to_bytes(4, "little")


@given(bodies=rows_of_bytes)
def test_what_a_shard_writer_writes_its_index_finds(tmp_path_factory: pytest.TempPathFactory, bodies: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "shard"
    writer = ShardWriter(path, "a", 0, 8)
    for body in bodies:
        writer.append(chunk(body))
    entry = writer.finish()
    data = path.read_bytes()
    assert entry.size == len(data) == sum(len(body) + 4 for body in bodies) + index_bytes(8)
    index = parse_index(data, 8)
    assert [data[int(o) : int(o + n)] for o, n in index[: len(bodies)]] == [chunk(body) for body in bodies]
    assert (index[len(bodies) :] == EMPTY).all()


@given(bodies=rows_of_bytes, at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_flipped_byte_of_an_index_is_found(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], at: int, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "shard"
    writer = ShardWriter(path, "a", 0, 8)
    for body in bodies:
        writer.append(chunk(body))
    writer.finish()
    data = bytearray(path.read_bytes())
    data[len(data) - 1 - at % index_bytes(8)] ^= flip
    with pytest.raises(ValueError, match="index"):
        parse_index(data, 8)


@pytest.mark.parametrize(
    "entry", [(0, 100), (90, 10), (2**64 - 2, 3), (5, 2**64 - 1), (0, 3), (0, 0)], ids=lambda e: f"{e[0]}+{e[1]}"
)
def test_an_index_that_points_outside_the_rows_is_refused(entry: tuple[int, int]) -> None:
    index = np.full((2, 2), EMPTY, "<u8")
    index[0] = entry
    data = bytes(20) + index.tobytes() + crc32c(index.tobytes()).to_bytes(4, "little")
    with pytest.raises(ValueError, match="points outside"):
        parse_index(data, 2)


def test_the_digest_of_a_shard_is_that_of_its_array_and_place() -> None:
    checksums, index = np.arange(3, dtype=np.uint32), b"index"
    digests = {
        shard_digest(array, first, values, tail)
        for array in ("a", "b")
        for first in (0, 8)
        for values in (checksums, checksums[::-1], checksums[:2])
        for tail in (index, b"other")
    }
    assert len(digests) == 24
