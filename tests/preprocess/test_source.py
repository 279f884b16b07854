"""What all sources share: ids of any file name, and a walk that is ordered and stays inside."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shapestore.errors import InputRefused, Reason, UsageError
from shapestore.preprocess import source
from shapestore.preprocess.source import (
    LINK_OUT,
    SourceItem,
    is_below,
    list_folder,
    raw_path,
    refuse_repeats,
    safe_id,
    storable,
    walk_files,
)
from shapestore.schemas.record import ShapeId

SHAPE_ID: TypeAdapter[str] = TypeAdapter(ShapeId)
# Few letters, so that parts, escapes and cut ends meet often; with a lone surrogate, as in a name that is not UTF-8.
NASTY = st.text(st.sampled_from("a/.\\~0\n\x7f\u200dé\udcff😀"), max_size=12)
LONG = st.builds(lambda text, times: text * times, NASTY, st.integers(1, 300))


def valid(text: str) -> bool:
    try:
        SHAPE_ID.validate_python(text)
    except (ValidationError, UnicodeError):
        return False
    return True


# ------------------------------------------------------------------------------------------------ ids


@given(st.text() | NASTY | LONG)
@example("")
@example("..")
@example("a/../b")
@example("é" * 256 + "a")
@example("a/" * 300)
def test_any_text_has_a_valid_id(text: str) -> None:
    assert valid(safe_id(text))


@given(st.lists(NASTY | LONG, max_size=8, unique=True))
@example(["x" * 600, "x" * 600 + "\udcff", "x" * 601])
def test_different_texts_have_different_ids(texts: list[str]) -> None:
    # The ids themselves are names that files may have.
    names = dict.fromkeys([*texts, *map(safe_id, texts)])
    assert len({safe_id(name) for name in names}) == len(names)


@given(st.text(st.characters(exclude_categories=["C"], exclude_characters="~"), min_size=1, max_size=100))
def test_a_text_that_can_be_an_id_is_its_own(text: str) -> None:
    if valid(text):
        assert safe_id(text) == text


def test_an_id_shows_what_the_name_was() -> None:
    assert safe_id("a\nb/c").startswith(r"a\nb/c~")
    assert safe_id("x" * 600).startswith("xxx")
    assert len(safe_id("x" * 600)) == 512


def test_repeated_ids_name_both_origins() -> None:
    items = [SourceItem("a", "one.obj", "a"), SourceItem("b", "b.obj", "b"), SourceItem("a", "two.obj", "a")]
    refuse_repeats(items[:2])
    with pytest.raises(UsageError, match=r"'a'.*one\.obj.*two\.obj"):
        refuse_repeats(items)


# ----------------------------------------------------------------------------------------------- walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    for name in ("b/2.obj", "b/c/1.obj", "a.obj", "b.obj", ".hidden", ".git/config", "b/.DS_Store", "z/"):
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(name)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.obj").write_text("secret")
    return root


def test_a_walk_finds_every_file_but_hidden_ones(tree: Path) -> None:
    walk = walk_files(tree)
    assert walk.files == ("a.obj", "b.obj", "b/2.obj", "b/c/1.obj")
    assert walk.ignored == {"hidden file": 2, "hidden folder": 1}


def test_no_order_of_the_file_system_matters(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = walk_files(tree)
    entries = source._entries
    for seed in range(5):
        shuffle = random.Random(seed)
        monkeypatch.setattr(source, "_entries", lambda path, r=shuffle: r.sample(list_ := entries(path), len(list_)))
        assert walk_files(tree) == expected
        assert list(walk_files(tree).ignored) == list(expected.ignored)


def test_links_out_are_counted_and_never_followed(tree: Path, tmp_path: Path) -> None:
    (tree / "out").symlink_to(tmp_path / "outside")
    (tree / "b" / "out.obj").symlink_to("../../outside/secret.obj")
    (tree / "b" / "sibling").symlink_to(f"{tree}-other")
    walk = walk_files(tree)
    assert walk.files == ("a.obj", "b.obj", "b/2.obj", "b/c/1.obj")
    assert walk.ignored[LINK_OUT] == 3


def test_links_that_stay_inside_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "z" / "link.obj").symlink_to("../a.obj")
    (tree / "z" / "again").symlink_to("../b")
    (tree / "b" / "up").symlink_to("..")
    (tree / "lost.obj").symlink_to("nowhere.obj")
    (tree / "self.obj").symlink_to("self.obj")
    walk = walk_files(tree)
    inside = ("a.obj", "b.obj", "b/2.obj", "b/c/1.obj")
    linked = ("lost.obj", "self.obj", "z/again/2.obj", "z/again/c/1.obj", "z/link.obj")
    assert set(walk.files) == {*inside, *linked}
    assert walk.ignored["link to a folder around it"] == 2


def test_a_root_that_is_a_link_is_followed(tree: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tree)
    assert walk_files(link) == walk_files(tree)


@pytest.mark.parametrize("name", ["nowhere", "a.obj"])
def test_a_root_that_is_no_folder_is_a_usage_error(tree: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected a folder"):
        walk_files(tree / name)


def test_a_folder_has_names_and_not_paths(tree: Path) -> None:
    listing = list_folder(tree, tree)
    assert (listing.folders, listing.files) == (("b", "z"), ("a.obj", "b.obj"))


# ---------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("name", [os.fsdecode(b"x\xff.obj"), "\udc80", "a/\udcff/é"], ids=ascii)
def test_names_that_are_not_utf8_become_storable(name: str) -> None:
    assert "\\udc" in storable(name).encode().decode()
    assert valid(safe_id(storable(name)))


def test_a_file_whose_name_is_not_utf8_is_an_item_that_is_refused(tree: Path) -> None:
    try:
        (tree / os.fsdecode(b"x\xff.obj")).write_text("v")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    (found,) = (path for path in walk_files(tree).files if path.startswith("x"))
    with pytest.raises(InputRefused, match="not UTF-8") as caught:
        raw_path(tree, SourceItem(safe_id(found), found, safe_id(found)))
    assert caught.value.reason is Reason.MISSING


@pytest.mark.parametrize("path", ["../outside/secret.obj", "out/secret.obj", "b/../../outside/secret.obj"])
def test_a_path_out_of_the_root_is_refused(tree: Path, tmp_path: Path, path: str) -> None:
    (tree / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(InputRefused, match="leads out of the raw folder"):
        raw_path(tree, SourceItem("a", path, "a"))
    assert not is_below(tree / path, tree)


def test_a_path_inside_is_joined(tree: Path) -> None:
    assert raw_path(tree, SourceItem("a", "b/2.obj", "a")).read_text() == "b/2.obj"
    # A lost file is for the reader of its format to report.
    assert raw_path(tree, SourceItem("a", "b/9.obj", "a")) == tree / "b" / "9.obj"
