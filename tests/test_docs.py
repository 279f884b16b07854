"""Every example in README and docs/ runs: Python blocks as one program a file, console blocks command by command."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from demo.raw import write_hearts, write_scanobjectnn, write_shapenet
from tests.integration.conftest import environment
from tests.warm import LIBRARIES, Warm

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ONE_CORE = sorted(os.sched_getaffinity(0))[:1]
"""With it, a command that is not told otherwise starts a single worker."""


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text()) if found == language]


def commands(page: Path) -> list[str]:
    return [line for code in blocks(page, "console") for line in code.splitlines()]


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """A process that has loaded what examples load."""
    torch = ("torch", "xarray") if find_spec("torch") else ()
    with Warm((*LIBRARIES, *torch)) as process:
        yield process


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Path:
    """A folder as the reader of the README has it: raw data, and the stores of its commands."""
    folder = tmp_path_factory.mktemp("docs")
    raw = write_shapenet(folder, models_per_class=2)
    assert raw == folder / "ShapeNetCore.v2"
    assert write_scanobjectnn(folder, objects=4) == folder / "h5_files"
    write_hearts(folder / "hearts", cases=2, size=48)
    for command in commands(ROOT / "README.md"):
        execute(command, folder, warm)
    return folder


def execute(line: str, folder: Path, warm: Warm) -> None:
    prompt, name, *arguments = shlex.split(line)
    assert (prompt, name) == ("$", "shapestore"), line
    done = warm.run(*arguments, environment=environment(), cwd=folder, cores=ONE_CORE)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, workplace: Path, warm: Warm) -> None:
    made_the_workplace = commands(ROOT / "README.md")
    for line in commands(page):
        if line not in made_the_workplace:
            execute(line, workplace, warm)
    program = "\n".join(blocks(page, "python"))
    pytest.importorskip("torch", reason="examples read with torch, which this environment lacks")
    script = workplace / f"{page.stem}.py"
    script.write_text(program)
    done = warm.run(environment=environment(), script=script.name, cwd=workplace)
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
