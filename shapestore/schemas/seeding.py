"""Randomness of a row: from the recipe's seed, the shape id and the name of its use, and from nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def row_seed(recipe_seed: int, shape_id: str) -> int:
    """63-bit seed of a row: the first 8 bytes of a sha256, so that it depends on no order and no other row."""
    hashed = hashlib.sha256(f"{recipe_seed}\0{shape_id}".encode()).digest()
    return int.from_bytes(hashed[:8], "little") >> 1


def generator(seed: int, use: str) -> np.random.Generator:
    """Independent PCG64 stream of a row for one named use, so that a new use changes no other."""
    return np.random.Generator(np.random.PCG64(row_seed(seed, use)))
