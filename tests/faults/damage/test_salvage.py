"""Salvage: whatever happened to a shard file, each row is what was committed, or is called lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapestore.schemas.array import ArraySpec
from shapestore.store.rowcodec import row_encoder
from shapestore.store.salvage import entry_of, salvage
from shapestore.store.shard import ShardEntry, ShardWriter

ROWS, ROOM = 5, 8


def spec_of(kind: str) -> ArraySpec:
    return ArraySpec(
        name="a", dims=("x",), shape=(50,), dtype="float32", kind=kind, long_name="numbers", role="points"
    )  # fmt: skip


def chunks_of(spec: ArraySpec, seed: int = 0) -> list[bytes]:
    """Rows of few values, which compress, and the last of zeros."""
    rng = np.random.default_rng(seed)
    encode = row_encoder(spec)
    rows = [rng.integers(0, 9, spec.shape).astype(np.float32) for _ in range(ROWS - 1)]
    return [encode(row) for row in [*rows, np.zeros(spec.shape, np.float32)]]


def write(path: Path, spec: ArraySpec, chunks: list[bytes], name: str = "a") -> ShardEntry:
    writer = ShardWriter(path, name, ROOM, ROOM)
    for chunk in chunks:
        writer.append(chunk)
    return writer.finish()


KINDS = pytest.mark.parametrize("kind", ["mapped", "packed"])


@KINDS
@settings(max_examples=60, deadline=None)
@given(
    strokes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.integers(1, 40)), max_size=3),
    cut=st.floats(0, 1) | st.none(),
)
def test_a_row_is_what_was_committed_or_lost(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    strokes: list[tuple[float, int, int]],
    cut: float | None,
) -> None:
    path, spec = tmp_path_factory.mktemp("shard") / "0", spec_of(kind)
    chunks = chunks_of(spec)
    entry = write(path, spec, chunks)
    whole = path.read_bytes()
    data = bytearray(whole)
    for where, mask, length in strokes:
        at = int(where * len(data))
        data[at : at + length] = bytes(byte ^ mask for byte in data[at : at + length])
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    found = salvage(path, spec, entry, ROOM, ROWS, ROOM)
    for slot, chunk in enumerate(chunks):
        assert found.chunk(slot) in (b"", chunk)
        assert (slot in found.lost) == (found.chunk(slot) == b"")
    assert found.whole() in (None, whole)
    if path.read_bytes() == whole:
        assert found.whole() == whole


@KINDS
@pytest.mark.parametrize("beyond", [0, 3, "index", "all of it"])
def test_a_damaged_or_lost_index_is_made_again(tmp_path: Path, kind: str, beyond: int | str) -> None:
    path, spec = tmp_path / "0", spec_of(kind)
    entry = write(path, spec, chunks_of(spec))
    whole = path.read_bytes()
    index = 16 * ROOM + 4
    damaged = {
        0: whole[:-index] + b"\1" + whole[-index + 1 :],
        3: whole + b"\0\0\0",
        "index": whole[:-index] + bytes(index),
        "all of it": whole[:-index],
    }
    path.write_bytes(damaged[beyond])
    assert salvage(path, spec, entry, ROOM, ROWS, ROOM).whole() == whole


@KINDS
def test_of_another_shard_nothing_is_taken(tmp_path: Path, kind: str) -> None:
    """Every row of it matches its own checksum."""
    spec = spec_of(kind)
    entry = write(tmp_path / "0", spec, chunks_of(spec))
    for name, seed in (("a", 1), ("b", 0)):
        other = write(tmp_path / "1", spec, chunks_of(spec, seed), name)
        assert (other.sha256 == entry.sha256) is False
        if seed:
            assert salvage(tmp_path / "1", spec, entry, ROOM, ROWS, ROOM).lost == tuple(range(ROWS))
    assert salvage(tmp_path / "1", spec, other, 0, ROWS, ROOM).index is None, "it begins at another row"


@KINDS
def test_what_is_known_of_a_row_proves_the_others(tmp_path: Path, kind: str) -> None:
    path, spec = tmp_path / "0", spec_of(kind)
    chunks = chunks_of(spec)
    entry = write(path, spec, chunks)
    whole = path.read_bytes()
    start = len(chunks[0])
    path.write_bytes(whole[:start] + bytes(len(chunks[1])) + whole[start + len(chunks[1]) :])
    unknown = salvage(path, spec, entry, ROOM, ROWS, ROOM)
    assert (unknown.index, unknown.doubtful) == (None, (1,))
    assert salvage(path, spec, entry, ROOM, ROWS, ROOM, {1: chunks[0]}).index is None, "it is not what it was"
    assert salvage(path, spec, entry, ROOM, ROWS, ROOM, {1: chunks[1]}).whole() == whole


@KINDS
def test_a_whole_shard_has_the_entry_that_was_committed(tmp_path: Path, kind: str) -> None:
    path, spec = tmp_path / "0", spec_of(kind)
    entry = write(path, spec, chunks_of(spec))
    assert entry_of(path, spec, ROOM, ROWS, ROOM) == entry
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="index"):
        entry_of(path, spec, ROOM, ROWS, ROOM)
