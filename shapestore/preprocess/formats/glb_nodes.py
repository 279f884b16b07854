"""What is checked of the nodes of a GLB file: a small file can place its meshes endlessly often."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.checks import natural

MOST_CORNERS: Final = 1 << 26
"""Positions and indices of all meshes, each counted as often as nodes place it: some 4 GiB once they are read."""

DEEPEST: Final = 256
"""Nodes above one another; the place of each is the product of all transforms above it."""


def check_nodes(header: dict[str, Any]) -> None:
    """Check that nodes are trees, as glTF 2.0 demands in section 3.5.2, and what they place in all.

    Parameters
    ----------
    header
        The JSON, in which accessors are checked.

    Raises
    ------
    InputRefused
        MALFORMED for a node with two parents, a cycle, or a child that is not there; UNSUPPORTED for more than
        `DEEPEST` nodes above one another, and for more than `MOST_CORNERS`.
    ValueError, TypeError, KeyError, IndexError, AttributeError
        The JSON does not follow the schema.
    """
    nodes = header.get("nodes", [])
    _refuse_tangle([[natural(child) for child in node.get("children", [])] for node in nodes])
    sizes = [sum(_size(header, part) for part in mesh["primitives"]) for mesh in header.get("meshes", [])]
    placed = Counter(natural(node["mesh"]) for node in nodes if "mesh" in node)
    total = sum(size * (1 + placed[mesh]) for mesh, size in enumerate(sizes))
    if total > MOST_CORNERS:
        raise InputRefused(
            Reason.UNSUPPORTED, f"a scene that places {total} positions and indices; at most {MOST_CORNERS} are read"
        )


def _refuse_tangle(children: list[list[int]]) -> None:
    """Refuse nodes that are no trees, or too deep ones."""
    parents = [0] * len(children)
    for child in (child for several in children for child in several):
        parents[child] += 1
    if max(parents, default=0) > 1:
        raise InputRefused(Reason.MALFORMED, f"node {parents.index(max(parents))} has several parents")
    level = [node for node, count in enumerate(parents) if count == 0]
    seen, depth = 0, 0
    while level:
        seen, depth = seen + len(level), depth + 1
        if depth > DEEPEST:
            raise InputRefused(Reason.UNSUPPORTED, f"more than {DEEPEST} nodes above one another")
        level = [child for node in level for child in children[node]]
    if seen < len(children):
        raise InputRefused(Reason.MALFORMED, "nodes that are their own descendants")


def _size(header: dict[str, Any], part: dict[str, Any]) -> int:
    """Positions and indices of a part of a mesh."""
    used = [part["attributes"]["POSITION"], *([part["indices"]] if "indices" in part else [])]
    return sum(natural(header["accessors"][natural(accessor)]["count"]) for accessor in used)
