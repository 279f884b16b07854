"""A worker's memory is one record and a constant, not a shard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.raw import write_hearts

LIMIT = 500e6 + 3 * 256**3 * 4
"""Bytes: a constant, and three times the label map in float32."""

PROGRAM = """
import sys
from pathlib import Path
from shapestore.preprocess.compute import Job, compute_part, no_gate
from shapestore.preprocess.plan import rows_from
from shapestore.preprocess.source import load_source
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.recipe_schema import schema_of

raw, work = Path(sys.argv[1]), Path(sys.argv[2])
recipe = load_recipe("cardiac-sdf")
job = Job(work / "s.zarr", work, raw, "cardiac", recipe, schema_of(recipe), 64, no_gate)
part = compute_part(job, rows_from(0, load_source("cardiac").discover(raw, recipe).items))
assert part.sizes, part.entries[0].failure
# Not ru_maxrss, which begins with what the parent had when it made this process.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak) * 1024)
"""


@pytest.mark.slow
def test_a_heart_of_256_cubed_fits(tmp_path: Path) -> None:
    write_hearts(tmp_path / "raw", cases=2, size=256)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "raw"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= LIMIT, f"{int(done.stdout) / 1e6:.0f} MB"
