"""The geometry benchmark judges before it times; no time is asserted here."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from rich.console import Console

from benchmarks import common, geometry_fields, geometry_report, geometry_signs
from benchmarks import geometry_judges as judge
from benchmarks import geometry_libraries as lib
from benchmarks.geometry_hearts import Heart
from benchmarks.geometry_profiles import Profile, Stage, _right_ones
from benchmarks.geometry_records import job_of, own_stages, record_of
from benchmarks.geometry_trials import OURS, Operation, Result, run, tables
from shapestore.preprocess.geometry.distance import surface_distance
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.plan import PlannedItem
from shapestore.preprocess.source import SourceItem

ROOT = Path(__file__).resolve().parents[2]


def box(size: float = 1.0) -> Mesh:
    made = trimesh.creation.box((size, size, size))
    return Mesh(np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64))


def test_brute_distance_is_that_of_a_box() -> None:
    points = np.random.default_rng(0).uniform(-2, 2, (500, 3))
    beyond = np.abs(points) - 0.5
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    true = np.abs(outside + np.minimum(beyond.max(axis=1), 0))
    assert np.abs(judge.brute_distance(box(), points) - true).max() < 1e-12


def test_brute_distance_agrees_on_needles_and_empty_faces() -> None:
    rng = np.random.default_rng(1)
    corners = rng.normal(size=(40, 3, 3))
    corners[::2, 2] = corners[::2, 1] + 1e-9 * rng.normal(size=(20, 3))
    corners[0] = corners[0, 0]
    mesh = Mesh(corners.reshape(-1, 3), np.arange(120).reshape(-1, 3))
    points = rng.normal(size=(200, 3))
    assert np.abs(judge.brute_distance(mesh, points) - surface_distance(mesh, points)).max() < 1e-6


def test_brute_depth_is_that_of_a_box() -> None:
    rng = np.random.default_rng(2)
    origins = rng.uniform(-0.4, 0.4, (200, 3))
    origins[:100, 0] -= 3
    directions = np.zeros((200, 3))
    directions[:, 0] = 1
    directions[150:, 0] = -1
    true = np.where(directions[:, 0] > 0, 0.5 - origins[:, 0], origins[:, 0] + 0.5)
    true[:100] = -0.5 - origins[:100, 0]
    assert np.abs(judge.brute_depth(box(), origins, directions) - true).max() < 1e-12
    origins[:, 1] += 5
    assert np.isinf(judge.brute_depth(box(), origins, directions)).all()


def test_the_judge_of_orders_finds_what_is_no_order() -> None:
    points = np.random.default_rng(3).random((50, 3), np.float32)
    nearest, order = np.full(50, np.inf), [7]
    for _ in range(49):
        nearest = np.minimum(nearest, ((points.astype(np.float64) - points[order[-1]]) ** 2).sum(axis=1))
        order.append(int(nearest.argmax()))
    error = judge.greedy_gap(points)
    assert error(np.array(order)) == 0
    assert error(points[order]) == 0
    assert error(np.arange(50)) > 0.1
    assert error(np.array([*order[:-1], order[0]])) == math.inf


def test_the_judge_of_samples_finds_an_uneven_draw_and_points_off_the_surface() -> None:
    mesh = box()
    points, faces = trimesh.sample.sample_surface(trimesh.Trimesh(mesh.vertices, mesh.faces), 4000, seed=0)
    normals = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).face_normals[faces]
    error = judge.off_surface(mesh, np.arange(50))
    assert error((points, normals)) < 1e-12
    assert error((points * 1.1, normals)) > 0.01
    assert error((points, 2 * normals)) == math.inf
    upper = points[:, 2] > -0.2
    assert error((points[upper], normals[upper])) == math.inf


def test_the_other_judges_find_wrong_answers() -> None:
    mesh = box()
    assert judge.same_triangles(mesh)(mesh) == 0
    assert judge.same_triangles(mesh)(Mesh(mesh.vertices, mesh.faces[1:])) == math.inf
    assert judge.same_triangles(mesh)(Mesh(mesh.vertices, mesh.faces[::-1])) > 0.5
    rows = np.array([0, 3])
    assert judge.largest_error(np.array([1.0, 2.0]), rows)([1, 0, 0, 2.5]) == 0.5
    assert judge.largest_error(np.array([1.0, 2.0]), rows)([1.0]) == math.inf
    assert judge.share_wrong(np.array([True, False, True, False]))([True, True, True, False]) == 25


def test_a_fast_wrong_library_is_compared_with_nothing() -> None:
    def slow() -> float:
        time.sleep(0.0)
        return sum(range(20_000)) * 0.0

    operation = Operation("sum", "case", "largest", 0.1, abs, {OURS: slow, "liar": lambda: 1.0})
    ours, liar = run([operation], 2, 0.0, Console(file=io.StringIO()))
    assert ours.right
    assert ours.ratio == 1
    assert not liar.right
    assert liar.ratio is None
    printed = io.StringIO()
    for table in tables([ours, liar]):
        Console(file=printed, width=120).print(table)
    assert printed.getvalue().count("WRONG") == 1


def test_everybody_takes_turns_as_often() -> None:
    calls: list[str] = []
    found = common.take_turns({name: lambda name=name: calls.append(name) for name in "abc"}, 4, 0.0)
    assert set(found) == set("abc")
    assert all(each.fastest <= each.median <= each.slowest for each in found.values())
    assert sorted(calls) == sorted("abc" * 5)
    assert calls != list("abc" * 5)


def test_a_stage_counts_with_the_libraries_that_are_right() -> None:
    def refuse() -> None:
        raise ValueError("no such file format")

    calls: dict[str, Callable[[], Any]] = {"right": lambda: 0, "liar": lambda: 1, "none": refuse, OURS: lambda: 0}
    assert list(_right_ones(Stage("load", calls, float, 0.5)).entrants) == ["right"]
    assert list(_right_ones(Stage("load", {"liar": lambda: 1, OURS: lambda: 0}, float, 0.5)).entrants) == [OURS]
    with pytest.raises(common.WrongValues, match="load"):
        _right_ones(Stage("load", {"liar": lambda: 1}, float, 0.5))


def test_a_record_takes_the_time_of_what_its_builder_calls(tmp_path: Path) -> None:
    ball = judge.bumpy_sphere(2)
    trimesh.Trimesh(ball.vertices, ball.faces, process=False).export(tmp_path / "ball.obj")
    job = job_of(tmp_path, "meshes", "points")
    planned = PlannedItem(0, SourceItem("ball", "ball.obj", "ball"))
    record_of(job, planned)  # compiles
    own = own_stages(lambda: record_of(job, planned))
    assert {"read", "clean", "sample_surface", "farthest_point_order", "require", "rest"} <= set(own)
    assert not {"read_mesh", "build_record", "compute_row", "refuse_unsafe"} & set(own)
    assert list(own)[-1] == "rest"
    assert list(own_stages(lambda: sum(range(1000)))) == ["rest"]


def test_an_item_that_would_be_quarantined_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "broken.obj").write_text("v 0 0 0\n")
    planned = PlannedItem(0, SourceItem("broken", "broken.obj", "broken"))
    with pytest.raises(common.WrongValues, match=r"broken.obj: .*no faces"):
        record_of(job_of(tmp_path, "meshes", "points"), planned)


def test_verdicts_tell_upper_bounds_from_lower_ones() -> None:
    assert common.Verdict("fast", 2.0, 2.5).met
    assert not common.Verdict("fast", 2.0, 1.5).met
    assert common.Verdict("small", 2.0, 1.5, at_most=True).met
    assert not common.Verdict("small", 2.0, 2.5, at_most=True).met


def test_targets_are_judged_on_what_was_measured() -> None:
    timing = common.Timing(0.2, 0.1, 0.3)
    profile = Profile("a.obj", 1000, timing, 0.4, {"load": ("libigl", 0.4)}, {"read": 0.2}, 1e-7)
    heart = Heart(256, common.Timing(2.5, 2.4, 2.6), common.Timing(45.0, 44.0, 46.0), 2**29, {"read": 2.5})
    fields = [geometry_fields.Truth(OURS, 0.08, 0.08, 0.99, 1.0)]
    operation = Operation("distance grid", "box", "largest", 1e-6, abs, {OURS: lambda: 1e-5})
    results = list(run([operation], 1, 0.0, Console(file=io.StringIO())))
    missed = [each.target for each in geometry_report.verdicts(results, fields, [profile], heart) if not each.met]
    assert missed == [
        "distances to surfaces: largest error",
        "cardiac-sdf: CPU seconds",
        "cardiac-sdf: times that scipy's distance transforms alone take",
    ]
    for table in geometry_report.tables([profile], heart):
        Console(file=io.StringIO()).print(table)


def test_signs_are_judged_near_and_uniform_apart() -> None:
    def judged(where: str, bound: float, *errors: float) -> list[Result]:
        timing = common.Timing(1.0, 1.0, 1.0)
        name = f"{geometry_signs.NAME}, 8000 {where} positions"
        return [Result(name, "chair", OURS, "percent wrong", bound, error, True, timing, 1.0) for error in errors]

    results = [*judged("near", 0.0, 0.0), *judged("near", 2.0, 0.2, 1.8), *judged("uniform", 2.0, 0.0, 0.0)]
    whole, mean, worst = geometry_signs.verdicts(results)
    assert (whole.measured, mean.measured, worst.measured) == (0.0, 1.0, 1.8)
    assert (whole.met, mean.met, worst.met) == (True, False, True)


def test_the_ball_tells_a_field_that_is_true_from_one_that_is_not() -> None:
    found = {each.method: each for each in geometry_fields.ball(2000)}
    exact, half = found["exact distance to marching cubes"], found["EDT pair, half a voxel less"]
    assert found[OURS].mean < exact.mean < half.mean < found["EDT pair"].mean
    assert found["EDT pair"].slope > 1.4


def test_without_a_required_library_the_command_fails_at_once() -> None:
    if lib.why_missing("open3d") is None:
        pytest.skip("Open3D is installed here")
    command = [sys.executable, "-m", "benchmarks.geometry", "--require", "open3d"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "left out: open3d: ModuleNotFoundError" in done.stdout
    assert "required, and missing: open3d" in done.stderr


@pytest.mark.skipif(
    "SHAPESTORE_BENCHMARKS" not in os.environ, reason="benchmarks are run by hand: SHAPESTORE_BENCHMARKS=1"
)
@pytest.mark.slow
def test_the_command_writes_tables_and_json(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "out.json"
    data.mkdir()
    ball = judge.bumpy_sphere(3)
    trimesh.Trimesh(ball.vertices, ball.faces, process=False).export(data / "ball.obj")
    command = [sys.executable, "-m", "benchmarks.geometry", "--quick", "--data", str(data), "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for title in ("load a file", "distance grid", "inside or outside", "inside grid", "nepa-shapenet", "cardiac-sdf"):
        assert title in done.stdout
    report = json.loads(file.read_text())
    assert {result["library"] for result in report["results"]} >= {OURS, "libigl", "trimesh", "scipy"}
    assert [profile["shape"] for profile in report["profiles"]] == ["ball.obj"]
    assert {target["met"] for target in report["targets"]} == {None}
