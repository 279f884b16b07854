from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapestore.preprocess.geometry.mesh import distinct_positions, double_areas

COORDINATES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, 1.0 + 2.0**-52, 1e300])


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(0, 60), st.just(3)), elements=COORDINATES))
def test_distinct_positions_are_those_of_a_dictionary(positions: np.ndarray) -> None:
    first, label = distinct_positions(positions)
    seen: dict[tuple[float, ...], int] = {}
    expected = [seen.setdefault(tuple(row), len(seen)) for row in positions.tolist()]  # -0.0 equals 0.0 there too
    np.testing.assert_array_equal(label, expected)
    assert len(first) == len(seen)
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(positions[first][label], positions)


def test_many_rows_in_few_slots() -> None:
    rng = np.random.default_rng(0)
    positions = rng.integers(-8, 9, (20_000, 3)) / 8.0
    first, label = distinct_positions(positions)
    unique, inverse = np.unique(positions, axis=0, return_inverse=True)
    assert len(first) == len(unique)
    np.testing.assert_array_equal(positions[first][label], unique[inverse.reshape(-1)])


def test_areas_are_those_of_the_cross_product() -> None:
    rng = np.random.default_rng(1)
    vertices, faces = rng.normal(size=(50, 3)), rng.integers(0, 50, (200, 3))
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    np.testing.assert_array_equal(double_areas(vertices, faces), np.linalg.norm(np.cross(b - a, c - a), axis=1))
