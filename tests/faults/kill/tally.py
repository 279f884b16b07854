"""The kills so far, in a file that is rewritten after each round: the loop may itself be stopped at any time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults.kill.round import AMISS, Outcome
from tests.warm import PROJECT

KINDS = ("operation", "recipe", "workers", "victim", "step", "signal", "package")


@dataclass
class Tally:
    """What all rounds together found."""

    next_round: int = 0
    rounds: int = 0
    kills: int = 0
    amiss: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AMISS, 0))
    """Rounds in which something of a kind was found."""
    by: dict[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    """Kills by what was run, by what was killed, and by the digest of the package's code."""
    failures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Tally:
        """The tally of earlier runs of the loop; an empty one where there was none."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def save(self, path: Path) -> None:
        """Replace the file."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.replace(path)

    def add(self, outcome: Outcome, seed: int) -> None:
        """Count a round in."""
        self.rounds += 1
        self.kills += len(outcome.kills)
        for kind in outcome.amiss:
            self.amiss[kind] += 1
        for kill in outcome.kills:
            case = outcome.case
            what = (case.operation, case.recipe, str(outcome.workers), *kill, package_digest())
            for kind, value in zip(KINDS, what, strict=True):
                self.by[kind][value] = self.by[kind].get(value, 0) + 1
        if outcome.amiss:
            self.failures.append({"seed": seed, **asdict(outcome)})

    @property
    def sound(self) -> bool:
        """Whether the promise was kept in every round."""
        return not self.failures

    def table(self) -> str:
        """The tally for people."""
        lines = [f"{self.kills:,} kills in {self.rounds:,} rounds"]
        for kind, counts in self.by.items():
            lines += [kind, *(f"  {name:28} {count:7,}" for name, count in _ordered(counts).items())]
        lines += ["rounds with", *(f"  {kind:28} {rounds:7,}" for kind, rounds in self.amiss.items())]
        for failure in self.failures:
            lines.append(f"--only {failure['number']} --seed {failure['seed']}: {failure['case']} {failure['blows']}")
            lines += [f"    {kind}: {each}" for kind in AMISS for each in failure[kind][:5]]
        return "\n".join(lines)


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


@cache
def package_digest() -> str:
    """What tells the code that was killed from any other."""
    files = sorted((PROJECT / "shapestore").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
