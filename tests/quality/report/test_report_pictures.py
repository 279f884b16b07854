from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.raw import write_shapenet
from shapestore import api
from shapestore.preprocess.picture_panels import Shape
from shapestore.quality.report import pictures
from shapestore.quality.report.label_slices import label_map
from shapestore.quality.report.pictures import Picture, draw_shapes
from shapestore.quality.report.worst import BROKEN, Reason, WorstShape, broken_shapes, nearest_shapes
from shapestore.store.reader import Store
from tests.quality.defects.spoil import spoil
from tests.quality.report.conftest import Hearts, measure, validation


def shape(store: Store, row: int, *arrays: str) -> WorstShape:
    reasons = tuple(Reason("schema", "error", f"something of {array}", array) for array in arrays)
    return WorstShape(row, str(store.index("shape_id")[row]), reasons)


def drawn(store: Store, row: int, *arrays: str, raw: Path | None = None) -> Picture:
    (picture,) = draw_shapes(store, [shape(store, row, *arrays)], raw)
    return picture


def pixels(data: str) -> np.ndarray:
    kind, _, content = data.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_an_array_is_drawn_by_itself_and_a_shape_where_none_is_named(meshes: Store) -> None:
    row = int(meshes.rows()[0])
    titles = [panel.title for panel in drawn(meshes, row, "pc_fps_order").panels]
    assert titles == ["pc_fps_order, first 32"] * 2
    assert {panel.title for panel in drawn(meshes, row, "").panels} == {"pc_xyz"}
    assert all(np.ptp(pixels(panel.data)) > 100 for panel in drawn(meshes, row, "").panels)


def test_a_signed_query_pool_is_coloured_by_its_sign(tmp_path: Path) -> None:
    raw = write_shapenet(tmp_path, models_per_class=1)
    few = ("queries.signed=true", "queries.count=500", "points.count=256", "points.fps_order=0", "queries.fps_order=0")
    api.ingest("shapenet", raw, tmp_path / "s.zarr", settings=few, workers=0)
    inside, cut = drawn(api.open(tmp_path / "s.zarr"), 0, "pt_sdf_pool").panels
    assert inside.title == "pt_sdf_pool, inside"
    for colour in ((194, 24, 127), (59, 117, 196)):
        assert (np.abs(pixels(cut.data).astype(int) - colour).max(axis=-1) < 12).sum() > 20


def test_slices_come_from_the_raw_label_map_or_from_the_stored_grid(hearts: Hearts) -> None:
    with_raw = [panel.title for panel in drawn(hearts.store, 0, "vol_sdf", raw=hearts.raw).panels]
    without = [panel.title for panel in drawn(hearts.store, 0, "vol_sdf").panels]
    assert [title.partition(",")[0] for title in with_raw[:3]] == ["the raw label map"] * 3
    assert [title.partition(",")[0] for title in without[:3]] == ["label_grid of the store"] * 3
    assert with_raw[3:] == without[3:] != []


def test_the_raw_label_map_is_that_of_the_stored_grid(hearts: Hearts) -> None:
    raw = label_map(Shape(hearts.store, 0), hearts.raw)
    stored = label_map(Shape(hearts.store, 0), None)
    assert raw is not None
    assert stored is not None
    fine, coarse = (each.codes > 0 for each in (raw, stored))
    factor = len(fine) // len(coarse)
    blocks = fine.reshape(*(len(coarse), factor) * 3).mean(axis=(1, 3, 5))
    assert ((blocks > 0.5) == coarse).mean() > 0.99


def test_slices_go_through_what_is_marked_inside_in_empty_space(hearts: Hearts, tmp_path: Path) -> None:
    points, sdf = hearts.store.row("vol_points", 0), hearts.store.row("vol_sdf", 0)
    radius = 0.15
    emptiest = int(np.argmax(np.where(np.abs(points).max(axis=1) < 0.4, sdf, -1)))
    blob = np.linalg.norm(points - points[emptiest], axis=1) < radius
    assert sdf[emptiest] > radius
    changed = np.where(blob, np.float32(-0.1), sdf)
    store = api.open(spoil(hearts.store.path, tmp_path / "s.zarr", lambda s, row: {"vol_sdf": changed}, rows=[0]))
    titles = [panel.title for panel in drawn(store, 0, "vol_sdf", raw=hearts.raw).panels[:3]]
    places = np.array([float(title.rpartition("=")[2]) for title in titles])
    assert (np.abs(places - points[emptiest]) < radius).all()


def test_samples_are_drawn_on_the_slice_in_the_colours_of_their_side(hearts: Hearts) -> None:
    panels = drawn(hearts.store, 0, "vol_sdf", raw=hearts.raw).panels[:3]
    for image in (pixels(panel.data).astype(int).reshape(-1, 3) for panel in panels):
        for colour in ((194, 24, 127), (59, 117, 196), (255, 255, 255)):
            assert (np.abs(image - colour).max(axis=1) < 12).sum() > 20


def test_a_raw_file_that_has_changed_is_said_and_the_rest_is_drawn(hearts: Hearts, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(hearts.raw, tmp_path / "raw"))
    source = str(hearts.store.index("source")[0])
    (raw / source).write_bytes(b"something else")
    picture = drawn(hearts.store, 0, "vol_sdf", raw=raw)
    assert [panel.title.partition(",")[0] for panel in picture.panels] == ["vol_sdf", "vol_sdf"]
    assert "is not the file that was ingested" in " ".join(picture.notes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_values_that_cannot_be_drawn_are_counted(value: float, meshes: Store, tmp_path: Path) -> None:
    row = int(meshes.rows()[0])
    points = np.array(meshes.row("pc_xyz", row))
    points[:5, 1] = value
    store = api.open(spoil(meshes.path, tmp_path / "s.zarr", lambda s, r: {"pc_xyz": points}, rows=[row]))
    picture = drawn(store, row, "pc_xyz")
    assert len(picture.panels) == 2
    assert picture.notes == ("5 values of pc_xyz cannot be drawn, and are taken as 0.",)


def test_an_order_that_leads_out_of_its_pool_is_said_not_to_be_drawn(meshes: Store, tmp_path: Path) -> None:
    row = int(meshes.rows()[0])
    change = {"pc_fps_order": np.full_like(meshes.row("pc_fps_order", row), 10_000)}
    store = api.open(spoil(meshes.path, tmp_path / "s.zarr", lambda s, r: change, rows=[row]))
    picture = drawn(store, row, "pc_fps_order")
    assert picture.panels == ()
    assert picture.notes[0].startswith("Not drawn: index 10000 is out of bounds")


def test_a_damaged_row_is_said_not_to_be_drawn(meshes: Store, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(meshes.path, tmp_path / "s.zarr"))
    (copy / "pc_xyz" / "c" / "0" / "0" / "0").unlink()
    picture = drawn(api.open(copy), int(meshes.rows()[0]), "pc_xyz")
    assert picture.panels == ()
    assert "Not drawn:" in picture.notes[0]


def test_pictures_stop_at_the_budget(meshes: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [shape(meshes, int(row), "pc_xyz") for row in meshes.rows()[:3]]
    monkeypatch.setattr(pictures, "BUDGET", 1)
    first, *others = draw_shapes(meshes, shapes, None)
    assert first.panels
    assert all(not each.panels and "reached their size" in each.notes[0] for each in others)


def test_the_same_shape_gives_the_same_bytes(hearts: Hearts) -> None:
    assert drawn(hearts.store, 1, "near_sdf", raw=hearts.raw) == drawn(hearts.store, 1, "near_sdf", raw=hearts.raw)


def test_the_worst_of_every_measure_is_chosen_and_each_shape_once(meshes: Store) -> None:
    many = np.arange(12.0)
    few = np.where(np.arange(12) == 3, 0.5, 0.0)
    found = validation(
        meshes, [measure(meshes, many, name="many", high=0.1), measure(meshes, few, name="few", high=0.4)]
    )
    rows = meshes.rows()
    chosen = broken_shapes(found)
    assert len(chosen) == BROKEN
    assert {each.row for each in chosen} == {rows[3], rows[11], rows[10], rows[9]}
    assert chosen[0].row == rows[11]
    both = next(each for each in chosen if each.row == rows[3])
    assert [reason.says for reason in both.reasons] == ["many", "few"]


def test_of_a_sound_check_the_shape_nearest_to_a_bound_is_chosen(meshes: Store) -> None:
    values = np.linspace(0.4, 0.6, 12)
    values[5] = 0.69
    found = validation(
        meshes, [measure(meshes, values, low=0.3, high=0.7), measure(meshes, values * 0, name="flat", high=0)]
    )
    assert broken_shapes(found) == ()
    assert [each.row for each in nearest_shapes(found)] == [meshes.rows()[5]]
