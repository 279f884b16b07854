from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from judges.damage import double_sided, flip, holes
from judges.furniture import bathtub, chair, lamp, shelf, table
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.quality.check import Batch, Table
from shapestore.quality.checks.sign_confidence import CHECK
from shapestore.quality.finding import Finding
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from tests.quality.helpers import batch_of, broken, measures, mesh_record, spoilt

RECIPE = load_recipe(
    "nepa-shapenet",
    ["queries={count: 4000, signed: true, fps_order: 0, grid_distance: false}", "grid=null", "rays=null"],
)
UNSIGNED = load_recipe("nepa-shapenet", ["queries=null", "grid=null", "rays=null"])

TRUSTED = "confidence of the sign"
AGREEMENT = "share of pt_sdf_pool with the sign of the normals in pc_n"


def batch_with(meshes: Sequence[Mesh]) -> Batch:
    return batch_of([mesh_record(mesh, RECIPE, f"shape {i}") for i, mesh in enumerate(meshes)], RECIPE)


@pytest.fixture(scope="module")
def solids() -> Batch:
    return batch_with([solid.mesh for solid in (chair(), table(), shelf(), bathtub())])


def table_of(batch: Batch) -> Table:
    return Table(batch.schema, batch.recipe, batch.rows, batch.index, measures(CHECK, batch), store_rows=len(batch))


def overall(batch: Batch, **settings: object) -> list[Finding]:
    assert CHECK.overall is not None
    return list(CHECK.overall(table_of(batch), CHECK.settings.model_validate(settings)))


def confident(batch: Batch, values: Sequence[float]) -> Batch:
    """The batch with other recorded confidences, and signs that no normal confirms."""
    index = {**batch.index, "sign_confidence": np.array(values, np.float32)}
    return replace(spoilt(batch, pc_n=lambda normals: normals * np.nan), index=index)


def test_solids_have_signs_that_their_normals_confirm(solids: Batch) -> None:
    assert measures(CHECK, solids)[AGREEMENT].values.min() > 0.98
    assert not broken(CHECK, solids)
    assert not overall(solids)


@pytest.mark.parametrize("damage", [double_sided, lambda mesh: flip(mesh, 0.5, 0)], ids=["doubled", "wound at random"])
def test_solids_that_are_doubled_or_wound_at_random_are_trusted(damage: Callable[[Mesh], Mesh]) -> None:
    """Their normals say nothing of the sign, and nothing is held against it."""
    batch = batch_with([damage(chair().mesh), damage(bathtub().mesh)])
    agreement = measures(CHECK, batch)[AGREEMENT].values
    assert not (agreement > 0.9).any()
    assert not broken(CHECK, batch)


def test_an_open_shade_has_no_inside() -> None:
    batch = batch_with([chair().mesh, lamp().mesh])
    assert broken(CHECK, batch) == {TRUSTED: [1]}
    assert CHECK.severity == "warning"


def test_normals_confirm_signs_that_small_holes_leave_in_doubt() -> None:
    """Of the bathtub no sign is wrong, of the shelf 4 %: in either case ingest is cautious."""
    batch = batch_with([holes(bathtub().mesh, 0.1, 0), holes(shelf().mesh, 0.1, 0)])
    assert (batch.index["sign_confidence"] < 0.9).all()
    assert broken(CHECK, batch) == {TRUSTED: [1]}


def test_normals_take_no_confidence_away(solids: Batch) -> None:
    """A mesh that is inside out has its normals against it, and the sign of its mirror twin."""
    inside_out = spoilt(solids, pc_n=np.negative)
    found = measures(CHECK, inside_out)
    assert found[AGREEMENT].values.max() < 0.02
    assert not found[TRUSTED].broken.any()


def test_a_flipped_sign_shows_in_the_agreement(solids: Batch) -> None:
    flipped = spoilt(solids, pt_sdf_pool=lambda sdf: sdf * np.array([[1], [-1], [1], [1]], np.float32))
    assert (measures(CHECK, flipped)[AGREEMENT].values < 0.5).tolist() == [False, True, False, False]


def test_a_recorded_doubt_that_nothing_confirms_is_a_warning(solids: Batch) -> None:
    doubtful = confident(solids, [1, 0.89, 0.91, 0.3])
    assert broken(CHECK, doubtful) == {TRUSTED: [1, 3]}
    np.testing.assert_allclose(measures(CHECK, doubtful)[TRUSTED].values, [1, 0.89, 0.91, 0.3], rtol=1e-6)


def test_a_store_of_many_doubtful_rows_is_one_finding(solids: Batch) -> None:
    assert not overall(confident(solids, [0.5, 1, 1, 1])), "one row of four may be chance"
    (finding,) = overall(confident(solids, [0.5, 0.5, 0.5, 1]))
    assert (finding.severity, finding.row, finding.value) == ("warning", None, 0.75)
    assert not overall(confident(solids, [0.5, 0.5, 0.5, 1]), doubtful=0.9)


def test_what_the_mesh_is_like_is_told_without_a_bound() -> None:
    batch = batch_with([bathtub().mesh, lamp().mesh, flip(chair().mesh, 0.5, 0)])
    found = measures(CHECK, batch)
    assert found["mesh_watertight"].values.tolist() == [1, 0, 1]
    assert found["mesh_winding_consistent"].values.tolist() == [1, 1, 0]
    assert found["mesh_volume is positive"].values[0] == 1
    assert not any(found[name].broken.any() for name in found if name.startswith("mesh_"))


def test_a_store_without_signs_tells_of_its_meshes_only() -> None:
    batch = batch_of([mesh_record(chair().mesh, UNSIGNED)], UNSIGNED)
    assert set(measures(CHECK, batch)) == {"mesh_watertight", "mesh_winding_consistent", "mesh_volume is positive"}
    assert not overall(batch)
    scans = load_recipe("nepa-scanobjectnn")
    assert CHECK.applies(batch.schema, UNSIGNED) is None
    reason = "the store holds no sign_confidence or facts of meshes such as mesh_faces"
    assert CHECK.applies(schema_of(scans), scans) == reason


@pytest.mark.parametrize("array", ["pc_xyz", "pc_n", "pt_xyz_pool", "pt_sdf_pool"])
def test_rows_that_are_not_finite_have_no_agreement(solids: Batch, array: str) -> None:
    def nan(values: np.ndarray) -> np.ndarray:
        values[1], values[2] = np.nan, np.inf
        return values

    agreement = measures(CHECK, spoilt(solids, **{array: nan}))[AGREEMENT].values
    assert np.isnan(agreement).tolist() == [False, True, True, False]


def test_numbers_do_not_depend_on_how_rows_are_batched(solids: Batch) -> None:
    whole = measures(CHECK, solids, queries=100)
    for row in range(len(solids)):
        one = replace(
            solids,
            rows=solids.rows[row : row + 1],
            index={name: values[row : row + 1] for name, values in solids.index.items()},
            arrays={name: values[row : row + 1] for name, values in solids.arrays.items()},
        )
        for name, each in measures(CHECK, one, queries=100).items():
            assert each.values[0] == whole[name].values[row]


def test_settings_reach_the_bounds(solids: Batch) -> None:
    assert measures(CHECK, solids, trusted=0.5)[TRUSTED].low == 0.5
    doubtful = replace(solids, index={**solids.index, "sign_confidence": np.zeros(4, np.float32)})
    assert not broken(CHECK, doubtful, confirmed=0.9)
    assert broken(CHECK, doubtful, confirmed=1.0, queries=4000)
