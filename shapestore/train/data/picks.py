"""Uniform choices of entries, made from uniform numbers: what a draw costs lies here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.kernel import kernel

BLOCK = 64
"""Entries that are counted together, and searched one by one for a member."""
FEW = 32
"""A deck is laid out where more than one entry in so many is drawn."""
GOLDEN = 2654435769
"""2 ** 32 by the golden ratio, odd: spreads numbers that lie close."""


def choose(rng: np.random.Generator, entries: int, count: int, replace: bool) -> NDArray[np.intp]:
    """`count` numbers of `entries` entries, uniform and in random order.

    Parameters
    ----------
    rng
        Where the randomness comes from: `count` uniform numbers are taken.
    entries, count
        Entries that there are, > 0, and entries that are wanted.
    replace
        Whether an entry may come more than once.

    Returns
    -------
    (count,) intp in [0, entries).

    Raises
    ------
    UsageError
        Without replacement there are not as many.
    """
    uniform = rng.random(count)
    if replace:
        return (uniform * entries).astype(np.intp)
    if count > entries:
        raise UsageError(f"{count} of {entries} entries cannot be drawn without drawing some twice")
    return shuffled_start(uniform, entries)


@kernel
def count_members(keys: NDArray[Any], codes: NDArray[Any]) -> NDArray[np.int32]:
    """How many entries of each stratum come before every block of `BLOCK` entries: (s, blocks + 1); last, all of them.

    A list of all members of a stratum costs more than the few that are drawn of it.
    """
    members = np.zeros((len(codes), -(-len(keys) // BLOCK) + 1), np.int32)
    for stratum in range(len(codes)):
        for block in range(members.shape[1] - 1):
            count = 0
            for key in keys[block * BLOCK : (block + 1) * BLOCK]:
                count += key == codes[stratum]
            members[stratum, block + 1] = members[stratum, block] + count
    return members


@kernel
def shuffled_start(uniform: NDArray[np.float64], entries: int) -> NDArray[np.intp]:
    """First len(uniform) numbers of a shuffle of 0 to entries - 1 (Fisher and Yates, 1938; Durstenfeld, 1964).

    Parameters
    ----------
    uniform
        (count,) in [0, 1), count <= entries.
    entries
        Numbers that are shuffled.
    """
    count = len(uniform)
    picked = np.empty(count, np.intp)
    if count * FEW > entries:
        deck = np.arange(entries)
        for i in range(count):
            j = i + int(uniform[i] * (entries - i))
            picked[i] = deck[j]
            deck[j] = deck[i]
        return picked
    # Of a large deck, only the cards that were moved, by their place: a hash table, half empty, of 2 ** bits slots.
    bits = 2
    while 1 << bits < 2 * count:
        bits += 1
    places, cards = np.full(1 << bits, -1), np.empty(1 << bits, np.int64)
    for i in range(count):
        j = i + int(uniform[i] * (entries - i))
        at_i, at_j = _slot(places, i, bits), _slot(places, j, bits)
        card = i if places[at_i] == -1 else cards[at_i]
        picked[i] = j if places[at_j] == -1 else cards[at_j]
        places[at_j], cards[at_j] = j, card
    return picked


@kernel
def _slot(places: NDArray[np.int64], place: int, bits: int) -> int:
    """Where a place is in the table, or where it belongs (Knuth, 1973: multiplicative hash, linear probing)."""
    slot = (place * GOLDEN & 0xFFFFFFFF) >> (32 - bits)
    while places[slot] != -1 and places[slot] != place:
        slot = (slot + 1) & ((1 << bits) - 1)
    return slot


@kernel
def choose_members(
    uniform: NDArray[np.float64],
    keys: NDArray[Any],
    codes: NDArray[Any],
    members: NDArray[np.int32],
    counts: NDArray[np.intp],
    replace: bool,
) -> NDArray[np.intp]:
    """Entries of several strata: from each a number of its own, uniform and in random order, one stratum after another.

    A stratum that has fewer entries than are wanted of it is drawn with replacement.

    Parameters
    ----------
    uniform
        (sum(counts),) in [0, 1).
    keys, codes
        (n,) the stratum of each entry; (s,) the key of each stratum, of the same dtype.
    members
        As `count_members` gives them for `keys` and `codes`.
    counts
        (s,) entries that are wanted of each stratum; 0 of those that are empty.
    replace
        Whether an entry may come more than once, though its stratum has enough.

    Returns
    -------
    (sum(counts),) intp in [0, n).
    """
    picked = np.empty(len(uniform), np.intp)
    start = 0
    for stratum in range(len(codes)):
        before, size = members[stratum], members[stratum, -1]
        end = start + counts[stratum]
        if replace or counts[stratum] > size:
            for i in range(start, end):
                picked[i] = int(uniform[i] * size)
        else:
            picked[start:end] = shuffled_start(uniform[start:end], size)
        for i in range(start, end):
            block = np.searchsorted(before, picked[i], "right") - 1
            left, entry = picked[i] - before[block], block * BLOCK
            while left > 0 or keys[entry] != codes[stratum]:
                left -= keys[entry] == codes[stratum]
                entry += 1
            picked[i] = entry
        start = end
    return picked
