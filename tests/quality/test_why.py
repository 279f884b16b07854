"""Why: the chain of one shape names its file, its reader, the run that computed it, and what the checks say."""

from __future__ import annotations

import json
import os
import shutil
import socket
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.errors import Reason, StoppedEarly, StoreDamaged, UsageError
from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.quality.measuring import Job, measure_rows
from shapestore.quality.registry import installed_checks
from shapestore.quality.why import REMEDIES, Why
from shapestore.store.reader import Store

SMALL = ("points.count=128", "points.fps_order=32")


def ingest(raw: Path, store: Path, **options: object) -> api.IngestResult:
    return api.ingest("meshes", raw, store, recipe="points", settings=SMALL, workers=0, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw meshes, one of them empty, and their store."""
    folder = tmp_path_factory.mktemp("why")
    shutil.move(write_shapenet(folder, models_per_class=1), folder / "raw")
    (folder / "raw" / "empty.obj").write_text("# nothing\n")
    ingest(folder / "raw", folder / "s.zarr")
    return folder


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "raw", tmp_path / "raw"))


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "s.zarr", tmp_path / "s.zarr"))


def first_id(raw: Path) -> str:
    return str(min(raw.rglob("model_normalized.obj")).relative_to(raw))


def damage(store: Path, array: str) -> None:
    """Flip a bit in the first row."""
    shard = store / array / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)


def test_the_chain_from_the_file_to_the_row(made: Path) -> None:
    raw, shape_id = made / "raw", first_id(made / "raw")
    found = api.why(made / "s.zarr", shape_id)
    opened = api.open(made / "s.zarr")
    row = opened.row_of(shape_id)
    file = raw / shape_id
    known = fingerprint(file)
    assert (found.shape_id, found.row, found.valid, found.unmeasured) == (shape_id, row, True, ())
    assert (found.source.path, found.source.root, found.source.kind) == (shape_id, str(raw), "meshes")
    assert (found.source.sha256, found.source.size) == (source_sha256(file, known), known.size)
    assert found.source.modified.startswith(str(np.datetime64(known.mtime_ns, "ns").astype("datetime64[s]")))
    assert found.source.package == f"shapestore {version('shapestore')}"
    assert (found.recipe, found.recipe_digest) == ("points", opened.root.recipe_digest)
    assert found.index["seed"] == opened.index("seed")[row]
    assert found.index["scale"] == opened.index("scale")[row]
    assert found.run is not None
    assert (found.run["host"], found.run["versions"]["numpy"]) == (socket.gethostname(), np.__version__)
    assert found.seconds > 0
    assert any(note.endswith("polygons triangulated") for note in found.notes)


def test_every_number_is_what_validate_measures(made: Path) -> None:
    opened = api.open(made / "s.zarr")
    found = api.why(made / "s.zarr", first_id(made / "raw"))
    names = tuple(check.name for check in installed_checks())
    job = Job(made / "s.zarr", opened.root.sha256, made / "raw", "always", names)
    measured = measure_rows(job, opened.rows().tolist())
    position = opened.rows().tolist().index(found.row)
    assert {(each.check, each.measure) for each in found.checks} == measured.measures.keys()
    for each in found.checks:
        measure = measured.measures[each.check, each.measure]
        value = measure.values[position]
        assert each.value == (value if np.isfinite(value) else None)
        assert each.low == (measure.low if np.isfinite(measure.low) else None)
        assert each.sound == (not measure.broken[position])


@pytest.mark.parametrize(
    ("change", "state"),
    [(os.utime, "same"), (lambda file: file.write_text("v 0 0 0\n"), "changed"), (os.remove, "missing")],
)
def test_it_says_whether_the_file_is_still_the_one(store: Path, raw: Path, change: object, state: str) -> None:
    shape_id = first_id(raw)
    change(raw / shape_id)  # type: ignore[operator]
    found = api.why(store, shape_id, raw=raw)
    assert found.source.state == state
    reads_raw = {check.name for check in installed_checks() if check.scope == "source"}
    if state != "same":
        assert not reads_raw & {each.check for each in found.checks}, "they would compare with another file"


def test_a_raw_folder_that_has_gone_is_not_looked_at(store: Path, raw: Path, tmp_path: Path) -> None:
    assert api.why(store, first_id(raw), raw=tmp_path / "gone").source.state == "not looked at"


def test_a_quarantined_shape_tells_reason_and_remedy(made: Path) -> None:
    found = api.why(made / "s.zarr", "empty.obj")
    assert not found.valid
    assert found.quarantined is not None
    assert found.quarantined.reason == Reason.NO_FACES
    assert found.checks == ()
    assert found.remedy.endswith(f"shapestore rebuild {made / 's.zarr'} empty.obj --write")


def test_remedies_are_of_reasons() -> None:
    assert set(REMEDIES) <= set(Reason)


def test_a_damaged_row_is_told_with_what_to_do(store: Path, raw: Path) -> None:
    damage(store, "pc_xyz")
    shape_id = str(api.open(store).index("shape_id")[0])
    found = api.why(store, shape_id, raw=raw)
    assert found.valid
    (text,) = found.damage
    assert "does not match its checksum (pc_xyz, row 0)" in text
    assert found.unmeasured == (), "it is said once"
    assert found.remedy.endswith(f"shapestore repair {store}")
    assert api.why(store, str(api.open(store).index("shape_id")[1]), raw=raw).damage == ()


def test_every_array_of_a_lost_row_is_told_even_where_no_check_reads_it(
    store: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapestore.quality.why.installed_checks", lambda: ())
    arrays = ("pc_xyz", "pc_n", "pc_fps_order")
    for array in arrays:
        next(path for path in (store / array / "c").rglob("*") if path.is_file()).unlink()
    empty = api.why(store, "empty.obj", raw=raw)
    for found in (api.why(store, first_id(raw), raw=raw), empty):
        assert len(found.damage) == len(arrays)
        assert all(f"({array}, rows 0 to" in text for array, text in zip(arrays, found.damage, strict=True))
        assert f"shapestore repair {store}" in found.remedy
    assert "shapestore rebuild" in empty.remedy


def test_bytes_with_a_right_checksum_that_cannot_be_read_are_damage(
    store: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, rows: list[int], names: list[str]) -> None:
        raise StoreDamaged("it cannot be unpacked", names[0], range(rows[0], rows[0] + 1))

    monkeypatch.setattr(Store, "read", refuse)
    found = api.why(store, first_id(raw), raw=raw)
    assert set(found.damage) == {"it cannot be unpacked"}
    assert found.checks == ()


def test_the_nearest_id_is_named(made: Path) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'empty\.obj'"):
        api.why(made / "s.zarr", "emty.obj")


def test_its_json_can_be_read_back(made: Path) -> None:
    found = api.why(made / "s.zarr", first_id(made / "raw"))
    assert Why.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found


def test_each_row_names_the_run_that_computed_it(store: Path, raw: Path) -> None:
    before = api.open(store).index("provenance/run").copy()
    assert set(before.tolist()) == {0}
    api.split(store, "fold", {"a": 0.5, "b": 0.5})
    shutil.copy(raw / first_id(raw), raw / "new.obj")
    ingest(raw, store)
    shutil.copy(raw / first_id(raw), raw / "empty.obj")
    ingest(raw, store, retry=True)
    modes = {}
    for shape_id in ("empty.obj", "new.obj", first_id(raw)):
        run = api.why(store, shape_id).run
        assert run is not None
        modes[shape_id] = (run["mode"], run["raw"])
    assert modes["empty.obj"] == ("retry", str(raw))
    assert modes["new.obj"] == ("append", str(raw))
    assert modes[first_id(raw)][1] != str(raw), "the first run read another folder"
    runs = api.open(store).index("provenance/run")
    assert sorted(runs.tolist()) == [0] * (len(before) - 1) + [2, 3]


def test_rows_of_a_run_that_was_stopped_before_its_first_commit_name_it(raw: Path, tmp_path: Path) -> None:
    for name in ("a.obj", "b.obj"):
        (raw / name).write_text("v 0 0 nonsense\n")
    store = tmp_path / "stopped.zarr"
    with pytest.raises(StoppedEarly):
        ingest(raw, store, max_failures="1")
    assert len(api.open(store).index("shape_id")) == 0
    ingest(raw, store)
    opened = api.open(store)
    numbers = opened.index("provenance/run")
    first, second = json.loads(opened.index("provenance/runs")[0])
    assert first["started"] < second["started"]
    assert (first["rows"], second["rows"]) == ((numbers == 0).sum(), (numbers == 1).sum())
    assert numbers.tolist() == sorted(numbers.tolist())
    assert 0 < (numbers == 0).sum() < len(numbers)
