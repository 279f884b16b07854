"""From a recipe to the arrays of its store: what is asked for is declared, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shapestore.errors import RecipeInvalid
from shapestore.schemas.recipe import HEART_10, Recipe
from shapestore.schemas.recipe_file import BUILT_IN, load_recipe
from shapestore.schemas.recipe_schema import schema_of

ARRAYS: dict[str, dict[str, tuple[str, tuple[int, ...], str]]] = {
    "points": {
        "pc_xyz": ("float32", (2048, 3), "mapped"),
        "pc_n": ("float32", (2048, 3), "mapped"),
        "pc_fps_order": ("int32", (2048,), "mapped"),
    },
    "nepa-scanobjectnn": {
        "pc_xyz": ("float32", (2048, 3), "mapped"),
        "pc_mask": ("int8", (2048,), "mapped"),
        "pc_fps_order": ("int32", (2048,), "mapped"),
        "pt_xyz_pool": ("float32", (4000, 3), "mapped"),
        "pt_dist_pool": ("float32", (4000,), "mapped"),
        "pt_fps_order": ("int32", (2048,), "mapped"),
    },
    "nepa-shapenet": {
        "pc_xyz": ("float32", (2048, 3), "mapped"),
        "pc_n": ("float32", (2048, 3), "mapped"),
        "pc_fps_order": ("int32", (2048,), "mapped"),
        "pt_xyz_pool": ("float32", (20000, 3), "mapped"),
        "pt_dist_pool": ("float32", (20000,), "mapped"),
        "pt_dist_pc_pool": ("float32", (20000,), "mapped"),
        "pt_dist_udf_pool": ("float32", (20000,), "mapped"),
        "pt_fps_order": ("int32", (2048,), "mapped"),
        "udf_grid": ("float32", (64, 64, 64), "packed"),
        "occ_grid": ("uint8", (64, 64, 64), "packed"),
        "ray_o_pool": ("float32", (8000, 3), "mapped"),
        "ray_d_pool": ("float32", (8000, 3), "mapped"),
        "ray_hit_pool": ("uint8", (8000,), "mapped"),
        "ray_t_pool": ("float32", (8000,), "mapped"),
        "ray_n_pool": ("float32", (8000, 3), "mapped"),
        "ray_hit_pc_pool": ("uint8", (8000,), "mapped"),
        "ray_t_pc_pool": ("float32", (8000,), "mapped"),
        "ray_n_pc_pool": ("float32", (8000, 3), "mapped"),
        "mesh_vertices": ("int32", (), "index"),
        "mesh_faces": ("int32", (), "index"),
        "mesh_components": ("int32", (), "index"),
        "mesh_dropped_faces": ("int32", (), "index"),
        "mesh_duplicate_faces": ("int32", (), "index"),
        "mesh_watertight": ("uint8", (), "index"),
        "mesh_winding_consistent": ("uint8", (), "index"),
        "mesh_volume": ("float64", (), "index"),
    },
    "cardiac-sdf": {
        "class_voxels": ("int32", (10,), "mapped"),
        "surface_points": ("float32", (50000, 3), "mapped"),
        "surface_labels": ("int8", (50000,), "mapped"),
        "vol_points": ("float32", (50000, 3), "mapped"),
        "vol_sdf": ("float32", (50000,), "mapped"),
        "vol_labels": ("int8", (50000,), "mapped"),
        "near_points": ("float32", (50000, 3), "mapped"),
        "near_sdf": ("float32", (50000,), "mapped"),
        "near_labels": ("int8", (50000,), "mapped"),
    },
}
ARRAYS["nepa-modelnet40"] = ARRAYS["nepa-shapenet"]
ARRAYS["npz"] = {}  # what the cache holds, once it is looked at


@pytest.mark.parametrize("name", BUILT_IN)
def test_arrays_are_those_of_the_caches_that_the_recipe_stands_for(name: str) -> None:
    found = {spec.name: (spec.dtype, spec.shape, spec.kind) for spec in schema_of(load_recipe(name)).arrays}
    assert found == ARRAYS[name]


@pytest.mark.parametrize("name", BUILT_IN)
def test_arrays_are_exactly_those_of_the_families(name: str) -> None:
    schema = schema_of(load_recipe(name))
    assert schema.arrays == tuple(spec for family in schema.families for spec in family.arrays())
    read = {array for rule in schema.rules for array in rule.arrays}
    assert read == set(schema.by_name), "an array that no rule reads is an array that nobody checks"


SWITCHES = {
    ("points.normals=false",): {"pc_n"},
    ("points.fps_order=0",): {"pc_fps_order"},
    ("queries.cloud_distance=false",): {"pt_dist_pc_pool"},
    ("queries.grid_distance=false",): {"pt_dist_udf_pool"},
    ("queries.fps_order=0",): {"pt_fps_order"},
    ("grid.occupancy=false",): {"occ_grid"},
    ("rays.mesh=false",): {"ray_hit_pool", "ray_t_pool", "ray_n_pool"},
    ("rays.cloud=false",): {"ray_hit_pc_pool", "ray_t_pc_pool", "ray_n_pc_pool"},
    ("rays=null",): {name for name in ARRAYS["nepa-shapenet"] if name.startswith("ray_")},
    ("queries=null",): {name for name in ARRAYS["nepa-shapenet"] if name.startswith("pt_")},
}


SIGNED = {
    ("grid.signed=true",): {"sdf_grid"},
    ("grid.solid=true",): {"solid_grid"},
    ("queries.signed=true",): {"pt_sdf_pool"},
}


@pytest.mark.parametrize(("settings", "added"), SIGNED.items(), ids=[keys[0] for keys in SIGNED])
def test_whatever_has_a_sign_brings_how_the_sign_was_found(settings: tuple[str, ...], added: set[str]) -> None:
    schema = schema_of(load_recipe("nepa-shapenet", settings))
    assert schema.by_name.keys() - ARRAYS["nepa-shapenet"] == added | {"sign_method", "sign_confidence"}


@pytest.mark.parametrize(("settings", "gone"), SWITCHES.items(), ids=[keys[0] for keys in SWITCHES])
def test_a_switch_leaves_out_its_arrays_and_no_others(settings: tuple[str, ...], gone: set[str]) -> None:
    kept = set(schema_of(load_recipe("nepa-shapenet", settings)).by_name)
    assert kept == ARRAYS["nepa-shapenet"].keys() - gone


def test_storage_changes_the_kind_and_nothing_else() -> None:
    plain = schema_of(load_recipe("nepa-shapenet"))
    asked = ["storage.udf_grid=mapped", "storage.pc_xyz=packed"]
    changed = schema_of(load_recipe("nepa-shapenet", asked))
    for before, after in zip(plain.arrays, changed.arrays, strict=True):
        kind = {"udf_grid": "mapped", "pc_xyz": "packed"}.get(before.name, before.kind)
        assert after == before.model_copy(update={"kind": kind})


def test_storage_of_an_unknown_array_is_refused() -> None:
    with pytest.raises(RecipeInvalid, match=r"storage\.pc_xzy.*pc_xyz"):
        schema_of(load_recipe("points", ["storage.pc_xzy=packed"]))


def heart(classes: dict[str, int]) -> Recipe:
    labels = {"scheme": "mapping", "classes": classes}
    return Recipe.model_validate({"input": ["label_map"], "labels": labels, "surface": {"count": 8}})


def test_equal_digests_make_equal_schemas() -> None:
    """The order of classes decides their codes, so it is content, unlike the order of a model's keys."""
    one, other = heart({"left": 1, "right": 2}), heart({"right": 2, "left": 1})
    assert (one.digest == other.digest) == (schema_of(one) == schema_of(other))


def test_codes_follow_the_order_of_classes() -> None:
    spec = schema_of(load_recipe("cardiac-sdf")).by_name["vol_labels"]
    assert [(code.value, code.name) for code in spec.codes] == list(enumerate(["outside", *HEART_10]))


MESH = {"input": ["mesh"], "points": {}}
LABEL_MAP: dict[str, Any] = {"input": ["label_map"], "labels": {}, "surface": {}}
CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "queries without points": {"input": ["mesh"], "queries": {"grid_distance": False}},
    "a grid without points": {"input": ["mesh"], "grid": {}},
    "cell rays without a grid": MESH | {"rays": {}},
    "grid distance without a grid": MESH | {"queries": {}},
    "rays that hit nothing": MESH | {"grid": {}, "rays": {"mesh": False, "cloud": False}},
    "surface distance of clouds": {"input": ["cloud"], "points": {}, "queries": {"grid_distance": False}},
    "signs of clouds": {"input": ["cloud"], "points": {}, "grid": {"udf": "cloud", "solid": True}},
    "blue noise of clouds": {"input": ["mesh", "cloud"], "points": {"blue_noise": True}},
    "signs of sampled distances": MESH | {"grid": {}, "queries": {"signed": True, "distance": "sampled"}},
    "a surface grid of clouds": {"input": ["mesh", "cloud"], "points": {}, "grid": {}},
    "label maps without labels": {"input": ["label_map"], "surface": {}},
    "labels of meshes": MESH | {"labels": {}},
    "samples without labels": MESH | {"near": {}},
    "label maps without samples": {"input": ["label_map"], "labels": {}},
    "label maps and meshes": LABEL_MAP | {"input": ["label_map", "mesh"], "points": {}},
    "a cache with computed parts": {"input": ["cache"], "points": {}, "cache": {"layout": "vecsetx", "shapes": {}}},
    "caches and meshes": {"input": ["cache", "mesh"], "points": {}},
    "nothing to compute": {"input": ["mesh"]},
    "no input": {"input": [], "points": {}},
    "an order longer than its pool": {"input": ["mesh"], "points": {"count": 9, "fps_order": 10}},
    "too few cameras": MESH | {"grid": {}, "rays": {"views": 2, "rays_per_view": 3, "count": 7}},
    "classes without a mapping": LABEL_MAP | {"labels": {"classes": {"a": 1}}},
    "a mapping without classes": LABEL_MAP | {"labels": {"scheme": "mapping"}},
    "a value of two classes": LABEL_MAP | {"labels": {"scheme": "mapping", "classes": {"a": 1, "b": 1}}},
    "a class of background": LABEL_MAP | {"labels": {"scheme": "mapping", "classes": {"a": 0}}},
    "more classes than int8": LABEL_MAP
    | {"labels": {"scheme": "mapping", "classes": {f"c{i}": i for i in range(1, 129)}}},
    "files in a label file": LABEL_MAP | {"labels": {"scheme": "mapping", "classes": {"a": "heart"}}},
    "values in a folder": LABEL_MAP | {"labels": {"scheme": "mapping", "layout": "folder", "classes": {"a": 1}}},
}


@pytest.mark.parametrize("values", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_recipe_that_contradicts_itself_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(values)


def test_a_cache_is_adopted_with_all_its_arrays() -> None:
    shapes = {name: shape for name, (_, shape, kind) in ARRAYS["nepa-shapenet"].items() if kind != "index"}
    cache = Recipe.model_validate({"input": ["cache"], "cache": {"layout": "nepa-mesh", "shapes": shapes}})
    adopted = schema_of(cache)
    assert {spec.name: spec.shape for spec in adopted.arrays} == shapes
    assert adopted.by_name["udf_grid"].dtype == "float16"
