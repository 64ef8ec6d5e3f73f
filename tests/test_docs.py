"""What the documents say is so: examples run, commands exist, links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from featpipe.spec.load import parse_pipeline
from featpipe.spec.source import Node, read_yaml

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    here = [link for link in links if not link.startswith(("http://", "https://"))]
    assert not [link for link in here if not (document.parent / link).exists()]


def test_the_examples_on_windows_are_right() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "windows.md"), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0


def test_the_readme_shows_the_quickstart_pipeline() -> None:
    shown, learned = blocks(read("README.md"), "yaml")
    bank = yaml.safe_load(read("pipelines/coates-ng.yaml"))["features"]
    del bank["patches"]["layers"][0]["convolve"]["bank"]["seed"]
    assert yaml.safe_load(learned) == {"features": bank}
    assert yaml.safe_load(shown) == yaml.safe_load(read("pipelines/quickstart.yaml"))
    root, problems = read_yaml(shown, "README.md")
    assert isinstance(root, Node)
    assert not problems
    assert parse_pipeline(root.data()).features


def test_the_readme_shows_what_plan_prints() -> None:
    printed = runpy.run_path(str(ROOT / "docs" / "make_readme.py"))["plan_text"]()
    (shown,) = blocks(read("README.md"), "text")
    assert shape_of(shown) == shape_of(printed), "python docs/make_readme.py writes it anew"


def shape_of(text: str) -> list[str]:
    """Return the lines of a plan, less the numbers of what depends on the machine: time and memory."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    run = next(i for i, line in enumerate(lines) if line.startswith("Run"))
    machine = [re.sub(r"[0-9.]+ ?\w*|threads?", "·", line) for line in lines[run:]]
    return lines[:run] + [" ".join(line.split()) for line in machine]


def test_every_command_that_the_documents_name_exists() -> None:
    command = [sys.executable, "-m", "featpipe", "--help"]
    overview = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    known = set(re.findall(r"^[│\s]*([a-z]+)\s", overview, re.MULTILINE))
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    named = set(re.findall(r"[`$] ?featpipe ([a-z]+)\b", text))
    assert {"run", "plan", "init", "info", "banks"} <= named
    assert named <= known


def test_old_pythons_can_read_make() -> None:
    ast.parse(read("make.py"), feature_version=(3, 6))
