"""Randomness of a row: from its seed, its id and the name of the use alone."""

from __future__ import annotations

import hashlib
import struct
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shapestore.schemas.seeding import Streams, generator, row_seed

seeds = st.integers(0, 2**63 - 1)


@given(seed=seeds, shape_id=st.text(st.characters(codec="utf-8"), max_size=20))
def test_seed_is_63_bits_of_a_sha256(seed: int, shape_id: str) -> None:
    (first,) = struct.unpack_from("<Q", hashlib.sha256(str(seed).encode() + b"\0" + shape_id.encode()).digest())
    assert row_seed(seed, shape_id) == first // 2
    assert 0 <= row_seed(seed, shape_id) < 2**63


def test_known_values_never_change() -> None:
    """Stores that exist were made with these numbers."""
    assert row_seed(0, "03001627/1a6f615e8b1b5ae4dbbc9440457e303e") == KNOWN_SEED
    assert generator(KNOWN_SEED, "points").integers(0, 2**32, 3).tolist() == KNOWN_DRAWS


KNOWN_SEED = 122299514919199341
KNOWN_DRAWS = [784760313, 894604630, 3763390024]


@given(seed=seeds, uses=st.lists(st.text(max_size=8), min_size=2, max_size=4, unique=True))
def test_uses_are_independent_of_each_other_and_of_order(seed: int, uses: list[str]) -> None:
    forward = {use: generator(seed, use).random(4).tolist() for use in uses}
    backward = {use: generator(seed, use).random(4).tolist() for use in reversed(uses)}
    assert forward == backward
    assert len({tuple(draws) for draws in forward.values()}) == len(uses)


@given(
    seed=seeds, uses=st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=2, max_size=4, unique=True)
)
def test_streams_are_those_of_fresh_generators_whatever_came_before(seed: int, uses: list[str]) -> None:
    """As numpy says what the state of a PCG64 is, whatever was drawn from the stream before, and of whatever kind."""
    streams = Streams()
    for use in uses:
        state, inc = (int(half, 16) for half in _halves(f"{seed}\0{use}".encode()))
        fresh = np.random.Generator(np.random.PCG64(0))
        fresh.bit_generator.state = {**fresh.bit_generator.state, "state": {"state": state, "inc": inc | 1}}
        wanted = [fresh.integers(0, 100, 3, np.int32).tolist(), fresh.random(5).tolist(), fresh.normal(size=3).tolist()]
        stream = streams(seed, use)
        assert [stream.integers(0, 100, 3, np.int32).tolist(), stream.random(5).tolist()] == wanted[:2]
        assert stream.normal(size=3).tolist() == wanted[2]


def _halves(text: bytes) -> tuple[str, str]:
    """Both halves of a sha256 as hexadecimal numbers, the first byte the lowest."""
    digest = hashlib.sha256(text).digest()
    return digest[15::-1].hex(), digest[:15:-1].hex()


def test_each_thread_has_a_stream_of_its_own() -> None:
    streams = Streams()
    mine = streams(0, "mine")
    other = threading.Thread(target=lambda: streams(0, "other").random(7))
    other.start()
    other.join()
    assert mine.random(4).tolist() == Streams()(0, "mine").random(4).tolist()


def test_seeds_of_many_rows_differ() -> None:
    assert len({row_seed(recipe, f"shape-{row}") for recipe in range(3) for row in range(3000)}) == 9000


def test_bit_generator_is_pcg64() -> None:
    assert isinstance(generator(1, "points").bit_generator, np.random.PCG64)
