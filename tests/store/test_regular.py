"""`read_regular`: one whole file, whatever takes its place meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shapestore.store.regular import read_regular


@pytest.mark.parametrize(("old", "new"), [(b"old", b"a longer one"), (b"a longer one", b"new")])
def test_a_file_that_is_replaced_meanwhile_is_read_whole(
    tmp_path: Path, old: bytes, new: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other, stat = tmp_path / "c", tmp_path / "new", Path.stat
    path.write_bytes(old)
    other.write_bytes(new)

    def replaced_after(self: Path, **options: Any) -> os.stat_result:
        status = stat(self, **options)
        other.replace(path)
        return status

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", replaced_after)
        assert read_regular(path, most=len(b"a longer one")) == new


def test_what_is_no_regular_file_or_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "c", most=4) == b"1234"
    with pytest.raises(ValueError, match="it has 4 bytes, and at most 3 are read"):
        read_regular(tmp_path / "c", most=3)
    with pytest.raises(ValueError, match="no regular file"):
        read_regular(tmp_path / "pipe", most=3)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", most=3)
