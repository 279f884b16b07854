"""Rows that belong together: pairs of equal keys, and what pairs connect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Pairs = NDArray[np.int64]
"""(p, 2) positions of rows."""


def equal_pairs(keys: NDArray[Any], counts: NDArray[np.bool_]) -> Pairs:
    """Pairs that connect all positions of the same key, among those that count."""
    positions = np.flatnonzero(counts)
    positions = positions[np.argsort(keys[positions], kind="stable")]
    same = keys[positions[1:]] == keys[positions[:-1]]
    return np.stack([positions[:-1][same], positions[1:][same]], axis=1)


def component_labels(rows: int, pairs: Pairs) -> NDArray[np.int64]:
    """(rows,) number of the connected component that each row is in."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def members_of_shared(labels: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Positions (at least two, ascending) of every label that occurs more than once."""
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(labels[order][1:] != labels[order][:-1]) + 1
    return (members for members in np.split(order, bounds) if len(members) > 1)
