"""What a model predicts on the grid of the normalised cube, and the surfaces of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from shapestore.evaluate.codes import predicted_codes
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame

QUERIES: Final = 2048
"""Positions that a model decodes at once."""

Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(q, 3) normalised positions to (q, 1 + C): the signed distance, negative inside, and the logits of classes 1 to C."""


@dataclass(frozen=True, eq=False)
class DenseField:
    """A prediction at the centres of the cells of [-1, 1]^3; cell i has its centre at -1 + (i + 0.5) * 2 / size."""

    sdf: NDArray[np.float32]
    """(size, size, size) signed distance of all classes together, normalised units, negative inside; by (x, y, z)."""
    logits: NDArray[np.float32]
    """(size, size, size, C) logits of the classes; in half precision many would tie, and ties tear surfaces open."""

    @property
    def codes(self) -> NDArray[np.int8]:
        """(size, size, size) class of each cell, as `predicted_codes`."""
        return predicted_codes(self.sdf, self.logits)

    def union_surface(self, frame: Frame) -> Mesh | None:
        """The zero level of the distance, in raw units; None where nothing is inside."""
        return _surface(self.sdf, frame)

    def class_surface(self, code: int, frame: Frame) -> Mesh | None:
        """The surface of one class, in raw units; None where no cell is of it.

        It bounds where the distance is negative and no other class has a larger logit.
        """
        own = self.logits[..., code - 1]
        others = np.delete(self.logits, code - 1, axis=-1)
        if not others.shape[-1]:
            return _surface(self.sdf, frame)
        # Both terms cross zero where they should; where they meet, which one is larger decides.
        return _surface(np.maximum(self.sdf, others.max(axis=-1) - own), frame)


def predict(decode: Decode, size: int, classes: int) -> DenseField:
    """Decode all cells, some at a time.

    Parameters
    ----------
    decode
        The model's decoder for one shape.
    size
        Cells along each axis.
    classes
        Number of classes C.
    """
    centres = (-1 + (np.arange(size) + 0.5) * (2 / size)).astype(np.float32)
    sdf = np.empty(size**3, np.float32)
    logits = np.empty((size**3, classes), np.float32)
    for start in range(0, size**3, QUERIES):
        stop = min(start + QUERIES, size**3)
        cells = np.unravel_index(np.arange(start, stop), (size, size, size))
        values = decode(np.stack([centres[axis] for axis in cells], axis=-1))
        sdf[start:stop], logits[start:stop] = values[:, 0], values[:, 1:]
    cube = (size, size, size)
    return DenseField(sdf.reshape(cube), logits.reshape(*cube, classes))


def _surface(field: NDArray[Any], frame: Frame) -> Mesh | None:
    """Marching cubes (Lewiner et al., 2003) of the zero level, closed at the borders of the cube, outward."""
    if not (field < 0).any():
        return None
    # A cell of outside all around closes what touches the border.
    padded = np.pad(field.astype(np.float32), 1, constant_values=float(max(field.max(), 2 / field.shape[0])))
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")
    centres = (vertices - 1 + 0.5) * (2 / field.shape[0]) - 1
    return Mesh(frame.invert(centres), faces.astype(np.int64))
