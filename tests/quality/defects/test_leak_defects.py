"""Training shapes among the test shapes: copies, the same mesh sampled anew or turned, variants of one object."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.quality.finding import Finding
from tests.quality.defects.conftest import Made
from tests.quality.defects.spoil import spoil
from tests.quality.defects.verdict import Verdict, assert_caught, assert_sound, examine

Change = Callable[[str], str]
"""Changes the text of an OBJ file."""

SMALL = ("queries.count=2000", "queries.fps_order=64", "grid.size=32", "rays.count=400")


def as_it_is(text: str) -> str:
    return text


def saved_anew(text: str) -> str:
    """Other bytes, the same geometry."""
    return f"# saved by another program\n{text}"


def turned(degrees: float) -> Change:
    """Turned about y, the up axis, and a little larger."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])

    def change(text: str) -> str:
        lines = []
        for line in text.splitlines():
            kind, *numbers = line.split(" ")
            if kind in ("v", "vn"):
                x, y, z = 1.3 * turn @ np.array(numbers, np.float64)
                line = f"{kind} {x:.6f} {y:.6f} {z:.6f}"
            lines.append(line)
        return "\n".join(lines) + "\n"

    return change


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """16 models with the official split: of every class two are train, one is val, one is test."""
    folder = tmp_path_factory.mktemp("tree")
    raw = write_shapenet(folder, models_per_class=4, official_split=True)
    return Made("shapenet", raw, folder, SMALL).again(raw, folder / "healthy.zarr")


def with_copies(tree: Made, folder: Path, changes: Sequence[Change], split: str) -> Made:
    """The store that ingest makes of the same tree with changed copies of its first training models in a split."""
    raw = Path(shutil.copytree(tree.raw, folder / tree.raw.name))
    table = (raw / "all.csv").read_text().splitlines()
    training = [line.split(",") for line in table if line.endswith(",train")]
    for k, ((_, synset, _, model, _), change) in enumerate(zip(training, changes, strict=False)):
        original, copy = (raw / synset / name / "models" / "model_normalized.obj" for name in (model, copy_of(model)))
        copy.parent.mkdir(parents=True)
        copy.write_text(change(original.read_text()))
        table.append(f"9{k:05d},{synset},{synset},{copy_of(model)},{split}")
    (raw / "all.csv").write_text("\n".join(table) + "\n")
    return tree.again(raw, folder / "s.zarr")


def copy_of(model: str) -> str:
    return model[::-1]


CHANGES = {
    "an exact copy of a bottle": as_it_is,
    "a bottle sampled anew": saved_anew,
    "a chair turned by 37 degrees": turned(37),
    "a chair sampled anew": saved_anew,
    "a mug turned by 90 degrees": turned(90),
    "a mug turned by 200 degrees": turned(200),
    "a table turned by 137 degrees": turned(137),
    "an exact copy of a table": as_it_is,
}
"""In the order of the training models, of which each class has two."""


@pytest.fixture(scope="module")
def leaking(tree: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Verdict]:
    """Ids of all shapes, and what is found."""
    made = with_copies(tree, tmp_path_factory.mktemp("leaking"), list(CHANGES.values()), "test")
    return api.open(made.store).index("shape_id").tolist(), examine(made.store)


@pytest.mark.parametrize("position", range(len(CHANGES)), ids=list(CHANGES))
def test_a_training_shape_among_the_test_shapes_is_caught(
    position: int, leaking: tuple[list[str], Verdict], tree: Made
) -> None:
    original = originals(tree)[position]
    copy = f"{original.split('/')[0]}/{copy_of(original.split('/')[1])}"
    ids, verdict = leaking
    assert {original, copy} <= set(ids)
    naming = [each for each in verdict.of("duplicates") if {original, copy} <= set(named(each, ids))]
    assert len(naming) == 1, str(verdict)
    assert set(named(naming[0], ids)) == {original, copy}
    assert verdict.code == 3


def originals(tree: Made) -> list[str]:
    """Ids of the training models, in the order of `all.csv`."""
    lines = [line.split(",") for line in (tree.raw / "all.csv").read_text().splitlines()]
    return [f"{synset}/{model}" for _, synset, _, model, split in lines if split == "train"]


def named(finding: Finding, ids: Sequence[str]) -> list[str]:
    """The shapes that a finding names."""
    return [shape_id for shape_id in ids if shape_id in f"{finding.shape_id} {finding.message}"]


def test_shapes_that_are_no_copies_are_not_accused(leaking: tuple[list[str], Verdict]) -> None:
    verdict = leaking[1]
    assert len(verdict.result.findings) == len(verdict.of("duplicates")) == len(CHANGES), str(verdict)


def test_a_tree_without_copies_raises_nothing(tree: Made) -> None:
    assert_sound(tree.store, tree.raw)


def test_a_copy_within_one_part_is_a_warning(tree: Made, tmp_path: Path) -> None:
    verdict = examine(with_copies(tree, tmp_path, [saved_anew], "train").store)
    assert len(verdict.result.findings) == len(verdict.of("duplicates", "warning")) == 1, str(verdict)
    assert verdict.code == 0


def test_variants_of_one_object_in_two_parts_are_caught(variants: Made, tmp_path: Path) -> None:
    opened = api.open(variants.store)
    row = int(opened.rows(fold="train")[0])
    store = spoil(variants.store, tmp_path / "s.zarr", lambda s, r: {"fold": "val"}, rows=[row])
    verdict = examine(store)
    assert_caught(verdict, "duplicates")
    assert any(str(opened.index("group")[row]) in each.message for each in verdict.of("duplicates")), str(verdict)
