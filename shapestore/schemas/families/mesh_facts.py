"""MeshFacts: what the raw mesh is like; SignFacts: how inside was told from outside, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families.base import Family, misfit
from shapestore.schemas.rules import Rule, declared_codes, finite, non_negative, share


class MeshFacts(Family):
    """The report on a mesh that was made before anything was computed from it."""

    family: Literal["mesh_facts"] = "mesh_facts"
    counts: tuple[ArraySpec, ...]
    """Each () int32 index, >= 0: vertices, faces, components, dropped and repeated faces."""
    flags: tuple[ArraySpec, ...]
    """Each () uint8 index, 0 or 1: watertight, consistently wound."""
    volume: ArraySpec
    """() float64 index: signed volume in cubed raw units, > 0 for outward faces."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Counts, flags, volume."""
        return (*self.counts, *self.flags, self.volume)

    def rules(self) -> tuple[Rule, ...]:
        """Counts not negative, flags 0 or 1, volume finite."""
        counts = (non_negative(spec.name) for spec in self.counts)
        flags = (declared_codes(spec.name, (0, 1)) for spec in self.flags)
        return (*counts, *flags, finite(self.volume.name))

    def _misfits(self) -> Iterable[str]:
        for specs, dtype in ((self.counts, "int32"), (self.flags, "uint8"), ((self.volume,), "float64")):
            for spec in specs:
                yield from misfit(spec, (), dtype)


class SignFacts(Family):
    """The method that decided the signs of a shape, and how far to trust it."""

    family: Literal["sign_facts"] = "sign_facts"
    method: ArraySpec
    """() uint8 index: declared codes."""
    confidence: ArraySpec
    """() float32 index, 0 to 1: share of test positions on which independent methods agree."""

    def arrays(self) -> tuple[ArraySpec, ...]:
        """Method, confidence."""
        return (self.method, self.confidence)

    def rules(self) -> tuple[Rule, ...]:
        """Only declared methods, confidence a share."""
        return (
            declared_codes(self.method.name, (code.value for code in self.method.codes)),
            share(self.confidence.name),
        )

    def _misfits(self) -> Iterable[str]:
        yield from misfit(self.method, (), "uint8")
        yield from misfit(self.confidence, (), "float32")
        if not self.method.codes:
            yield f"{self.method.name}: methods must be declared as codes"
