"""The split of datasets that bring none of their own: from names alone, so that every machine makes the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Literal

SMALLEST_WITH_TEST: Final = 10
"""Categories of at least this many models get a test model even where their share rounds to none."""


def hash_split(
    category: str, models: Iterable[str], test_share: float, seed: int
) -> Mapping[str, Literal["train", "test"]]:
    """Divide the models of one category into train and test, as NEPA-3D divides ShapeNet.

    Models are ordered by the number that the first 8 hexadecimal digits of md5 of `<category>/<model>:<seed>` are, ties
    by name. The first round(test_share * n) of them are `test`, halves being rounded to even.

    Parameters
    ----------
    category
        Name of the category, such as `03001627`.
    models
        Names of its n models, each once.
    test_share
        Share of test models, 0 to 1. Unless it is 0, at least one of 10 or more models is `test`.
    seed
        Seed of the split.

    Returns
    -------
    Mapping
        Model to its split, models sorted.
    """
    names = sorted(models)
    count = round(test_share * len(names))
    if test_share > 0 and len(names) >= SMALLEST_WITH_TEST:
        count = max(count, 1)
    test = set(sorted(names, key=lambda model: _number(f"{category}/{model}:{seed}"))[:count])
    return {model: "test" if model in test else "train" for model in names}


def _number(text: str) -> int:
    # Of md5, an even spread is all that is wanted here. File names that are not UTF-8 keep their bytes.
    hashed = hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False)
    return int(hashed.hexdigest()[:8], 16)
