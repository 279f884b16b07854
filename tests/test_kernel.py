"""What is compiled is never older than any file that went into it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import shapestore.kernel


def test_a_kernel_is_compiled_anew_when_a_module_that_it_imports_changes(tmp_path: Path) -> None:
    package = tmp_path / "shapestore"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kernel.py").write_text(Path(shapestore.kernel.__file__).read_text())
    (package / "outer.py").write_text(
        "from shapestore.kernel import kernel\n"
        "from shapestore.inner import ONE, inner\n\n"
        "@kernel\ndef outer(x):\n    return inner(x) + ONE\n"
    )

    def answer(one: int, factor: int) -> str:
        (package / "inner.py").write_text(
            f"from shapestore.kernel import kernel\nONE = {one}\n\n@kernel\ndef inner(x):\n    return {factor} * x\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DEBUG_CACHE": "1"}
        command = [sys.executable, "-c", "from shapestore.outer import outer; print('answer', outer(10))"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
        return "compiled " * ("data saved to" in done.stdout) + done.stdout.splitlines()[-1]

    assert answer(1, 2) == "compiled answer 21"
    assert answer(1, 2) == "answer 21"
    assert answer(5, 2) == "compiled answer 25"
    assert answer(5, 3) == "compiled answer 35"
