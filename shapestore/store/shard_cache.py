"""The shards that a reader has mapped: opened when first needed, closed oldest first when too many are open."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable
from threading import RLock

import numpy as np
from numpy.typing import NDArray

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
        self._addresses: dict[str, NDArray[np.intp]] = {}
        self.limit = most_maps()
        """Shards that may be mapped at once."""
        self.maps: OrderedDict[Key, ShardMap] = OrderedDict()
        """Shards that are mapped now."""
        self.lock = RLock()
        """Held while maps come and go; whoever copies by address takes the maps and their addresses under it."""

    def get(self, array: str, group: int) -> ShardMap:
        """The shard of one array and row group, mapped now if it is not yet."""
        shard = self.maps.get((array, group))
        return self._map(array, group) if shard is None else shard

    def _map(self, array: str, group: int) -> ShardMap:
        with self.lock:
            while len(self.maps) >= self.limit:
                (old_array, old_group), _ = self.maps.popitem(last=False)
                if old_array in self._addresses:
                    self._addresses[old_array][old_group] = 0
            shard = self.maps[array, group] = self._open(array, group, self._known.get((array, group)))
            self._known[array, group] = shard.memory
            if array in self._addresses:
                self._addresses[array][group] = shard.address
            return shard

    def addresses(self, array: str, row_groups: int) -> NDArray[np.intp]:
        """(row_groups,) where each mapped shard of an array starts in memory; 0 for those that are not mapped."""
        if array not in self._addresses:
            known: NDArray[np.intp] = np.zeros(row_groups, np.intp)
            for (name, group), shard in self.maps.items():
                if name == array:
                    known[group] = shard.address
            self._addresses[array] = known
        return self._addresses[array]

    def __len__(self) -> int:
        return len(self.maps)

    def clear(self) -> None:
        """Give up all maps; views that are still used keep theirs."""
        self.maps.clear()
        self._addresses.clear()
