"""Uniform choices of entries, made from uniform numbers: what a draw costs lies here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.kernel import kernel


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
def shuffled_start(uniform: NDArray[np.float64], entries: int) -> NDArray[np.intp]:
    """First len(uniform) numbers of a shuffle of 0 to entries - 1 (Fisher and Yates, 1938; Durstenfeld, 1964).

    Parameters
    ----------
    uniform
        (count,) in [0, 1), count <= entries.
    entries
        Numbers that are shuffled.
    """
    deck = np.arange(entries)
    for i in range(len(uniform)):
        j = i + int(uniform[i] * (entries - i))
        deck[i], deck[j] = deck[j], deck[i]
    return deck[: len(uniform)].copy()
