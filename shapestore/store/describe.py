"""What is in a store, as plain values: for `info`, and for programs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from shapestore.store.reader import Store


def describe(store: Store) -> dict[str, Any]:
    """Counts, sizes, arrays, recipe, history and commit of a store."""
    root = store.root
    valid = store.index("valid")
    sizes = store.index(root.integrity_columns[0].path).sum(axis=0)
    bytes_of = dict(zip(root.integrity_columns[0].attributes["arrays"], sizes.tolist(), strict=True))
    return {
        "path": str(store.path),
        "format": root.format,
        "rows": root.rows,
        "valid": root.valid,
        "quarantined": root.quarantined,
        "codes": {name: _counts(store.index(name)[valid], names) for name, names in root.codes.items()},
        "rows_per_shard": root.rows_per_shard,
        "bytes": sum(bytes_of.values()),
        "source_kind": root.source_kind,
        "recipe": root.recipe.model_dump(mode="json"),
        "recipe_digest": root.recipe_digest,
        "commit": root.sha256,
        "commits": int(store.index("provenance/commit")[0]),
        "runs": json.loads(store.index("provenance/runs")[0]),
        "validation": json.loads(store.index("provenance/validation")[0]),
        "arrays": [
            {
                "name": spec.name,
                "dtype": spec.dtype,
                "shape": list(spec.shape),
                "kind": spec.kind,
                "role": spec.role,
                "bytes": bytes_of.get(spec.name, 0),
                "text": spec.long_name,
            }
            for spec in root.content.arrays
        ],
    }


def _counts(codes: np.ndarray[Any, Any], names: tuple[str, ...]) -> dict[str, int]:
    """Valid rows of each name; those without one last."""
    counted = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(names)}
    without = int(np.count_nonzero(codes < 0))
    return counted | ({"(none)": without} if without else {})
