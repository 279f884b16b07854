"""Which files of a folder are NIfTI volumes, which cases they make, and which class a mask file belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.source import kind_of, list_folder
from shapestore.schemas.recipe import LabelsPart

REMEDY: Final = "declare them in labels.classes, or make them background with --set labels.undeclared=background"
"""What to do about values and masks that no class declares."""

_HALVES: Final = (".img", ".hdr")
_ENDINGS: Final = (".nii.gz", ".nii", *_HALVES)
_MOST_LISTED: Final = 5


def volumes(files: Iterable[str]) -> tuple[tuple[str, ...], Counter[str]]:
    """The file to read of every volume, in the given order, and how many other files of each kind there are.

    A `.hdr` belongs to the `.img` of its name. One without the other stays a volume, for its reader to refuse.
    """
    split = {path: _split(path) for path in files}
    images = {stem for stem, ending in split.values() if ending == ".img"}
    found: list[str] = []
    other: Counter[str] = Counter()
    for path, (stem, ending) in split.items():
        if not ending:
            other[kind_of(path)] += 1
        elif ending != ".hdr" or stem not in images:
            found.append(path)
    return tuple(found), other


def case_name(path: str) -> str:
    """Path without `.nii` or `.nii.gz`. A pair keeps `.img`, which tells it from a single file of its name."""
    stem, ending = _split(path)
    return path if ending in _HALVES else stem


def refuse_half(root: Path, path: str) -> None:
    """Refuse as MISSING a `.img` without its `.hdr`, or the reverse; a link out of the root counts as not there."""
    stem, ending = _split(PurePosixPath(path).name)
    if ending not in _HALVES:
        return
    other = _HALVES[1 - _HALVES.index(ending)]
    if (stem, other) not in map(_split, list_folder((root / path).parent, root).files):
        raise InputRefused(Reason.MISSING, f"{PurePosixPath(path).name} needs {stem}{other} beside it")


def mask_files(root: Path, path: str, labels: LabelsPart) -> tuple[tuple[str, int], ...]:
    """Names of the mask files in a case's folder that classes declare, with their codes.

    Parameters
    ----------
    root
        Raw root.
    path
        The folder, relative to it.
    labels
        Of scheme `single`, where every mask has code 1, or `mapping`.

    Returns
    -------
    tuple of (str, int)
        In the order of the codes, then of the names.

    Raises
    ------
    InputRefused
        MISSING without the folder; NOT_LABELS for masks that no class declares, where the recipe does not make them
        background, and for two files of one structure.
    """
    if not (root / path).is_dir():
        raise InputRefused(Reason.MISSING, f"the folder {path} is not there")
    files, _ = volumes(list_folder(root / path, root).files)
    if labels.scheme == "single":
        return tuple((file, 1) for file in files)
    codes = {_structure(labels, name): code for code, name in enumerate(labels.names, start=1)}
    chosen: dict[int, str] = {}
    undeclared: list[str] = []
    for file in files:
        code = codes.get(_split(file)[0].casefold())
        if code is None:
            undeclared.append(file)
        elif code in chosen:
            raise InputRefused(Reason.NOT_LABELS, f"{chosen[code]} and {file} are masks of one structure")
        else:
            chosen[code] = file
    if undeclared and labels.undeclared == "refuse":
        raise InputRefused(Reason.NOT_LABELS, f"no class declares the masks {listed(undeclared)}: {REMEDY}")
    return tuple((chosen[code], code) for code in sorted(chosen))


def refuse_unfit(labels: LabelsPart) -> None:
    """Refuse, as a UsageError, classes that do not tell the masks of a folder apart."""
    if labels.layout == "file" or labels.scheme == "single":
        return
    if labels.scheme == "heart-10":
        raise UsageError(
            "The classes of heart-10 are values of one map, and labels.layout=folder asks for a mask file for each "
            "class. Use labels.scheme=mapping, and name the file of every class in labels.classes."
        )
    counts = Counter(_structure(labels, name) for name in labels.names)
    twice = [structure for structure, count in counts.items() if count > 1]
    if twice:
        raise UsageError(f"labels.classes names {listed(twice)} twice: the case of mask file names does not count.")


def listed(values: Sequence[int | str]) -> str:
    """The first few of several values, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:_MOST_LISTED])
    more = len(values) - _MOST_LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _split(path: str) -> tuple[str, str]:
    """A path without the ending of a NIfTI file, and that ending in lower case; empty for another file."""
    ending = next((ending for ending in _ENDINGS if path.lower().endswith(ending)), "")
    return path[: len(path) - len(ending)], ending


def _structure(labels: LabelsPart, name: str) -> str:
    """What the mask file of a class is called, in the form in which names are compared."""
    return str(labels.class_values[name]).casefold()
