"""What the documents say is so: they run, commands and options exist, links lead somewhere, the site builds."""

from __future__ import annotations

import ast
import doctest
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from markdown_it import MarkdownIt
from typer.main import get_command

import featpipe
from featpipe.cli.commands import app
from featpipe.spec.load import parse_pipeline
from featpipe.spec.source import Node, read_yaml
from tests.documents import RUN, holds, run_document

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
RUNNING = [path for path in PAGES if RUN in path.read_text(encoding="utf-8")]
OTHERS = {"--only", "--repeats", "--simulate", "--no-lint", "--python", "--venv"}
"""Options of make.py and of the benchmarks."""


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# -- documents that run ----------------------------------------------------------------------------------------------


def test_the_documents_that_are_meant_to_run_do() -> None:
    assert {path.stem for path in RUNNING} >= {
        "store-format", "tutorial", "photo-collection", "pixel-classification", "satellite-tiles", "cluster",
    }  # fmt: skip


def _slow(path: Path) -> object:
    """Return a page as a parameter of a test; how-tos take long, and are left to CI."""
    return pytest.param(path, marks=pytest.mark.slow) if path.parent.name == "howto" else path


@pytest.mark.skipif(os.name == "nt", reason="the documents' commands are for a POSIX shell")
@pytest.mark.parametrize("document", [_slow(path) for path in RUNNING], ids=named)
def test_a_document_shows_what_its_commands_print(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    home = tmp_path / "home"
    home.mkdir()
    for step, got in run_document(document.read_text(encoding="utf-8"), home):
        place = f"{named(document)}:{step.lines[0]}: {step.source.strip()}"
        assert holds(step.want, got), f"{place}\n{got}\npython docs/make_outputs.py {named(document)} writes it anew"


def test_times_memory_and_versions_do_not_count_in_what_a_document_shows() -> None:
    shown = "Done  /home/you/a.zarr\n  0.0741 s · 4.05 k images/s\n  12 images done"
    assert holds(shown, "Done /home/you/a.zarr\n  1.2 s · 30 images/s\n  12 images done\n")
    assert not holds(shown, "Done /home/you/a.zarr\n  1.2 s · 30 images/s\n  13 images done\n")
    assert holds("...\nmap  shape", "anything\nmap shape\n")
    assert not holds("texture  24 KiB", "texture  25 KiB")


def test_a_command_of_a_document_that_fails_unannounced_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="failed with 3"):
        list(run_document("```console\n$ exit 3\n```\n", tmp_path))
    announced = "```console\n$ exit 3\n$ echo $?\n3\n```\n"
    assert [got for _, got in run_document(announced, tmp_path)] == ["", "3\n"]


def test_the_examples_on_windows_are_right() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "windows.md"), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0


def test_the_drawings_are_those_that_geometry_makes() -> None:
    drawn = runpy.run_path(str(DOCS / "make_drawings.py"))["drawings"]()
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "images").glob("geometry-*.svg")}
    assert there == drawn, "python docs/make_drawings.py draws them anew"
    shown = set(re.findall(r"images/(geometry-\w+\.svg)", read("docs/windows.md")))
    assert shown == set(drawn)


# -- the README ------------------------------------------------------------------------------------------------------


def test_the_readme_shows_the_quickstart_pipeline() -> None:
    shown, learned = blocks(read("README.md"), "yaml")
    bank = yaml.safe_load(read("pipelines/coates-ng.yaml"))["features"]
    del bank["patches"]["layers"][0]["convolve"]["bank"]["seed"]
    assert yaml.safe_load(learned) == {"features": bank}
    assert yaml.safe_load(shown) == yaml.safe_load(read("pipelines/quickstart.yaml"))
    assert blocks(read("docs/index.md"), "yaml") == [shown]
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


# -- commands and options --------------------------------------------------------------------------------------------


@cache
def options() -> dict[str, set[str]]:
    """Return the options of every command, ``banks show``'s under ``show``."""
    found: dict[str, set[str]] = {}

    def visit(name: str, command: Any) -> None:
        found[name] = {opt for one in command.params for opt in (*one.opts, *one.secondary_opts) if opt[0] == "-"}
        found[name] |= {"--help", "-h"}
        for inner, one in getattr(command, "commands", {}).items():
            visit(inner, one)

    visit("", get_command(app))
    return found


def code_in(text: str) -> Iterator[str]:
    """Yield every inline code of a document, and the lines of its blocks."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("fence", "code_block"):
            yield from token.content.replace("\\\n", " ").splitlines()
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content


def unknown_in(code: str) -> list[str]:
    """Return the commands and options that a piece of code names and featpipe has not."""
    known = options()
    if (called := re.match(r"(?:\$ |.*&& )?(?:python -m )?featpipe ([a-z]+|--?[a-z-]+)(?![\w-])(.*)", code)) is None:
        given = set(re.findall(r"(?<!\S)--[a-z][a-z-]+", code)) if code.startswith("--") else set()
        return sorted(given - {one for some in known.values() for one in some} - OTHERS)
    command, rest = called[1], called[2].partition("#")[0].partition("|")[0]
    if command.startswith("-"):
        return sorted({command} - known[""])
    words = rest.split()
    inner = words[0] if command == "banks" and words and words[0] in known else ""
    allowed = known.get(command, set()) | (known[inner] if inner else set())
    return ([] if command in known else [command]) + sorted(set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) - allowed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_and_option_that_a_document_names_exists(document: Path) -> None:
    wrong = [(code, bad) for code in code_in(document.read_text(encoding="utf-8")) if (bad := unknown_in(code))]
    assert not wrong


def test_unknown_commands_and_options_are_noticed() -> None:
    assert unknown_in("$ featpipe rum x.yaml") == ["rum"]
    assert unknown_in("featpipe run x.yaml --worker 8  # --or") == ["--worker"]
    assert unknown_in("--max-failure 1%") == ["--max-failure"]
    assert not unknown_in("$ featpipe banks show gabor --png gabor.png | cat --number")


# -- links -----------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    found = set()
    for one, inside in pairwise(MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))):
        if one.type == "heading_open":
            words = "".join(child.content for child in inside.children or ())
            found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    lost = []
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", document.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


# -- the site --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page points to, and what in it can be pointed to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {key: value or "" for key, value in attrs}
        self.ids |= {facts[key] for key in ("id", "name") if key in facts}
        if tag == "a" and "href" in facts:
            self.links.add(facts["href"])
        self.loaded |= {facts[key] for key in ("src", "href") if key in facts and tag in ("img", "script", "link")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="needs the extra docs")
    out = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-d", out / "doctrees", DOCS, out / "html"],
        capture_output=True, encoding="utf-8", env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_the_site_builds_and_its_links_lead_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert {site / f"{path.relative_to(DOCS).with_suffix('')}.html" for path in PAGES} <= set(pages)
    lost = []
    for path, page in pages.items():
        for link in page.links | page.loaded:
            if re.match(r"\w+:", link):
                continue
            name, _, anchor = unquote(link.partition("?")[0] if "#" not in link else link).partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                lost.append((path.relative_to(site).as_posix(), link))
    assert not lost


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not [link for link in Page(path).loaded if re.match(r"(https?:)?//", link)], path
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path


def test_the_reference_lists_all_public_names() -> None:
    text = read("docs/reference/python.md")
    assert [name for name in featpipe.__all__ if f"featpipe.{name}" not in text] == []


def test_old_pythons_can_read_make() -> None:
    ast.parse(read("make.py"), feature_version=(3, 6))
