"""The benchmark of quality measures what it says, and sees damage; no time is asserted here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.common import WrongValues
from benchmarks.quality import content_seconds, ingest_again, integrity_verdict
from demo.raw import write_hearts

CASES = 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    raw = write_hearts(folder / "raw", cases=CASES, size=24)
    assert ingest_again("cardiac", raw, folder / "hearts.zarr", "cardiac-sdf") > 0
    return folder / "hearts.zarr"


def test_every_check_of_content_is_timed_alone_and_all_together(store: Path) -> None:
    seconds = content_seconds(store, repeats=1)
    assert {"all", "schema", "label-consistency"} <= seconds.keys()
    assert min(seconds.values()) >= 0


def test_integrity_is_a_share_of_the_checksum_and_damage_is_seen(store: Path) -> None:
    verdict = integrity_verdict(store, repeats=1, seconds=0.01)
    assert verdict.measured > 0
    shard = min(path for path in store.glob("vol_points/c/**/*") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(WrongValues, match="damaged"):
        integrity_verdict(store, repeats=1, seconds=0.01)
