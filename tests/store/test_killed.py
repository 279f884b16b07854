"""A writer that is killed at any instant: readers see a commit, and the next writer ends at the same bytes."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shapestore
from shapestore.errors import NotAStore, StoreChanged, StoreDamaged
from shapestore.schemas.recipe_file import load_recipe
from shapestore.store.layout import ROOT, work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.transaction import REDO, STAGING, Transaction, is_pending, recover
from shapestore.store.writer import StoreWriter
from tests.store.conftest import build, new_writer, row_arrays, tree, write_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

Action = Callable[[Path], None]


def run(action: Action, path: Path, kill_at: int, report: Path | None = None) -> bool:
    """Run `action` in a forked process that is killed in place of its rename (or removal) number `kill_at`.

    Returns whether the action came to its end. Nothing but renames and removals changes what others see.
    """
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the action itself failed"
        return not os.WIFSIGNALED(status)
    code = 1
    try:
        gc.freeze()  # what it shares with this process stays shared
        steps = 0

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **options: object) -> object:
                nonlocal steps
                if steps == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1
                return function(*args, **options)

            return step

        for name in ("replace", "unlink", "rename"):
            setattr(Path, name, counted(getattr(Path, name)))
        action(path)
        if report is not None:
            report.write_text(str(steps))
        code = 0
    finally:
        os._exit(code)
    raise AssertionError


def copy_of(store: Path, folder: Path) -> Path:
    """A copy of a store and of the unfinished work beside it."""
    path = folder / store.name
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(work_folder(path), ignore_errors=True)
    if store.exists():
        shutil.copytree(store, path)
    return path


def steps_of(action: Action, base: Path, folder: Path) -> int:
    """How many renames and removals the action makes."""
    report = folder / "steps"
    assert run(action, copy_of(base, folder), -1, report)
    return int(report.read_text())


def chosen(total: int, most: int) -> list[int]:
    """About `most` of `total` steps, the last of them among it: there the commit happens."""
    spread = np.linspace(0, total - 1, most).astype(int).tolist()
    return sorted({*spread, *range(max(0, total - 4), total)})


def append(path: Path) -> None:
    """Two new row groups."""
    with WriterLock(path):
        write_rows(StoreWriter.open(path), range(8, 21), failed=(9,))


def fill_tail(path: Path) -> None:
    """The rest of the last row group, whose shards are replaced, and another one."""
    with WriterLock(path):
        write_rows(StoreWriter.open(path), range(13, 21), failed=(9,))


def retry(path: Path) -> None:
    """A row that failed before."""
    with WriterLock(path):
        write_rows(StoreWriter.open(path), [9])


SCENARIOS: dict[str, tuple[Action, int, tuple[int, ...]]] = {
    "append": (append, 8, (9,)),
    "fill-tail": (fill_tail, 13, (9,)),
    "retry": (retry, 21, (9,)),
}


@pytest.fixture(scope="module", params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Action, Path, Path]:
    """An action, a store to start from, and the store that it makes when nothing happens."""
    action, rows, failed = SCENARIOS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    base = build(folder / "s.zarr", rows, tuple(row for row in failed if row < rows)).path
    (folder / "after").mkdir()
    after = copy_of(base, folder / "after")
    action(after)
    return action, base, after


def seen(path: Path) -> dict[int, str]:
    """What a reader says of every row: which bytes it has, that it is empty, or that the store has changed."""
    store = shapestore.open(path, checksums="always")
    found = {}
    for row in range(store.root.rows):
        try:
            if store.index("valid")[row]:
                for name, values in row_arrays(row).items():
                    assert store[name][row].tobytes() == values.tobytes()
                found[row] = "data"
            else:
                found[row] = "empty"
        except StoreChanged:
            found[row] = "changed"
    return found


@cache
def seen_of(path: Path) -> dict[int, str]:
    return seen(path)


def test_a_killed_commit_is_finished_or_made_again(scenario: tuple[Action, Path, Path], tmp_path: Path) -> None:
    """Before the next writer comes, readers see a commit or that it changes; after it, a commit.

    Never damage, for nothing is damaged: the redo log is the commit, and the next writer applies the rest of it.
    """
    action, base, after = scenario
    before, later = seen_of(base), seen_of(after)
    for step in chosen(steps_of(action, base, tmp_path), 8):
        path = copy_of(base, tmp_path)
        assert not run(action, path, step)
        for row, what in seen(path).items():
            assert what in ("changed", before.get(row), later.get(row)), f"row {row} after step {step}: {what}"
        with WriterLock(path):
            rows = StoreWriter.open(path).root
        assert seen(path) in (before, later), f"after step {step} a reader sees neither commit"
        if rows.sha256 != shapestore.open(after).root.sha256:
            action(path)
        assert tree(path) == tree(after), f"killed at step {step}"
        shutil.rmtree(work_folder(path) / "sealing", ignore_errors=True)
        assert not (work_folder(path) / STAGING).exists()
        assert not is_pending(path)


def test_a_killed_commit_that_ends_otherwise_leaves_no_trace(tmp_path: Path) -> None:
    """An item that killed its run may succeed in the next one: then nothing of the first attempt is left."""
    (tmp_path / "base").mkdir()
    base = build(tmp_path / "base" / "s.zarr", 8, ()).path

    def succeed(path: Path) -> None:
        with WriterLock(path):
            write_rows(StoreWriter.open(path), range(8, 21))

    (tmp_path / "after").mkdir()
    after = copy_of(base, tmp_path / "after")
    succeed(after)
    for step in chosen(steps_of(append, base, tmp_path), 6):
        path = copy_of(base, tmp_path)
        assert not run(append, path, step)
        succeed(path)
        left = tree(path).keys() ^ tree(after).keys()
        assert left == set(), f"left over from the attempt that was killed at step {step}"
        assert tree(path) == tree(after), f"killed at step {step}"


def test_a_killed_creation_can_be_made_again(tmp_path: Path) -> None:
    def create(path: Path) -> None:
        with WriterLock(path):
            recover(path)
            if not (path / ROOT).exists():
                StoreWriter.create(path, load_recipe("points"), "meshes")

    base = tmp_path / "s.zarr"
    (tmp_path / "after").mkdir()
    after = tmp_path / "after" / "s.zarr"
    create(after)
    (tmp_path / "run").mkdir()
    for step in chosen(steps_of(create, base, tmp_path / "run"), 6):
        path = copy_of(base, tmp_path / "run")
        assert not run(create, path, step)
        if path.exists() and not (path / ROOT).exists():
            with pytest.raises(NotAStore, match="again to go on"):
                shapestore.open(path)
        create(path)
        assert tree(path) == tree(after), f"killed at step {step}"


# The redo log alone


def small_change(path: Path) -> None:
    """Replace three files and the root of a folder."""
    transaction = Transaction(path)
    for number in range(3):
        transaction.stage(f"array/c/{number}", b"new %d" % number)
    sealed = work_folder(path) / "sealed" / "shard"
    sealed.parent.mkdir()
    sealed.write_bytes(b"new shard")
    transaction.stage_file("array/c/3", sealed)
    transaction.commit(b"new root", replaces=True)


def test_a_change_is_either_dropped_or_finished(tmp_path: Path) -> None:
    base = tmp_path / "s.zarr"
    for number in range(4):
        (base / "array" / "c").mkdir(parents=True, exist_ok=True)
        (base / "array" / "c" / str(number)).write_bytes(b"old %d" % number)
    (base / ROOT).write_bytes(b"old root")
    old = tree(base)
    (tmp_path / "run").mkdir()
    total = steps_of(small_change, base, tmp_path / "run")
    new = tree(tmp_path / "run" / "s.zarr")
    assert new == {**{f"array/c/{i}": b"new %d" % i for i in range(3)}, "array/c/3": b"new shard", ROOT: b"new root"}
    found = []
    for step in range(total):
        path = copy_of(base, tmp_path / "run")
        assert not run(small_change, path, step)
        committed = is_pending(path)
        assert committed or tree(path) in (old, new)
        for kill_again in range(2):
            run(recover, path, kill_again)
        recover(path)
        assert tree(path) == (new if committed or tree(path) == new else old)
        assert not is_pending(path)
        assert not (work_folder(path) / STAGING).exists()
        found.append(tree(path) == new)
    assert found == sorted(found), "once it is committed it stays so"
    assert set(found) == {False, True}


def test_recovering_nothing_changes_nothing(tmp_path: Path) -> None:
    path = build(tmp_path / "s.zarr", 5, ()).path
    before = tree(path)
    recover(path)
    recover(path)
    assert tree(path) == before
    assert not work_folder(path).exists()


def test_a_new_store_is_empty_and_open(tmp_path: Path) -> None:
    new_writer(tmp_path / "s.zarr")
    assert seen(tmp_path / "s.zarr") == {}


@pytest.mark.parametrize("harm", [b"", None, "flip", "cut"], ids=["emptied", "deleted", "flipped", "cut at a line"])
@pytest.mark.parametrize("hit", [REDO[:1], REDO[1:], REDO], ids=["the copy", "the log", "both"])
def test_a_damaged_redo_log_is_read_from_its_copy(tmp_path: Path, harm: Any, hit: tuple[str, ...]) -> None:
    base = tmp_path / "s.zarr"
    (base / "array" / "c").mkdir(parents=True)
    (base / ROOT).write_bytes(b"old root")
    (tmp_path / "run").mkdir()
    total = steps_of(small_change, base, tmp_path / "run")
    new = tree(tmp_path / "run" / "s.zarr")
    for step in range(total):
        path = copy_of(base, tmp_path / "run")
        run(small_change, path, step)
        if half(path):
            break
    for name in hit:
        log = work_folder(path) / name
        data = log.read_bytes()
        if harm is None:
            log.unlink()
        else:
            log.write_bytes({"flip": data[:9] + b"?" + data[10:], "cut": data[: data.index(b"\n") + 1]}.get(harm, harm))
    assert is_pending(path) or hit == REDO
    if hit == REDO and harm is not None:
        with pytest.raises(StoreDamaged, match="from a copy"):
            recover(path)
    elif hit != REDO:
        recover(path)
        assert tree(path) == new
        assert not work_folder(path).exists() or not is_pending(path)


def half(path: Path) -> bool:
    """Whether some files of the change are in place, and the root is not."""
    return (path / "array" / "c" / "0").exists() and (path / ROOT).read_bytes() == b"old root"
