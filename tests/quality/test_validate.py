from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.errors import RecipeInvalid, StoreChanged, UsageError
from shapestore.quality import measuring, registry
from shapestore.quality.check import Batch, Check, Fact, Measure, Settings, Table, chosen
from shapestore.quality.finding import Finding, worst_first
from shapestore.quality.measuring import Measured
from shapestore.quality.result import Validation
from shapestore.quality.validate import Options
from shapestore.quality.validate import validate as examine
from shapestore.store.lock import WriterLock

SMALL = ("points.count=128", "points.fps_order=32")


class Spread(Settings):
    """Bounds of the check under test."""

    largest: float = 10.0
    """Largest spread."""


def spread(batch: Batch, settings: Spread) -> Iterator[Measure | Fact]:
    points = batch.arrays["pc_xyz"].astype(np.float64)
    values = points.std(axis=(1, 2))
    yield Measure("spread of pc_xyz", values, high=settings.largest, arrays=("pc_xyz",), remedy="Look.")
    yield Fact("first point", points[:, 0])


def lonely(table: Table, settings: Spread) -> Iterator[Finding]:
    if len(table.facts["first point"]) != len(table.rows):
        raise AssertionError("a fact a row")
    if len(table.rows) < table.store_rows:
        yield Finding(severity="warning", check="spread", message="only a part was looked at")


SPREAD = Check("spread", "How far points lie apart.", "error", Spread, lambda s, r: None, spread, lonely)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validate")
    raw = write_shapenet(folder, models_per_class=3)
    api.ingest("shapenet", raw, folder / "s.zarr", recipe="points", settings=SMALL, workers=0)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "s.zarr", tmp_path / "s.zarr"))


@pytest.fixture
def only_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("validate", "gates", "registry", "measuring"):
        monkeypatch.setattr(f"shapestore.quality.{module}.installed_checks", lambda: (SPREAD,))


def flip_a_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def with_threshold(store: Path, monkeypatch: pytest.MonkeyPatch, largest: float) -> None:
    monkeypatch.setattr("shapestore.quality.registry.settings_of", lambda recipe: {"spread": Spread(largest=largest)})
    for module in ("validate", "measuring"):
        monkeypatch.setattr(f"shapestore.quality.{module}.settings_of", registry.settings_of)


@pytest.mark.usefixtures("only_spread")
def test_numbers_do_not_depend_on_how_rows_are_batched(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = api.validate(store, "full", workers=0)
    monkeypatch.setattr(measuring, "BATCH_BYTES", 1)
    monkeypatch.setattr("shapestore.quality.validate.BATCH_BYTES", 1)
    single = api.validate(store, "full", workers=0)
    assert single.checks == whole.checks
    assert whole.checks[-1].measures[0].rows == 12


@pytest.mark.usefixtures("only_spread")
def test_what_is_out_of_bounds_is_a_finding_with_value_bound_and_command(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = api.validate(store, "full", workers=0)
    assert healthy.findings == ()
    assert healthy.passed
    values = {each.row: each.value for each in healthy.checks[-1].measures[0].worst}
    worst = max(values, key=lambda row: values[row])
    with_threshold(store, monkeypatch, np.nextafter(max(values.values()), 0))
    (finding,) = api.validate(store, "full", workers=0).findings
    assert (finding.row, finding.value, finding.severity, finding.check) == (worst, values[worst], "error", "spread")
    assert finding.shape_id == api.open(store).index("shape_id")[worst]
    assert finding.look.startswith(f"shapestore show {store} {finding.shape_id} --array pc_xyz")


@pytest.mark.usefixtures("only_spread")
def test_waived_findings_are_listed_and_do_not_count(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_threshold(store, monkeypatch, 0.0)
    ids = api.open(store).index("shape_id").tolist()
    file = tmp_path / "waivers.yaml"
    file.write_text(json.dumps([{"check": "spread", "shape": name, "reason": "known"} for name in ids[1:]]))
    result = api.validate(store, "full", workers=0, waive=[f"spread:{ids[0]}", str(file), "integrity:none"])
    assert result.passed
    assert [finding.waived for finding in result.findings].count("known") == len(ids) - 1
    assert [waiver.check for waiver in result.unused_waivers] == ["integrity"]
    assert not api.validate(store, "full", workers=0, waive=[f"spread:{ids[0]}"]).passed
    assert api.validate(store, "full", workers=0, waive=["spread:*"]).outcome == "12 waived findings"


@pytest.mark.parametrize("text", ["spread", ":x", "none.yaml"])
def test_a_waiver_that_cannot_be_read_is_refused(store: Path, text: str) -> None:
    with pytest.raises(UsageError):
        api.validate(store, waive=[text], workers=0)


@pytest.mark.usefixtures("only_spread")
def test_a_waiver_for_a_check_that_does_not_exist_is_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'spread'"):
        api.validate(store, waive=["spraed:x"], workers=0)


def test_a_commit_that_is_just_made_is_waited_for_and_no_damage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store / "category" / "zarr.json"
    committed = file.read_bytes()
    file.write_bytes(committed.replace(b"[12]", b"[13]"))
    assert [finding.check for finding in api.validate(store, "metadata").findings] == ["structure"]
    look = partial(examine, store, Options("metadata"), pytest.fail, lambda done, total: None)
    with WriterLock(store):
        monkeypatch.setattr("shapestore.quality.validate.time.sleep", lambda seconds: None)
        with pytest.raises(StoreChanged, match="being written to"):
            look()
        monkeypatch.setattr("shapestore.quality.validate.time.sleep", lambda seconds: file.write_bytes(committed))
        assert look().validation.findings == ()


@pytest.mark.parametrize("content", ["- {check: a}", "[", "- {check: a, shape: b, reason: ''}", "just text"])
def test_a_waiver_file_must_give_check_shape_and_reason(store: Path, content: str, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(content)
    with pytest.raises(UsageError, match="check, shape and reason"):
        api.validate(store, waive=[str(tmp_path / "w.yaml")], workers=0)


@pytest.mark.usefixtures("only_spread")
def test_a_damaged_row_costs_itself_alone(store: Path) -> None:
    shard = store / "pc_xyz" / "c" / "0" / "0" / "0"
    flip_a_byte(shard, 4 * (128 * 12 + 4) + 5)
    for level, checked in (("full", 11), ("sample", 11)):
        result = api.validate(store, level, workers=0)
        assert result.checked == checked
        assert [(finding.check, finding.row) for finding in result.findings if finding.severity == "error"] == [
            ("integrity", 4)
        ]


@pytest.mark.parametrize("level", ["sample", "full"])
def test_a_lost_shard_costs_only_the_checks_that_need_its_array(store: Path, level: str) -> None:
    (store / "pc_fps_order" / "c" / "0" / "0").unlink()
    flip_a_byte(store / "pc_xyz" / "c" / "0" / "0" / "0", 4 * (128 * 12 + 4) + 5)
    result = api.validate(store, level, workers=0)
    assert result.checked == 0
    named = [(finding.check, finding.place, finding.row) for finding in result.findings if finding.severity == "error"]
    assert named == [("integrity", "pc_fps_order", None), ("integrity", "pc_xyz", 4)]
    rows = {check.name: check.measures[0].rows for check in result.checks if check.measures}
    assert rows["normalisation"] == 11
    assert next(check.skipped for check in result.checks if check.name == "fps-law") == "of no row could it be measured"


@pytest.mark.usefixtures("only_spread")
def test_a_sample_says_how_much_it_saw(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapestore.quality.validate.SAMPLE_ROWS", 5)
    result = api.validate(store, workers=0)
    assert result.checked == 5
    share = 1 - 0.01 ** (1 / 5)
    assert f"99% confidence fewer than {share:.2%} of rows" in result.guarantee
    assert [finding.message for finding in result.findings] == ["only a part was looked at"]
    assert api.validate(store, "full", workers=0).checked == 12


@pytest.mark.usefixtures("only_spread")
def test_a_budget_sizes_the_sample(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.validate(store, workers=0, budget=60).checked == 12
    monkeypatch.setattr("shapestore.quality.validate.SAMPLE_ROWS", 1)
    clock = iter(np.arange(0, 1e6, 10.0))
    monkeypatch.setattr("shapestore.quality.validate.time.monotonic", lambda: next(clock))
    result = api.validate(store, workers=0, budget=45)
    assert 0 < result.checked < 12
    with pytest.raises(UsageError, match="level sample"):
        api.validate(store, "full", workers=0, budget=5)


@pytest.mark.usefixtures("only_spread")
def test_the_outcome_is_kept_in_the_store_and_changes_nothing_else(store: Path) -> None:
    before = api.open(store)
    files = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and "provenance" not in path.parts}
    result = api.validate(store, "full", workers=0)
    assert result.unrecorded == ""
    kept = json.loads(api.open(store).index("provenance/validation")[0])
    assert (kept["level"], kept["commit"], kept["outcome"]) == ("full", before.root.sha256, "nothing wrong")
    assert {path: path.read_bytes() for path in files} == files
    assert before.row("pc_xyz", 0) is not None


@pytest.mark.usefixtures("only_spread")
def test_what_changed_against_another_store_is_said(store: Path, made: Path, tmp_path: Path) -> None:
    same = api.validate(store, "full", workers=0, compare=made / "s.zarr").compared
    assert same is not None
    assert (same.stores.equal, same.moved, same.outcome) == (True, (), "nothing wrong")
    raw = write_shapenet(tmp_path, models_per_class=4)
    api.ingest("shapenet", raw, tmp_path / "more.zarr", recipe="points", settings=SMALL, workers=0)
    found = api.validate(tmp_path / "more.zarr", "full", workers=0, compare=store).compared
    assert found is not None
    assert (found.stores.a, found.stores.equal, len(found.stores.added)) == (str(store), False, 4)


@pytest.mark.usefixtures("only_spread")
def test_a_store_that_is_being_written_to_is_validated_and_left_alone(store: Path) -> None:
    with WriterLock(store):
        result = api.validate(store, "metadata", workers=0)
    assert "is being written to" in result.unrecorded
    assert json.loads(api.open(store).index("provenance/validation")[0]) is None


def test_the_json_form_is_read_back_as_it_was(store: Path) -> None:
    result = api.validate(store, "full", workers=0)
    assert Validation.model_validate_json(result.model_dump_json()) == result
    assert result.version == 1


@pytest.mark.usefixtures("only_spread")
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("checks.spred.gate=true", "Did you mean 'spread'"),
        ("checks.spread.bigest=1", r"checks\.spread\.bigest: expected a known key.*Did you mean 'largest'"),
        ("checks.spread.zzzz=1", "Known: gate, largest"),
    ],
)
def test_a_misspelt_check_or_threshold_is_refused_before_any_work(
    made: Path, tmp_path: Path, setting: str, said: str
) -> None:
    with pytest.raises(RecipeInvalid, match=said):
        api.ingest(
            "shapenet", made / "ShapeNetCore.v2", tmp_path / "x.zarr", recipe="points", settings=[setting], workers=0
        )
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.usefixtures("only_spread")
def test_a_record_that_fails_a_gate_is_quarantined_with_check_and_value(made: Path, tmp_path: Path) -> None:
    raw = made / "ShapeNetCore.v2"
    spread_of = {
        each.shape_id: each.value for each in api.validate(made / "s.zarr", workers=0).checks[-1].measures[0].worst
    }
    limit = float(np.median(list(spread_of.values())))
    settings = (*SMALL, "checks.spread.gate=true", f"checks.spread.largest={limit!r}")
    result = api.ingest("shapenet", raw, tmp_path / "g.zarr", recipe="points", settings=settings, workers=0)
    failing = {name: value for name, value in spread_of.items() if value > limit}
    assert result.quarantined == len(failing) > 0
    for item in api.open(tmp_path / "g.zarr").quarantine():
        assert item["reason"] == "fails a quality check"
        assert f"[spread], got {failing[item['shape_id']]:.6g}" in item["message"]


@pytest.mark.usefixtures("only_spread")
def test_a_check_that_fails_on_a_row_says_so_and_measures_the_others(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(batch: Batch, settings: Spread) -> Iterator[Measure | Fact]:
        if 3 in batch.rows:
            raise ZeroDivisionError("three")
        yield from spread(batch, settings)

    for module in ("validate", "gates", "registry", "measuring"):
        monkeypatch.setattr(
            f"shapestore.quality.{module}.installed_checks", lambda: (replace(SPREAD, measure=fragile),)
        )
    result = api.validate(store, "full", workers=0)
    assert [(finding.check, finding.row) for finding in result.findings if finding.severity == "error"] == [
        ("spread", 3)
    ]
    assert "ZeroDivisionError: three" in result.findings[0].message
    assert result.checks[-1].measures[0].rows == 11


@pytest.mark.slow
def test_workers_find_the_same_as_one_process(store: Path) -> None:
    alone, shared = (api.validate(store, "full", workers=count) for count in (0, 2))
    hidden = {"seconds": 0.0}
    assert shared.model_copy(update=hidden) == alone.model_copy(update=hidden)


def test_pieces_are_joined_by_row_and_what_a_piece_lacks_is_nan() -> None:
    def piece(rows: list[int], *names: str) -> Measured:
        measures = {("c", name): Measure(name, np.array(rows, np.float64)) for name in names}
        return Measured(np.array(rows), measures, {("c", "f"): (np.array(rows), np.array(rows) * 2)})

    whole = Measured.join([piece([5, 1], "a"), piece([3], "a", "b")])
    assert whole.rows.tolist() == [1, 3, 5]
    assert whole.measures["c", "a"].values.tolist() == [1, 3, 5]
    np.testing.assert_array_equal(whole.measures["c", "b"].values, [np.nan, 3, np.nan])
    assert [each.tolist() for each in whole.facts["c", "f"]] == [[1, 3, 5], [2, 6, 10]]


def test_draws_depend_on_the_row_alone() -> None:
    together = chosen([3, 4, 5], 1000, 10)
    apart = np.concatenate([chosen([seed], 1000, 10) for seed in (3, 4, 5)])
    np.testing.assert_array_equal(together, apart)
    assert all(len(set(row)) == 10 for row in together.tolist())
    assert chosen([1, 2], 4, 9).tolist() == [[0, 1, 2, 3]] * 2


def test_the_worst_comes_first() -> None:
    base = Finding(severity="error", check="c", message="m", row=1, value=2.0, high=1.0)
    worse = base.model_copy(update={"value": 9.0})
    store_wide = base.model_copy(update={"row": None, "value": None})
    warning = worse.model_copy(update={"severity": "warning"})
    waived = worse.model_copy(update={"waived": "known"})
    assert sorted([waived, warning, base, store_wide, worse], key=worst_first) == [
        store_wide,
        worse,
        base,
        warning,
        waived,
    ]


def test_bounds_hold_numbers_and_nothing_to_measure_breaks_none() -> None:
    measure = Measure("m", np.array([0.0, 1.0, 2.0, np.nan, np.inf]), low=0.5, high=1.5)
    assert measure.broken.tolist() == [True, False, True, False, True]
    assert not replace(measure, low=-np.inf, high=np.inf).broken.any()


def test_level_metadata_starts_no_workers_and_runs_no_check(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapestore.preprocess.cluster.DaskWorkers.__enter__", pytest.fail)
    result = api.validate(store, "metadata")
    assert result.checked == 0
    assert [check.name for check in result.checks if not check.skipped] == ["structure"]
    assert result.passed
