"""The benchmark of safety compares the same ingest with and without it; no time is asserted here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.safety import SMALL, Ingest, compare, ingest_seconds, unsafe, write_small_meshes
from shapestore.errors import StoreDamaged
from shapestore.store.reader import open_store


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_small_meshes(tmp_path / "raw", 5)
    return tmp_path / "raw"


def test_both_take_turns_and_the_first_of_each_is_not_counted(raw: Path) -> None:
    safe, without = compare([Ingest("meshes", raw, SMALL)], repeats=2)
    assert len(safe) == len(without) == 2
    assert min(safe + without) > 0


def test_what_is_written_without_safety_is_no_store(raw: Path, tmp_path: Path) -> None:
    ingest = Ingest("meshes", raw, SMALL)
    ingest_seconds(ingest.into(tmp_path / "safe"), safe=True)
    store = open_store(tmp_path / "safe" / "meshes.zarr", "always")
    assert len(store.read(store.rows(), ["pc_xyz"])["pc_xyz"]) == 5
    ingest_seconds(ingest.into(tmp_path / "unsafe"), safe=False)
    store = open_store(tmp_path / "unsafe" / "meshes.zarr", "always")
    with pytest.raises(StoreDamaged):
        store.read(store.rows(), ["pc_xyz"])


def test_safety_is_back_after_the_block() -> None:
    import google_crc32c

    with unsafe():
        assert google_crc32c.value(b"123456789") == 0
    assert google_crc32c.value(b"123456789") == 0xE3069283
