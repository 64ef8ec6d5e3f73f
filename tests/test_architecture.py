"""The shape of the code itself: layers, sizes, words."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "featpipe"
MODULES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def public_definitions(tree: ast.Module) -> Iterator[Function | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node


def test_every_layer_imports_only_what_stands_below_it() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_layer() -> None:
    contract = pyproject()["tool"]["importlinter"]["contracts"][0]
    layered = {module.strip() for layer in contract["layers"] for module in layer.split("|")}
    present = {
        f"featpipe.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("_")
    }
    assert layered == present


def own_lines(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield every function's lines but for its docstring and the functions inside it."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = [child for child in node.body if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))]
            words = (ast.get_docstring(node) or "").splitlines()
            yield node.name, length(node) - sum(map(length, inner)) - len(words)


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_short_documented_and_finished(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) < 400
    assert ast.get_docstring(tree)
    assert not [word for word in ("TODO", "FIXME", "raise NotImplementedError") if word in text]
    assert not [node.name for node in public_definitions(tree) if not ast.get_docstring(node)]
    assert not {name: lines for name, lines in own_lines(tree) if lines >= 60}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_inside_imports_from_the_package_root(path: Path) -> None:
    modules = {p.stem for p in PACKAGE.iterdir()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert "featpipe" not in [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module == "featpipe":
            assert {alias.name for alias in node.names} <= modules
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative import"


def test_the_public_names_are_there_and_documented() -> None:
    featpipe = importlib.import_module("featpipe")
    assert len(set(featpipe.__all__)) == len(featpipe.__all__)
    for name in featpipe.__all__:
        assert getattr(featpipe, name).__doc__ if name != "__version__" else featpipe.__version__
    assert {"extract", "open", "__version__"} <= set(featpipe.__all__)
    assert set(featpipe.__all__) <= set(dir(featpipe))
