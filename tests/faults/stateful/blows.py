"""Where operations are killed."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.faults.stateful.killed import Blow

COMMIT = (
    "locked", "file staged", "all staged", "redo log written", "file moved", "files durable", "root moved",
    "root durable", "redo log removed", "committed", "chunk removed", "lock removed", "os.rename", "os.remove",
)  # fmt: skip
"""Where whatever changes a store may be killed."""

SHARDS = ("shards written", "shard named", "shards durable")

ROWS = (
    "lines written", "lines durable", "row written", "part written", "part named", "ledger written", "ledger durable",
    *SHARDS, "plan removed", "ledger removed",
)  # fmt: skip
"""Where whatever computes rows may be killed as well."""

CREATION = ("creation begun", "store folder made", "store created")

RESTORATION = ("restored file written", "file restored", "all restored")

NOWHERE = Blow("nowhere", 1)
"""Never strikes: the operation runs to its end in a process of its own."""


def blows(*steps: str, most: int = 4) -> st.SearchStrategy[Blow | None]:
    """No blow, or one at a step or a change of names."""
    return st.none() | st.builds(Blow, st.sampled_from(steps), st.integers(1, most))
