"""Nearest points between two surfaces: this package, and scipy's tree as it is by default.

    python -m benchmarks.metrics [--points N] [--repeats N]

Distances of both are compared before anything is timed. A figure is the median CPU time of the repetitions, for which
both take turns. README.md says what the surfaces are like.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree

from benchmarks.common import SEED, WrongValues, machine, print_facts, take_turns, wide_console
from shapestore.evaluate.metrics.nearest import nearest_pairs

OURS, SCIPY = "shapestore", "scipy's defaults"

Points = NDArray[np.float64]


def by_default(prediction: Points, truth: Points) -> tuple[Points, Points]:
    """Distances of either to the other, of trees with the settings that scipy has by default."""
    return cKDTree(truth).query(prediction)[0], cKDTree(prediction).query(truth)[0]


def surfaces(count: int) -> dict[str, tuple[Points, Points]]:
    """Predictions from very good to useless, each with its truth: a heart's size, in millimetres."""
    rng = np.random.default_rng(SEED)

    def sphere(radius: float) -> Points:
        directions = rng.normal(size=(count, 3))
        return radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)

    truth = sphere(50) * np.array([1, 0.9, 1.2])
    return {
        "a good prediction": (truth[rng.permutation(count)] + rng.normal(scale=0.3, size=(count, 3)), truth),
        "too small": (sphere(30) * np.array([1, 0.8, 0.6]), truth),
        "beside it": (sphere(10) + np.array([200, 0, 0]), truth),
        "a ball in a hollow ball": (sphere(25), sphere(50)),
    }


def measure(cases: Mapping[str, tuple[Points, Points]], repeats: int, console: Console) -> Table:
    """A line a case, once the distances agree."""
    table = Table("prediction", OURS, SCIPY, "times as fast")
    for name, (prediction, truth) in cases.items():
        console.print(f"[dim]{name} ...[/dim]")
        found = nearest_pairs(prediction, truth)
        expected = by_default(prediction, truth)
        if not all(map(np.array_equal, (found.to_truth, found.to_prediction), expected)):
            raise WrongValues(f"{name}: other distances than {SCIPY} has")
        calls = {
            OURS: lambda prediction=prediction, truth=truth: nearest_pairs(prediction, truth),
            SCIPY: lambda prediction=prediction, truth=truth: by_default(prediction, truth),
        }
        timings = take_turns(calls, repeats, 0)
        ours, scipy = (timings[label].median for label in (OURS, SCIPY))
        table.add_row(name, f"{ours:.2f} s", f"{scipy:.2f} s", f"{scipy / ours:.1f}")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--points", type=int, default=100_000, help="of each surface, as the evaluation draws them")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    console = wide_console()
    print_facts(machine(("shapestore", "scipy", "numpy"), "one"), console)
    console.print(measure(surfaces(asked.points), asked.repeats, console))


if __name__ == "__main__":
    main()
