"""Checksummed lines: whatever a crash leaves of the last one, all before it are read and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapestore.errors import StoreDamaged
from shapestore.store.ledger import Ledger, decode_line, encode_line, read_lines, write_lines

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
lines = st.lists(values, max_size=6)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger") / "ledger"


def fill(path: Path, held: list[Any]) -> list[int]:
    """Write a ledger; returns the size of the file after every line."""
    path.unlink(missing_ok=True)
    sizes = [0]
    with Ledger(path) as ledger:
        for value in held:
            ledger.append(value)
            sizes.append(path.stat().st_size)
    return sizes


@given(value=values)
def test_a_line_survives(value: Any) -> None:
    line = encode_line(value)
    assert line.count(b"\n") == 1
    assert decode_line(line) == value


@given(value=values, at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_changed_byte_of_a_line_is_found(value: Any, at: int, flip: int) -> None:
    line = bytearray(encode_line(value))
    line[at % len(line)] ^= flip
    with pytest.raises(ValueError, match="torn or damaged"):
        decode_line(bytes(line))


@given(held=lines, more=lines)
def test_what_is_appended_is_replayed(path: Path, held: list[Any], more: list[Any]) -> None:
    fill(path, held)
    assert Ledger(path).replay() == held
    with Ledger(path) as ledger:
        for value in more:
            ledger.append(value)
    assert Ledger(path).replay() == [*held, *more]


@given(held=lines, cut=st.integers(0, 10**6), garbage=st.binary(max_size=40))
def test_a_torn_tail_is_dropped_and_the_ledger_goes_on(path: Path, held: list[Any], cut: int, garbage: bytes) -> None:
    sizes = fill(path, held)
    cut %= sizes[-1] + 1
    path.write_bytes(path.read_bytes()[:cut] + garbage.replace(b"\n", b""))
    whole = sum(size <= cut for size in sizes) - 1
    assert Ledger(path).replay() == held[:whole]
    assert path.stat().st_size == sizes[whole]
    with Ledger(path) as ledger:
        ledger.append("next")
    assert Ledger(path).replay() == [*held[:whole], "next"]


@given(held=st.lists(values, min_size=2, max_size=6), at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_after_damage_in_the_middle_nothing_later_is_trusted(path: Path, held: list[Any], at: int, flip: int) -> None:
    sizes = fill(path, held)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at] ^= flip
    path.write_bytes(data)
    before = sum(size <= at for size in sizes) - 1
    assert Ledger(path).replay() == held[:before]


def test_a_ledger_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none").replay() == []


@given(held=lines, at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_file_of_lines_is_whole_or_refused(path: Path, held: list[Any], at: int, flip: int) -> None:
    write_lines(path, held)
    assert list(read_lines(path, "Mend it.")) == held
    assert not path.with_name("ledger.partial").exists()
    data = bytearray(path.read_bytes())
    if data:
        data[at % len(data)] ^= flip
        path.write_bytes(data)
        with pytest.raises(StoreDamaged, match=r"line \d+"):
            list(read_lines(path, "Mend it."))
