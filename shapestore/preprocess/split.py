"""Split sets: every shape gets a part, all variants of one object the same, each category in the asked shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.schemas.base import digest

Codes = NDArray[np.int8]

MOST_PARTS: Final = 127
"""Names that an int8 column can tell apart, beside -1 for none."""


def split_by_group(groups: Sequence[str], strata: Sequence[str], parts: Mapping[str, float], seed: int) -> Codes:
    """Divide rows among parts without parting a group.

    In every stratum the groups are shuffled by a hash of (seed, stratum, group) and laid in a line, which is cut where
    a whole group ends nearest to the asked share of rows. Each part so gets its share to within the largest group; a
    stratum of at least as many groups as parts gives every part at least one, which may take more. What a stratum gets
    depends on its own rows alone, not on their order nor on other strata.

    Parameters
    ----------
    groups
        (n,) key of each row's group; all rows of one key get one part.
    strata
        (n,) stratum of each row, such as its category. A group that lies in several counts to that of its first row.
    parts
        Name to share of the rows, each > 0, summing to 1.
    seed
        Of the shuffle.

    Returns
    -------
    NDArray[np.int8]
        (n,) position in `parts` of each row's part.

    Raises
    ------
    UsageError
        The shares do not sum to 1, or there are too many.
    """
    require_shares(parts)
    rows: dict[str, list[int]] = {}
    strata_groups: dict[str, list[str]] = {}
    for row, (group, stratum) in enumerate(zip(groups, strata, strict=True)):
        if group not in rows:
            rows[group] = []
            strata_groups.setdefault(stratum, []).append(group)
        rows[group].append(row)
    codes = np.empty(len(groups), np.int8)
    for stratum, members in strata_groups.items():
        shuffled = sorted(members, key=lambda group: digest([seed, stratum, group]))
        order = _part_order(parts, stratum, seed)
        shares = [list(parts.values())[part] for part in order]
        cuts = _cuts(np.array([len(rows[group]) for group in shuffled]), shares)
        for part, start, end in zip(order, cuts[:-1], cuts[1:], strict=True):
            for group in shuffled[start:end]:
                codes[rows[group]] = part
    return codes


def require_shares(parts: Mapping[str, float]) -> None:
    """Raise `UsageError` unless the shares are positive numbers that sum to 1, of at most 127 named parts."""
    shown = ", ".join(f"{name}={share:g}" for name, share in parts.items()) or "none"
    if not 0 < len(parts) <= MOST_PARTS or not all(parts):
        raise UsageError(f"a split has 1 to {MOST_PARTS} parts, each with a name; got {len(parts)}: {shown}.")
    total = math.fsum(parts.values())
    if not all(share > 0 for share in parts.values()) or not math.isclose(total, 1, abs_tol=1e-9):
        raise UsageError(f"the shares of a split are above 0 and sum to 1; {shown} sum to {total:g}.")


def _part_order(parts: Mapping[str, float], stratum: str, seed: int) -> list[int]:
    """In which order the parts lie along the line: another one in each stratum.

    In one fixed order the roundings of many small strata would all favour the same part.
    """
    names = list(parts)
    return sorted(range(len(names)), key=lambda part: digest([seed, stratum, "part", names[part]]))


def _cuts(sizes: NDArray[np.integer[Any]], shares: Sequence[float]) -> list[int]:
    """Where to cut a line of groups.

    Parameters
    ----------
    sizes
        (m,) rows of each group, in the order of the line.
    shares
        k shares, in the order of the parts along the line.

    Returns
    -------
    list[int]
        k + 1 positions between groups, ascending from 0 to m: each where the rows before it are nearest to the sum of
        the shares before it, the earlier of two that are equally near.
    """
    reached = np.concatenate([[0], np.cumsum(sizes)])
    least = 1 if len(sizes) >= len(shares) else 0
    cuts = [0]
    for part in range(1, len(shares)):
        target = reached[-1] * math.fsum(shares[:part])
        nearest = int(np.abs(reached - target).argmin())
        last = len(sizes) - least * (len(shares) - part)
        cuts.append(min(max(nearest, cuts[-1] + least), last))
    return [*cuts, len(sizes)]
