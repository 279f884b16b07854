"""What welding leaves nothing of, or cannot be done in bounded memory, is refused before it harms."""

from __future__ import annotations

import numpy as np
import pytest

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import WELD_DISTANCE, patches


def test_faces_that_are_narrower_than_the_weld_are_no_surface() -> None:
    needle = Mesh(np.array([[-0.5, 0, 0], [0.5, 0, 0], [0.5, WELD_DISTANCE / 2, 0]]), np.array([[0, 1, 2]]))
    with pytest.raises(InputRefused, match="every face is narrower") as refused:
        patches(needle)
    assert refused.value.reason is Reason.ZERO_AREA


def test_a_mesh_most_of_which_is_one_point_is_refused() -> None:
    rng = np.random.default_rng(0)
    speck = rng.uniform(0, WELD_DISTANCE / 2, (6000, 3))
    vertices = np.concatenate([[[-0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], speck])
    with pytest.raises(InputRefused, match="one point beside what is far away") as refused:
        patches(Mesh(vertices, np.array([[0, 1, 2]])))
    assert refused.value.reason is Reason.ZERO_AREA
