"""What all families share: they own their arrays, and make the rules that hold between them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from pydantic import model_validator

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict
from shapestore.schemas.rules import Rule


class Family(Strict):
    """A group of arrays that belong together, with the rules they keep."""

    @abstractmethod
    def arrays(self) -> tuple[ArraySpec, ...]:
        """All arrays of the family."""

    @abstractmethod
    def rules(self) -> tuple[Rule, ...]:
        """All rules of the family, over the arrays by name."""

    @model_validator(mode="after")
    def _arrays_fit_the_family(self) -> Family:
        """Every array has the dtype and the dimensions that its part in the family asks for."""
        wrong = list(self._misfits())
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @abstractmethod
    def _misfits(self) -> Iterable[str]:
        """What is wrong with the declared arrays, one sentence each."""


def misfit(spec: ArraySpec, shape: tuple[int | None, ...], *dtypes: str) -> Iterable[str]:
    """Say where `spec` is not of `shape` (None: any size) or of none of `dtypes`."""
    if len(spec.shape) != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, spec.shape, strict=True)
    ):
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        yield f"{spec.name}: expected a row of shape ({wanted}), got {spec.shape}"
    if spec.dtype not in dtypes:
        yield f"{spec.name}: expected {' or '.join(dtypes)}, got {spec.dtype}"
