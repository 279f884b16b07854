"""The one exception tree: every error a user can meet says what is wrong, where, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """Why an input was refused: the short, stable text that quarantine lists are grouped by."""

    MISSING = "file missing"
    EMPTY = "empty file"
    LFS_POINTER = "git-lfs pointer"
    UNSUPPORTED = "unsupported format"
    MALFORMED = "malformed file"
    TRUNCATED = "declares more data than the file holds"
    NO_FACES = "no faces"
    INDEX_RANGE = "face index out of range"
    NOT_FINITE = "NaN or infinite coordinates"
    ZERO_AREA = "zero area"
    TOO_FEW_POINTS = "too few points"
    NOT_LABELS = "not a label map"
    EMPTY_LABELS = "no voxel of any declared class"
    GRID_MISMATCH = "grids do not fit one world frame"
    BAD_AFFINE = "the affine does not place the voxels in the world"
    NOT_CLOSED = "the surface does not enclose a volume"
    OVER_CAPACITY = "more than the declared capacity"
    WORKER_DIED = "the worker process died on this item"
    TIME_LIMIT = "over the time limit"
    MEMORY_LIMIT = "over the memory limit"
    LOST = "damaged in the store, and not to be had from its source"
    RULE = "breaks a schema rule"
    GATE = "fails a quality check"
    ERROR = "unexpected error"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what was expected, what was found, and what to do about it."""

    place: str
    expected: str
    """What would have been right; where `got` is None, in words of their own what is wrong, as rules between several
    values say it."""
    got: str | None = None
    remedy: str = ""

    def __str__(self) -> str:
        fault = self.expected if self.got is None else f"expected {self.expected}, got {self.got}"
        text = f"{self.place}: {fault}."
        return f"{text} {self.remedy}" if self.remedy else text


class ShapestoreError(Exception):
    """Base of all errors that are meant for a user; anything else that escapes is a bug."""

    exit_code: ClassVar[int] = 1


class UsageError(ShapestoreError):
    """The request itself is wrong: an unknown name, a bad option, a path that is not there."""

    exit_code = 2


class InputRefused(ShapestoreError):
    """One raw input cannot become a valid row; it is quarantined with this reason."""

    exit_code = 3

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Invalid(ShapestoreError):
    """Something breaks declared rules; carries every problem found, not only the first."""

    exit_code = 3

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        super().__init__(what, tuple(problems))
        self.what = what
        self.problems = tuple(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.what}: {count} problem{'s' if count != 1 else ''}"
        return "\n".join([head, *(f"  - {problem}" for problem in self.problems)])


class RecordInvalid(Invalid):
    """A record breaks rules of the store's schema."""


class GateFailed(Invalid):
    """A record fails quality checks that the recipe makes gates."""


class RecipeInvalid(Invalid):
    """A recipe is misspelt, incomplete or contradicts itself."""

    exit_code = 2


class NotAStore(UsageError):
    """The path holds no shapestore store."""


class NewerFormat(UsageError):
    """The store was written in a format that this version cannot read."""


class StoreDamaged(ShapestoreError):
    """A file of the store is lost, truncated, swapped or changed."""

    exit_code = 3

    def __init__(self, problem: str, array: str = "", rows: range | None = None, remedy: str = "") -> None:
        super().__init__(problem, array, rows, remedy)
        self.problem = problem
        """Which file, and what became of it."""
        self.remedy = remedy
        """What to do about it, where `problem` does not say."""
        self.array = array
        """Array or index array that cannot be read; empty where more is concerned."""
        self.rows = rows
        """Rows of a data array that cannot be read; None where more is concerned."""

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


class StoreChanged(ShapestoreError):
    """The store was changed by a writer after this reader opened it: open it again."""

    exit_code = 5


class StoreLocked(UsageError):
    """Another process is writing to the store."""


class RowEmpty(ShapestoreError):
    """The row exists but holds no data: its input is quarantined."""

    exit_code = 2


class WorkMismatch(UsageError):
    """The store holds other work than was asked for (another recipe, changed sources)."""


class StoppedEarly(ShapestoreError):
    """The job ended before all work was done; running the same command again goes on."""

    exit_code = 5


class StorageFailed(StoppedEarly):
    """The system could not write: no room, a broken disk, no right to. The store is at its last commit."""


_SYSTEMS_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})


def is_systems_fault(error: BaseException) -> bool:
    """Whether an error tells of the machine (no room, too many open files), whatever was being read at the time."""
    return isinstance(error, OSError) and error.errno in _SYSTEMS_FAULTS
