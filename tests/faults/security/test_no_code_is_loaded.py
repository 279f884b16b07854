"""Nothing that comes in is ever run: no pickle, no `eval`, no YAML but safe one, no shell, wherever one looks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import shapestore
from shapestore.schemas import settings_file

PACKAGE = Path(shapestore.__file__).parent

MODULES = frozenset(
    {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "codeop", "runpy"}
)
"""Modules that turn bytes into objects or code. Dask pickles tasks between our own processes: that is not here."""

CALLS = frozenset({"eval", "exec", "compile", "__import__", "system", "popen"})
"""Functions that run text, by whatever name the module has."""

LOADERS = frozenset({"load", "load_all", "unsafe_load", "full_load"})

SAFE_LOADER = "_PlainLoader"
"""The one loader of YAML, in schemas/settings_file.py."""


def suspicious(source: str) -> Iterator[str]:
    """Every place that could run what comes in, with its line."""
    for node in ast.walk(ast.parse(source)):
        yield from (f"{node.lineno}: {what}" for what in _suspicious(node))  # type: ignore[attr-defined]


def _suspicious(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {each.name}" for each in node.names if each.name.partition(".")[0] in MODULES)
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
        yield f"from {node.module}"
    if isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    owner, _, method = name.rpartition(".")
    given = {each.arg: ast.unparse(each.value) for each in node.keywords}
    if method in CALLS and owner in ("", "os", "builtins"):
        yield name
    if method == "read_pickle" or (method == "import_module" and owner == "importlib"):
        yield name
    if owner == "yaml" and method in LOADERS:
        loader = ast.unparse(node.args[1]) if len(node.args) > 1 else given.get("Loader", "")
        if loader not in (SAFE_LOADER, "yaml.SafeLoader"):
            yield f"{name} with {loader or 'no loader'}"
    if owner == "torch" and method == "load" and given.get("weights_only") != "True":
        yield f"{name} of more than weights"
    if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
        yield f"{name} with pickle or a shell"
    if owner in ("np", "numpy") and method == "load" and "allow_pickle" not in given:
        yield f"{name} that does not say allow_pickle=False"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_runs_nothing_that_comes_in(file: Path) -> None:
    assert list(suspicious(file.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy.lib, joblib",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "builtins.exec(text)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "numpy.load(file, None, allow_pickle=wanted)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "yaml.unsafe_load(text)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "pandas.read_pickle(file)",
        "subprocess.run(text, shell=True)",
        "importlib.import_module(text)",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert len(list(suspicious(line))) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "np.load(file, allow_pickle=False)",
        "torch.load(file, weights_only=True)",
        "yaml.load(text, yaml.SafeLoader)",
        "yaml.safe_load(text)",
        "re.compile(text)",
        "subprocess.run(words)",
    ],
)
def test_the_search_passes_over(line: str) -> None:
    assert list(suspicious(line)) == []


def test_the_loader_of_recipes_is_a_safe_one() -> None:
    loader = getattr(settings_file, SAFE_LOADER)
    assert issubclass(loader, yaml.SafeLoader)
    assert not issubclass(loader, yaml.UnsafeLoader | yaml.FullLoader)
    own = {tag for tag in loader.yaml_constructors if tag not in yaml.SafeLoader.yaml_constructors}
    assert own == set()
