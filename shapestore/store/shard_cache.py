"""The shards that a reader has mapped: opened when first needed, closed oldest first when too many are open."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from collections.abc import Callable
from threading import RLock
from weakref import WeakSet

from shapestore.store.shard_map import Memory, ShardMap

Key = tuple[str, int]
"""Array name and row group."""

OpenShard = Callable[[str, int, Memory | None], ShardMap]
"""Maps the shard of one array and row group."""

COPIES_AT_ONCE = 8
"""Threads that may copy at the same moment: maps that another gave up stay open until they are done with them."""


def most_maps() -> int:
    """Maps that one reader keeps open: half of the open files that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (soft if soft != resource.RLIM_INFINITY else 65_536) // 2)


class ShardCache:
    """Mapped shards by array and row group, the least recently mapped given up first.

    A child process made by fork goes on with its parent's maps, which are private copy-on-write in both.

    The cache does not know the store that it belongs to: in a cycle of references the maps of a store that nobody uses
    any more, and their open files, would stay until the next garbage collection.
    """

    def __init__(self) -> None:
        self._known: dict[Key, Memory] = {}
        self.limit = most_maps()
        """Shards that may be mapped at once."""
        self.maps: OrderedDict[Key, ShardMap] = OrderedDict()
        """Shards that are mapped now."""
        self.lock = RLock()
        """Held while maps come and go. Whoever copies by address holds the maps themselves, which keeps them open."""
        _caches.add(self)

    @property
    def block(self) -> int:
        """Shards that one thread may copy from at once."""
        return max(1, self.limit // COPIES_AT_ONCE)

    def get(self, array: str, group: int, open_shard: OpenShard) -> ShardMap:
        """The shard of one array and row group, mapped now if it is not yet."""
        shard = self.maps.get((array, group))
        return self._map(array, group, open_shard) if shard is None else shard

    def _map(self, array: str, group: int, open_shard: OpenShard) -> ShardMap:
        with self.lock:
            if (array, group) in self.maps:  # by another thread, while this one waited
                return self.maps[array, group]
            while len(self.maps) >= self.limit:
                self.maps.popitem(last=False)
            shard = self.maps[array, group] = open_shard(array, group, self._known.get((array, group)))
            self._known[array, group] = shard.memory
            return shard

    def __len__(self) -> int:
        return len(self.maps)

    def clear(self) -> None:
        """Give up all maps; views that are still used keep theirs."""
        self.maps.clear()

    def forget_other_threads(self) -> None:
        """In a forked child no other thread goes on: let go of what one held, and of what one had half written."""
        self.lock = RLock()


_caches: WeakSet[ShardCache] = WeakSet()
"""All caches of this process."""


def _forget_other_threads() -> None:
    for cache in list(_caches):
        cache.forget_other_threads()


os.register_at_fork(after_in_child=_forget_other_threads)
