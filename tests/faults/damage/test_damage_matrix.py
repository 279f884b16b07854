"""No damage is wrong data: each is found, and mended, dropped or refused, as the table in docs/reliability.md says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shapestore.errors import NotAStore, StoreDamaged
from tests.faults.damage.matrix import DAMAGES, OBJECTS, Object, by_readers, cell, committed, header, line
from tests.faults.damage.stores import History, make_history, mend, no_waiting_for_disks, small_index_chunks, work
from tests.integration.conftest import tree_digest

DOCS = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _no_waiting() -> Iterator[None]:
    with no_waiting_for_disks(), small_index_chunks():
        yield


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("twin"), "other", seed=100)


@pytest.mark.parametrize("what", OBJECTS, ids=lambda what: what.name)
def test_every_damage_ends_as_the_docs_say(what: Object, history: History, twin: History, tmp_path: Path) -> None:
    cells = [cell(history, twin, tmp_path / "damaged.zarr", what, how) for how in DAMAGES]
    for how, found in zip(DAMAGES, cells, strict=True):
        if found is not None:
            assert found.readers != "WRONG DATA", how
    assert line(what, cells) in DOCS.read_text()


def test_the_docs_have_the_whole_table() -> None:
    text = DOCS.read_text()
    start = text.index(header())
    rows = text[start:].split("\n\n")[0].splitlines()
    assert len(rows) == 2 + len(OBJECTS)


STROKES = st.tuples(
    st.integers(0, 10_000),
    st.sampled_from(["flip", "truncate", "zero a page", "swap", "delete"]),
    st.floats(0, 1, exclude_max=True),
)
"""Which file, what is done to it, and where in it."""


def strike(store: Path, files: list[Path], number: int, how: str, where: float) -> None:
    file = store / files[number % len(files)]
    if not file.exists():
        return
    data = bytearray(file.read_bytes())
    at = int(where * len(data))
    if how == "delete":
        file.unlink()
    elif how == "swap":
        other = store / files[(number + 1 + at % (len(files) - 1)) % len(files)]
        if other.exists():
            shutil.copy(other, file)
    else:
        if how == "flip" and data:
            data[at] ^= 1 << at % 8
        elif how == "truncate":
            del data[at:]
        elif how == "zero a page":
            data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        file.write_bytes(data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(strokes=st.lists(STROKES, min_size=1, max_size=3))
@example(strokes=[(0, "zero a page", 0.0)])
def test_any_damage_is_never_wrong_data_and_is_mended_to_the_byte_or_refused(
    history: History, tmp_path_factory: pytest.TempPathFactory, strokes: list[tuple[int, str, float]]
) -> None:
    store = history.copy(history.last, history.folder / "struck.zarr")
    files = sorted(file.relative_to(store) for file in store.rglob("*") if file.is_file())
    files = [file for file in files if file.parts[0] != "provenance"]
    for stroke in strokes:
        strike(store, files, *stroke)
    commits = {name: committed(history.folder / f"{name}.zarr") for name in ("last", "second")}
    assert by_readers(store, "", commits) != "WRONG DATA"
    try:
        refused = [each for each in mend(store) if each.done == "refused"]
    except (NotAStore, StoreDamaged):
        return  # the root is damaged, which is refused
    assert by_readers(store, "", commits) != "WRONG DATA"
    assert refused or tree_digest(store) == tree_digest(history.last)
    assert not work(store).exists()
