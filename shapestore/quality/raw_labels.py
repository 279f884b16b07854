"""The raw label map of a row: the truth that samples and predictions are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.fingerprint import fingerprint, source_sha256
from shapestore.preprocess.geometry.label_grid import label_grid
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.raw import RawLabelMap
from shapestore.preprocess.source import SourceItem, load_source, raw_path
from shapestore.store.reader import Store


def raw_label_map(store: Store, row: int, raw: Path) -> RawLabelMap:
    """Read the label map that a row was made from.

    Parameters
    ----------
    store, row
        A row that was made from a label map.
    raw
        Folder of the raw files.

    Raises
    ------
    InputRefused
        The raw file is not there, cannot be read, or is not the one that the row was made from.
    """
    source, shape_id = str(store.index("source")[row]), str(store.index("shape_id")[row])
    item = SourceItem(shape_id, source, str(store.index("group")[row]))
    path = raw_path(raw, item)
    if source_sha256(path, fingerprint(path)) != store.index("source_sha256")[row]:
        raise InputRefused(Reason.MALFORMED, f"{source} is not the file that was ingested")
    found = load_source(store.root.source_kind).read(raw, item, store.root.recipe)
    if not isinstance(found, RawLabelMap):
        raise InputRefused(Reason.UNSUPPORTED, f"{source} is no label map")
    return found


def frame_of(store: Store, row: int) -> Frame:
    """The row's own shift and scale: raw to normalised coordinates."""
    return Frame(store.index("shift")[row], float(store.index("scale")[row]))


def over_cube(labels: RawLabelMap, frame: Frame, size: int) -> NDArray[np.int8]:
    """Class of the raw voxel that holds the centre of each cell of [-1, 1]^3, as `label_grid` gives it."""
    return label_grid(label_volume(labels.codes, labels.affine), frame, size)
