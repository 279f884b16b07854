"""`Source`: how a dataset's files become items, and an item its raw arrays. One subclass a dataset layout.

A third party adds one through the entry-point group `shapestore.sources`; the name of the entry point is the source
kind on the command line.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess.raw import Raw
from shapestore.schemas.recipe import Input, Recipe
from shapestore.schemas.record import MAX_ID_BYTES

GROUP = "shapestore.sources"

LINK_OUT: Final = "link out of the folder"
"""Key in `Discovery.ignored` of symbolic links that lead out of the raw root: they are never followed."""

_DIGEST_MARK: Final = re.compile(r"~[0-9a-f]{16}$")
"""How `safe_id` ends the ids that it changed."""


@dataclass(frozen=True)
class SourceItem:
    """One shape to be: known from names and lists alone, without reading its data."""

    shape_id: str
    """Unique in the source: a relative path of printable characters such as `03001627/1a6f615e8b1b5ae4`."""
    path: str
    """Raw file or folder, relative to the raw root, with `/` between its parts."""
    group: str
    """Key that all variants of one object share."""
    category: str = ""
    """Class, exactly as the dataset spells it."""
    split: str = ""
    """Split that the dataset (or the source's recorded rule) assigns."""
    position: int | None = None
    """Which of the shapes in the file it is, where a file holds several."""


@dataclass(frozen=True)
class Discovery:
    """What a source found below a raw root."""

    items: tuple[SourceItem, ...]
    """Every shape, in any order; the plan sorts them."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """What was passed over: kind of file (such as `.mtl`) to how many."""
    notes: tuple[str, ...] = ()
    """What the user should know, such as where the split comes from."""


class Source(ABC):
    """A dataset layout."""

    recipe: ClassVar[str]
    """Built-in recipe that is used where the user names none."""

    def complete(self, root: Path, recipe: Recipe) -> Recipe:
        """Fill in what the recipe leaves for the data to say; most sources have nothing to fill in."""
        del root
        return recipe

    @abstractmethod
    def discover(self, root: Path, recipe: Recipe) -> Discovery:
        """Find all items below `root`: deterministic, and without reading shapes.

        Raises
        ------
        UsageError
            The folder does not have the layout: says what was expected where, and what was found.
        """

    @abstractmethod
    def inputs(self, root: Path) -> frozenset[Input]:
        """Kinds of raw item that `read` will give for this folder."""

    @abstractmethod
    def read(self, root: Path, item: SourceItem, recipe: Recipe) -> Raw:
        """Read one item.

        Raises
        ------
        InputRefused
            The item cannot be read: quarantined with this reason.
        """


def source_kinds() -> tuple[str, ...]:
    """Names of all installed sources."""
    return tuple(sorted(entry_points(group=GROUP).names))


def load_source(kind: str) -> Source:
    """Make the source of one kind.

    Raises
    ------
    UsageError
        No such source is installed.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == kind:
            source: Source = entry.load()()
            return source
    raise UsageError(f"no source {kind!r}. Installed: {', '.join(source_kinds())}.")


def storable(text: str) -> str:
    r"""A path as text that UTF-8 can hold: bytes of a file name that are not UTF-8 become escapes such as `\udcff`.

    Such a path names no file, so that `raw_path` refuses its item; all else can go on.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def raw_path(root: Path, item: SourceItem) -> Path:
    """Where the raw file or folder of an item lies.

    Raises
    ------
    InputRefused
        MISSING if it leads out of `root`, or if the name of the file is not UTF-8.
    """
    path = root / item.path
    if "\0" in item.path:
        raise InputRefused(Reason.MISSING, f"{item.path!r} cannot be the name of a file")
    if not is_below(path, root):
        raise InputRefused(Reason.MISSING, f"{item.path} leads out of the raw folder, and such links are not followed")
    if r"\udc" in item.path and not os.path.lexists(path):
        raise InputRefused(Reason.MISSING, f"{item.path}: the name of the file is not UTF-8: rename it")
    return path


def kind_of(name: str) -> str:
    """Key of a file in `Discovery.ignored`: its suffix in lower case."""
    return PurePosixPath(name).suffix.lower() or "no suffix"


def refuse_repeats(items: Iterable[SourceItem]) -> None:
    """Raise a UsageError that names both origins if two items have one shape id."""
    first: dict[str, str] = {}
    for item in items:
        if item.shape_id in first:
            one, other = first[item.shape_id], item.path
            raise UsageError(f"the shape id {item.shape_id!r} is given twice, by {one} and by {other}: remove one.")
        first[item.shape_id] = item.path


def safe_id(text: str) -> str:
    """A valid shape id for any relative path; different texts give different ids.

    Almost every text is its own id. Otherwise what an id cannot hold is escaped as in a Python string, the end is cut
    off where it is too long, and `~` with 16 digits of the text's sha256 is appended, which keeps it unique.
    """
    if _is_id(text) and not _DIGEST_MARK.search(text):
        return text
    parts = [_printable_part(part) for part in text.split("/") if part]
    mark = "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    head = "/".join(parts).encode()[: MAX_ID_BYTES - len(mark)]
    return head.decode("utf-8", "ignore") + mark


def _is_id(text: str) -> bool:
    """Whether `text` meets the rule of `ShapeId`."""
    if any(unicodedata.category(char)[0] == "C" for char in text):
        return False
    return len(text.encode()) <= MAX_ID_BYTES and not any(part in ("", ".", "..") for part in text.split("/"))


def _printable_part(part: str) -> str:
    """One part of a path with escapes for what an id cannot hold."""
    if part in (".", ".."):
        return part.replace(".", r"\x2e")
    return "".join(_escaped(char) if unicodedata.category(char)[0] == "C" else char for char in part)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True)
class Listing:
    """What one folder holds, sorted by name."""

    folders: tuple[str, ...]
    """Names of folders, and of links to folders below the raw root."""
    files: tuple[str, ...]
    """Names of everything else; a link whose target is lost counts as a file, for its reader to report."""
    ignored: Mapping[str, int]
    """Hidden entries and links out of the raw root."""


def list_folder(folder: Path, root: Path) -> Listing:
    """List a folder below (or equal to) the raw root, without hidden entries and without links that leave the root.

    Raises
    ------
    UsageError
        It is no folder, or cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    ignored: Counter[str] = Counter()
    for entry in _entries(folder):
        is_folder = _is_folder(entry)
        if entry.name.startswith("."):
            ignored["hidden folder" if is_folder else "hidden file"] += 1
        elif entry.is_symlink() and not is_below(Path(entry.path), root):
            ignored[LINK_OUT] += 1
        else:
            (folders if is_folder else files).append(entry.name)
    return Listing(tuple(sorted(folders)), tuple(sorted(files)), dict(sorted(ignored.items())))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_below(path: Path, root: Path) -> bool:
    """Whether `path`, all links resolved, lies in `root`."""
    top = os.path.realpath(root)
    return os.path.commonpath([top, os.path.realpath(path)]) == top


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UsageError(f"{folder}: expected a folder that can be listed, got: {error.strerror}.") from error


@dataclass(frozen=True)
class Walk:
    """All files below a raw root."""

    files: tuple[str, ...]
    """`storable` paths relative to the root with `/` between the parts, sorted."""
    ignored: Mapping[str, int]
    """As in `Listing`, of all folders together."""


def walk_files(root: Path) -> Walk:
    """Find all files below `root`, as `list_folder` lists them, in an order that no file system decides.

    Raises
    ------
    UsageError
        `root` is no folder, or a folder below it cannot be read.
    """
    files: list[str] = []
    ignored: Counter[str] = Counter()
    pending: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while pending:
        prefix, enclosing = pending.pop()
        real = os.path.realpath(root / prefix)
        if real in enclosing:
            ignored["link to a folder around it"] += 1
            continue
        listing = list_folder(root / prefix, root)
        ignored.update(listing.ignored)
        files += [storable(prefix + name) for name in listing.files]
        pending += [(f"{prefix}{name}/", (*enclosing, real)) for name in listing.folders]
    return Walk(tuple(sorted(files)), dict(sorted(ignored.items())))
