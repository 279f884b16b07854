"""Randomness of a row: from the recipe's seed, the shape id and the name of its use, and from nothing else."""

from __future__ import annotations

import hashlib
import threading

import numpy as np


def row_seed(recipe_seed: int, shape_id: str) -> int:
    """63-bit seed of a row: the first 8 bytes of a sha256, so that it depends on no order and no other row."""
    hashed = hashlib.sha256(f"{recipe_seed}\0{shape_id}".encode()).digest()
    return int.from_bytes(hashed[:8], "little") >> 1


def generator(seed: int, use: str) -> np.random.Generator:
    """Independent PCG64 stream of a row for one named use, so that a new use changes no other."""
    return np.random.Generator(np.random.PCG64(row_seed(seed, use)))


class Streams(threading.local):
    """Independent PCG64 streams of named uses, one at a time: what a sample needs many of, where `generator` is slow.

    Each thread has one generator of its own, which is set to the start of each stream. The 256 bits of its state are
    the sha256 of seed and use; `generator` makes them from 63 of its bits, at ten times the cost.
    """

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.PCG64(0))

    def __call__(self, seed: int, use: str) -> np.random.Generator:
        """The stream of one use, until the same thread asks for the next one."""
        hashed = hashlib.sha256(f"{seed}\0{use}".encode()).digest()
        state, increment = (int.from_bytes(half, "little") for half in (hashed[:16], hashed[16:]))
        self._generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment | 1},  # an odd increment gives the full period
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator
