"""`MixedDataset`: several datasets as one, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.train.data.batched import BatchedDataset
from shapestore.train.data.buffers import Slot
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.visit import Visit

MEMBER = "member"
"""Field of every batch of a mixture: the dataset of the sample, int64; its `row` is one of that dataset's store."""


class MixedDataset(BatchedDataset):
    """Datasets of several stores as one, indices one dataset after another.

    A `ShapeSampler` draws from it with replacement: from each dataset as often as its weight says, evenly within it.
    A sample is the one that its own dataset gives for the same epoch and repeat.

    Parameters
    ----------
    members
        Datasets, all with the same fields, and the weight of each, > 0.

    Raises
    ------
    UsageError
        A weight is not positive, or the samples of two datasets differ in their fields or in what codes mean.
    """

    def __init__(self, members: Sequence[tuple[ShapeDataset, float]]) -> None:
        super().__init__()
        pairs = [each for each in members if isinstance(each, tuple) and len(each) == 2]
        if not members or len(pairs) < len(members) or not all(0 < weight < float("inf") for _, weight in pairs):
            raise UsageError("a mixture has datasets, each with a weight > 0, such as [(one, 3), (other, 1)].")
        self.members = tuple(dataset for dataset, _ in members)
        shares = np.array([weight for _, weight in members], np.float64)
        self.shares = shares / shares.sum()
        """(m,) share of each dataset in what is drawn."""
        self._starts = np.cumsum([0, *(len(member) for member in self.members)])
        first = self.members[0].layout
        for number, member in enumerate(self.members):
            if dict(member.layout) != dict(first):
                raise UsageError(
                    f"the samples of dataset {number} of a mixture are not like those of dataset 0: "
                    f"{_text(member.layout)} beside {_text(first)}."
                )
        self._require_one_meaning()

    def _require_one_meaning(self) -> None:
        """Whoever learns from codes would learn two classes as one."""
        known: dict[tuple[str, int], tuple[str, ShapeDataset]] = {}
        for member in self.members:
            for name, meanings in member.meanings.items():
                for code, meaning in meanings.items():
                    before, owner = known.setdefault((name, code), (meaning, member))
                    if before != meaning:
                        raise UsageError(
                            f"code {code} of {name} is {before!r} in {owner.store.path} and {meaning!r} in "
                            f"{member.store.path}. Leave {name} out, and look it up by `{MEMBER}` and `row`."
                        )

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def layout(self) -> Mapping[str, Slot]:
        """That of all members, and the number of the member."""
        return {**self.members[0].layout, MEMBER: ((), np.dtype(np.int64))}

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) number of the dataset and shape id: two stores may hold shapes of one name."""
        texts = [f"{number}\0{text}" for number, member in enumerate(self.members) for text in member.ids]
        return np.array(texts, object)

    @property
    def weights(self) -> NDArray[np.float64]:
        """(n,) weights, of sum 1: each dataset has its share, evenly over its shapes."""
        sizes = [len(member) for member in self.members]
        return np.repeat(self.shares / sizes, sizes)

    def balanced(self, column: str) -> NDArray[np.float64]:
        """(n,) weights, of sum 1: each dataset has its share, and all values of an index array are even in it."""
        each = [member.balanced(column) for member in self.members]
        return np.concatenate([share * own for share, own in zip(self.shares, each, strict=True)])

    def identity(self) -> dict[str, str]:
        """Digests of all that a sample depends on but its visit, by what they are of."""
        return {
            f"{name} of dataset {number}": value
            for number, member in enumerate(self.members)
            for name, value in member.identity().items()
        }

    def fill(self, visits: Sequence[Visit], out: Mapping[str, NDArray[Any]]) -> None:
        """Gather samples into arrays; see `BatchedDataset.fill`. Each passes through an array of its own dataset."""
        index = np.array([visit.index for visit in visits])
        owner = np.searchsorted(self._starts, index, side="right") - 1
        for number in np.unique(owner).tolist():
            member, places = self.members[number], np.flatnonzero(owner == number).tolist()
            own = [visits[place]._replace(index=int(index[place] - self._starts[number])) for place in places]
            part = {name: np.empty((len(own), *shape), dtype) for name, (shape, dtype) in member.layout.items()}
            member.fill(own, part)
            for name, values in part.items():
                out[name][places] = values
        out[MEMBER][...] = owner


def _text(layout: Mapping[str, Slot]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in layout.items())
