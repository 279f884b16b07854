"""Records of meshes: what their signs and facts say, and that every random draw has a stream of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.raw import RawMesh
from shapestore.preprocess.records.surface import from_mesh
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import ShapeRecord
from shapestore.schemas.specs import SIGN_METHODS

SIZE = 16
SMALL = (
    "points.count=256", "points.fps_order=16", "queries.count=500", "queries.fps_order=0", f"grid.size={SIZE}",
    "rays=null",
)  # fmt: skip
SIGNED = ("queries.signed=true", "grid.signed=true", "grid.solid=true")


def torus() -> RawMesh:
    shape = trimesh.creation.torus(major_radius=3, minor_radius=1)
    return RawMesh(Mesh(np.asarray(shape.vertices), np.asarray(shape.faces)))


def arrays(recipe: Recipe, raw: RawMesh | None = None) -> dict[str, NDArray[Any]]:
    return dict(from_mesh(raw or torus(), recipe, seed=7).arrays)


def inside_torus(points: NDArray[Any]) -> NDArray[np.bool_]:
    """Of the analytic torus, in the unit ball: its radii are 3/4 and 1/4."""
    ring = np.hypot(points[..., 0], points[..., 1]) - 0.75
    return np.asarray(np.hypot(ring, points[..., 2]) < 0.25)


def test_signs_are_those_of_the_solid() -> None:
    found = arrays(load_recipe("nepa-shapenet", (*SMALL, *SIGNED)))
    assert np.array_equal(np.abs(found["pt_sdf_pool"]), found["pt_dist_pool"])
    clear = found["pt_dist_pool"] > 0.01  # the mesh has flat faces
    assert np.array_equal((found["pt_sdf_pool"] < 0)[clear], inside_torus(found["pt_xyz_pool"])[clear])
    axis = -1 + (np.arange(SIZE) + 0.5) * 2 / SIZE
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    assert np.array_equal(np.abs(found["sdf_grid"]), found["udf_grid"])
    assert np.array_equal(found["solid_grid"] == 1, found["sdf_grid"] < 0)
    clear_cells = found["udf_grid"] > 0.01
    assert np.array_equal((found["sdf_grid"] < 0)[clear_cells], inside_torus(centres)[clear_cells])


def test_method_and_confidence_of_the_sign_are_kept() -> None:
    recipe = load_recipe("nepa-shapenet", (*SMALL, *SIGNED))
    names = {code.value: code.name for code in SIGN_METHODS}
    closed = arrays(recipe)
    assert names[int(closed["sign_method"])] == "winding"
    assert closed["sign_confidence"] > 0.99
    mesh = torus().mesh
    half = RawMesh(Mesh(mesh.vertices, mesh.faces[mesh.vertices[mesh.faces].mean(axis=1)[:, 0] > 0]))
    assert arrays(recipe, half)["sign_confidence"] < 0.9


def test_asking_for_signs_changes_nothing_else() -> None:
    plain = arrays(load_recipe("nepa-shapenet", SMALL))
    signed = arrays(load_recipe("nepa-shapenet", (*SMALL, *SIGNED)))
    for name, values in plain.items():
        assert values.tobytes() == signed[name].tobytes(), name


@pytest.mark.parametrize("udf", ["cloud", "occupancy"])
def test_a_signed_grid_is_exact_whatever_the_unsigned_one_measures(udf: str) -> None:
    exact = arrays(load_recipe("nepa-shapenet", (*SMALL, *SIGNED)))
    other = arrays(load_recipe("nepa-shapenet", (*SMALL, *SIGNED, f"grid.udf={udf}")))
    assert exact["sdf_grid"].tobytes() == other["sdf_grid"].tobytes()
    assert exact["udf_grid"].tobytes() != other["udf_grid"].tobytes()


def test_facts_tell_what_the_raw_mesh_is_like() -> None:
    mesh = torus().mesh
    doubled = Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:5, ::-1], [[3, 3, 4]]]))
    found = arrays(load_recipe("nepa-shapenet", SMALL), RawMesh(doubled))
    facts = {name: value.item() for name, value in found.items() if name.startswith("mesh_")}
    volume = facts.pop("mesh_volume")
    assert facts == {
        "mesh_vertices": len(mesh.vertices),
        "mesh_faces": len(mesh.faces),
        "mesh_components": 1,
        "mesh_dropped_faces": 1,
        "mesh_duplicate_faces": 5,
        "mesh_watertight": 1,
        "mesh_winding_consistent": 1,
    }
    assert volume == pytest.approx(2 * np.pi**2 * 3, rel=0.05)


def test_a_recipe_for_clouds_too_keeps_the_facts_as_a_note() -> None:
    computed = from_mesh(torus(), load_recipe("points"), seed=7)
    assert not [name for name in computed.arrays if name.startswith("mesh_")]
    assert computed.notes[-1].startswith("mesh: ")


def test_blue_noise_keeps_points_apart() -> None:
    white, blue = (
        arrays(load_recipe("nepa-shapenet", (*SMALL, f"points.blue_noise={on}"))) for on in ("false", "true")
    )

    def closest_pair(points: NDArray[Any]) -> float:
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
        return float(gaps[np.triu_indices(len(points), 1)].min())

    assert closest_pair(blue["pc_xyz"]) > 5 * closest_pair(white["pc_xyz"])


def test_the_record_keeps_every_rule_of_its_schema() -> None:
    recipe = load_recipe("nepa-shapenet", (*SMALL, *SIGNED))
    computed = from_mesh(torus(), recipe, seed=7)
    provenance = {"source": "torus.off", "source_sha256": "0" * 64, "seed": 7}
    schema_of(recipe).require(
        ShapeRecord.model_validate(
            {"shape_id": "torus", "group": "torus", "provenance": provenance, "arrays": dict(computed.arrays)}
        )
    )
