"""Every example in README and docs/ runs: Python blocks as one program a file, console blocks command by command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from demo.raw import write_hearts, write_scanobjectnn, write_shapenet

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text()) if found == language]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the reader of the README has it: raw data, and the stores of its commands."""
    folder = tmp_path_factory.mktemp("docs")
    raw = write_shapenet(folder, models_per_class=3)
    assert raw == folder / "ShapeNetCore.v2"
    assert write_scanobjectnn(folder, objects=8) == folder / "h5_files"
    write_hearts(folder / "hearts", cases=2, size=48)
    for command in [line for code in blocks(ROOT / "README.md", "console") for line in code.splitlines()]:
        execute(command, folder)
    return folder


def execute(line: str, folder: Path) -> None:
    prompt, name, *arguments = shlex.split(line)
    assert (prompt, name) == ("$", "shapestore"), line
    command = [sys.executable, "-m", "shapestore", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, workplace: Path) -> None:
    for line in [line for code in blocks(page, "console") for line in code.splitlines()]:
        if page.name != "README.md":  # its commands made the workplace
            execute(line, workplace)
    program = "\n".join(blocks(page, "python"))
    pytest.importorskip("torch", reason="examples read with torch, which this environment lacks")
    script = workplace / f"{page.stem}.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, script.name], cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_is_documented() -> None:
    from shapestore.cli.main import app

    commands = {command.name for command in app.registered_commands}
    documented = set(re.findall(r"shapestore (\w+)", "\n".join(page.read_text() for page in PAGES)))
    assert commands <= documented, commands - documented


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
