"""The shards that a reader has mapped: opened when first needed, closed oldest first when too many are open."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable

from shapestore.store.shard_map import Memory, ShardMap

Key = tuple[str, int]
"""Array name and row group."""


def most_maps() -> int:
    """Maps that one reader keeps open: half of the open files that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (soft if soft != resource.RLIM_INFINITY else 65_536) // 2)


class ShardCache:
    """Mapped shards by array and row group, the least recently mapped given up first.

    A child process made by fork goes on with its parent's maps, which are private copy-on-write in both.
    """

    def __init__(self, open_shard: Callable[[str, int, Memory | None], ShardMap]) -> None:
        self._open = open_shard
        self._known: dict[Key, Memory] = {}
        self._limit = most_maps()
        self.maps: OrderedDict[Key, ShardMap] = OrderedDict()
        """Shards that are mapped now; for a loop that cannot afford a call."""

    def get(self, array: str, group: int) -> ShardMap:
        """The shard of one array and row group, mapped now if it is not yet."""
        shard = self.maps.get((array, group))
        if shard is None:
            while len(self.maps) >= self._limit:
                self.maps.popitem(last=False)
            shard = self.maps[array, group] = self._open(array, group, self._known.get((array, group)))
            self._known[array, group] = shard.memory
        return shard

    def __len__(self) -> int:
        return len(self.maps)

    def clear(self) -> None:
        """Give up all maps; views that are still used keep theirs."""
        self.maps.clear()
