"""The processes that train one model together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from shapestore.errors import UsageError
from shapestore.schemas.base import digest

LONGEST_WAIT = timedelta(hours=2)
"""How long ranks wait for each other: a validation on the first one may take that long, and a dead one is noticed."""


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together; the default is one process alone."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all ranks are here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all get the same answer."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
        return bool(flags)

    def require_same(self, what: str, value: Any) -> None:
        """Raise `UsageError` in all ranks where a JSON value, named by `what`, is not the same in each."""
        if self.count == 1:
            return
        mine = torch.tensor(list(bytes.fromhex(digest(value))))
        both = torch.cat([mine, -mine])
        distributed.all_reduce(both, op=distributed.ReduceOp.MAX)
        largest, smallest = both[: len(mine)], -both[len(mine) :]
        if not torch.equal(largest, smallest):
            raise UsageError(f"the processes that train together do not have the same {what}. Give each the same.")

    def mean(self, values: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Each scalar, averaged over the ranks; UsageError where they have other names in another rank."""
        names = sorted(values)
        self.require_same("scalars of the objective", names)
        stacked = torch.stack([values[name].float() for name in names]).cpu()
        if self.count > 1:
            distributed.all_reduce(stacked)
            stacked /= self.count
        return dict(zip(names, stacked.tolist(), strict=True))


@contextmanager
def launched(device: str) -> Iterator[Ranks]:
    """Join the ranks that torchrun started (it says so in the environment), or be alone.

    Parameters
    ----------
    device
        `cpu` or `cuda`; of several GPUs each process takes that of its local rank.

    Raises
    ------
    UsageError
        There is no GPU for this process.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = torch.device(device, int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else torch.device(device)
    if local.type == "cuda":
        if (local.index or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"{device} is asked for, and torch {torch.__version__} finds {torch.cuda.device_count()} GPUs for "
                f"process {local.index}. Train on the CPU, start fewer processes, or install a torch for your GPUs."
            )
        torch.cuda.set_device(local)
    if count == 1:
        yield Ranks(device=local)
        return
    # Gradients go over nccl where they lie on GPUs, and the few numbers of the loop over gloo, with no wait for a GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if local.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    try:
        yield Ranks(distributed.get_rank(), count, local)
    finally:
        distributed.destroy_process_group()
